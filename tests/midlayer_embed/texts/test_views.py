"""Augmented views: the same whenever and wherever they are made, and as much changed as the rates promise."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midlayer_embed.texts import views, views_nlpaug
from midlayer_embed.texts.starter_corpus import read_corpus
from midlayer_embed.texts.views import RATES, augmented_views

pytest.importorskip("nlpaug", reason="the select extra is not installed")
# Before a test puts traps into them: nlpaug, and what it imports, draw random numbers while they are imported.
augmented_views(["loaded"])

FOX = "The quick brown fox jumps over the lazy dog."
# Any text at all, lone surrogates and control characters among it, and more of what nlpaug treats in its own ways.
ANY_TEXT = st.one_of(
    st.text(st.characters(), max_size=60),
    st.text("ab \n\t.,!?'()[]{}<>-_$0", max_size=60),
    st.lists(st.sampled_from(["word", "words", "Wörter", "слова", "言葉言葉言葉", "don't", "3.14", "...", "  "])).map(
        "".join
    ),
)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are made, not remembered."""
    monkeypatch.setattr(views, "_cache", views._ViewCache(max_bytes=0))


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """Real sentences."""
    return [item.text for item in read_corpus()]


@pytest.fixture(scope="module")
def long_texts(corpus: list[str]) -> list[str]:
    """Texts of about 200 words, without punctuation, each below the size that goes through in pieces."""
    plain = [re.sub(r"[^\w\s]", "", text) for text in corpus]
    texts = [" ".join(plain[start : start + 20]) for start in range(0, 600, 20)]
    return [text for text in texts if len(text) < views_nlpaug.PIECE_CHARACTERS]


def test_views_of_the_pinned_nlpaug() -> None:
    first, second = augmented_views([FOX, "3.14"])
    assert first == ["The qui ck br own fox au09s l7,r the la zy dog.", "3. 14"]
    assert second == ["The q uohV 5r # wn fox j KtoD gde2 the la zy dog.", "3. 14"]


def test_a_view_depends_on_neither_other_texts_nor_their_order_nor_the_number_of_views(
    no_memory: None, corpus: list[str]
) -> None:
    texts = corpus[:20]
    made = augmented_views(texts, 4)
    shuffled = augmented_views([*texts[::-1], "one more text"], 7)
    assert [view[:20][::-1] for view in shuffled[:4]] == made
    assert [augmented_views([text], 3)[2][0] for text in texts] == made[2]
    assert augmented_views([FOX, FOX])[0] == augmented_views([FOX])[0] * 2


def test_every_view_and_every_seed_is_another_one(corpus: list[str]) -> None:
    texts = corpus[:5]
    made = augmented_views(texts, 16) + augmented_views(texts, 16, seed=1)
    for text, *of_text in zip(texts, *made, strict=True):
        assert len({text, *of_text}) == 33


@pytest.mark.process
@pytest.mark.usefixtures("no_memory")
def test_workers_change_nothing(corpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Parallel(joblib.Parallel):  # type: ignore[misc]
        def __init__(self, n_jobs: int, **options: object) -> None:
            started.append(n_jobs)
            super().__init__(n_jobs, **options)

    monkeypatch.setattr(joblib, "Parallel", Parallel)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(views, "_CHUNK_CHARACTERS", 300)
    texts = [*corpus[:30], "", "日本語のテキスト"]
    alone = augmented_views(texts, 2, workers=1)
    assert augmented_views(texts, 2) == alone
    assert started == []  # too little to do
    assert augmented_views(texts, 2, workers=2) == alone
    monkeypatch.setattr(views, "_WORTH_WORKERS", 2000)
    assert augmented_views(texts, 2) == alone
    assert started == [2, 2]


@pytest.mark.process
def test_a_worker_is_light_leaves_no_trace_and_makes_the_same_under_another_hash_seed(corpus: list[str]) -> None:
    code = (
        "import json, sys; from midlayer_embed.texts import views\n"
        "lazy = not {'nlpaug', 'torch', 'joblib'} & set(sys.modules)\n"
        "keys = [(text, view, 5, 'paper') for text in json.load(sys.stdin) for view in range(3)]\n"
        "made = views._build_chunk(keys, parent=0)\n"
        "gone = not [name for name in sys.modules if name.partition('.')[0] in ('nlpaug', 'torch', 'transformers')]\n"
        "print(json.dumps([lazy, gone, made]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(corpus[:20]),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lazy, gone, made = json.loads(ran.stdout)
    assert (lazy, gone) == (True, True)
    expected = augmented_views(corpus[:20], 3, seed=5)
    assert made == [view for of_text in zip(*expected, strict=True) for view in of_text]


@pytest.mark.usefixtures("no_memory")
def test_global_random_states_are_neither_used_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = augmented_views([FOX], 4)
    random.seed(7), np.random.seed(7)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    assert augmented_views([FOX], 4) == made
    assert random.getstate() == before[0]
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), before[1], strict=True))  # noqa: NPY002

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a draw from a global random state")

    for module, names in ((random, ("random", "sample", "choice", "randint")), (np.random, ("random", "randint"))):
        for name in names:
            monkeypatch.setattr(module, name, fail)
    assert augmented_views([FOX], 4) == made


def test_only_what_is_new_is_made(monkeypatch: pytest.MonkeyPatch, corpus: list[str]) -> None:
    monkeypatch.setattr(views, "_cache", views._ViewCache(max_bytes=2**20))
    asked: list[tuple[str, int]] = []
    original = views_nlpaug.Augmenter.view

    def view(self: views_nlpaug.Augmenter, text: str, number: int, seed: int) -> str:
        asked.append((text, number))
        return original(self, text, number, seed)

    monkeypatch.setattr(views_nlpaug.Augmenter, "view", view)
    a, b, c = corpus[:3]
    two = augmented_views([a, b], 2)
    assert sorted(asked) == sorted([(a, 0), (a, 1), (b, 0), (b, 1)])
    asked.clear()
    assert augmented_views([a, b], 2) == two
    assert asked == []
    three = augmented_views([b, c, c], 3)
    assert sorted(asked) == sorted([(b, 2), (c, 0), (c, 1), (c, 2)])
    assert [view[0] for view in three[:2]] == [view[1] for view in two]
    asked.clear()
    augmented_views([a], 1, seed=1), augmented_views([a], 1, rates="library")
    assert len(asked) == 2


def test_memory_is_bounded_and_forgets_what_was_not_asked_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{FOX} {number}" for number in range(50)]
    memory = views._ViewCache(max_bytes=5000)
    monkeypatch.setattr(views, "_cache", memory)
    made = augmented_views(texts, 2)
    assert 3000 < memory.bytes <= 5000
    assert memory.get((texts[0], 0, 0, "paper")) is None
    assert memory.get((texts[-1], 1, 0, "paper")) == made[1][-1]
    oldest, *_, newest = memory._views
    memory.get(oldest)  # asked for once more
    memory.put((texts[0], 0, 0, "paper"), made[0][0])
    assert memory.get(oldest) is not None
    memory.put(newest, "nothing changes")
    assert memory.get(newest) != "nothing changes"
    assert memory.bytes == sum(views._entry_bytes(key, view) for key, view in memory._views.items()) <= 5000
    assert augmented_views(texts, 2) == made


@given(ANY_TEXT, st.sampled_from(RATES))
@settings(deadline=None)
def test_a_view_is_a_text_of_as_many_characters(text: str, rates: str) -> None:
    for (view,) in augmented_views([text], 2, rates=rates, workers=1):
        assert isinstance(view, str)
        assert len(_solid(view)) == len(_solid(text))
        assert bool(view) == bool(text)


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("", ""),
        (" \n\t", " \n\t"),
        ("\u00a0\u3000", "\u00a0\u3000"),
        ("a", "a"),
        (" a ", "a"),
        ("...", "..."),
        ("?!", "?!"),
        ("a cat\n\nsat on\ta mat", "a cat sat on a mat"),
        ("(a, b) = 3.14", "( a, b) = 3. 14"),
    ],
)
def test_a_text_without_a_word_of_four_letters_keeps_its_characters(text: str, view: str) -> None:
    assert augmented_views([text], 2) == [[view], [view]]


def test_other_scripts_are_changed_too() -> None:
    for text in ("Съешь ещё этих мягких французских булок", "すべての人間は生まれながらにして自由である"):
        (view,) = augmented_views([text], 1)[0]
        assert 0.05 < _changed([(text, view)]) < 0.6


@pytest.mark.parametrize("rates", RATES)
def test_a_long_text_takes_time_in_proportion(rates: str, corpus: list[str]) -> None:
    text = " ".join(corpus[:500])
    (view,) = augmented_views([text], 1, rates=rates)[0]
    share = _changed([(text, view)])
    assert 0.25 < share < 0.4 if rates == "paper" else 0 < share < 0.01
    if rates == "paper":
        assert all(len(piece) <= views_nlpaug.PIECE_CHARACTERS for piece in views_nlpaug.split_pieces(text))
        assert " ".join(views_nlpaug.split_pieces(text)) == text


def test_a_word_longer_than_a_piece_is_cut() -> None:
    pieces = views_nlpaug.split_pieces("short " + "x" * 5000 + " end")
    assert "".join(pieces).replace(" ", "") == "short" + "x" * 5000 + "end"
    assert max(map(len, pieces)) == views_nlpaug.PIECE_CHARACTERS
    (view,) = augmented_views(["x" * 5000], 1)[0]
    assert 0.3 < _changed([("x" * 5000, view)]) < 0.6


def test_the_rates_on_short_texts_are_those_of_nlpaug_itself(corpus: list[str]) -> None:
    texts = corpus[:300]
    oracle = _plain_nlpaug(texts, {}, {})
    for rates in RATES:
        pairs = list(zip(texts, augmented_views(texts, 1, rates=rates)[0], strict=True))
        assert _changed(pairs) == pytest.approx(_changed(oracle), abs=0.012)
        assert _split(pairs) == pytest.approx(_split(oracle), abs=0.02)


def test_the_rates_on_long_texts_are_what_they_promise(long_texts: list[str]) -> None:
    uncapped = {"aug_word_max": None, "aug_char_max": None}
    for rates, oracle in (
        ("paper", _plain_nlpaug(long_texts, {"aug_max": None}, uncapped)),
        ("library", _plain_nlpaug(long_texts, {}, {})),
    ):
        pairs = list(zip(long_texts, augmented_views(long_texts, 1, rates=rates)[0], strict=True))
        assert _changed(pairs) == pytest.approx(_changed(oracle), abs=0.012)
        assert _split(pairs) == pytest.approx(_split(oracle), abs=0.02)
        if rates == "paper":  # 0.3 of the words, some of them no longer seen as split: a letter became a sign
            assert 0.26 < _split(pairs) <= 0.305
        else:
            for text, view in pairs:
                words = len(text.split())
                assert _split([(text, view)]) <= 10 / words
                assert _changed([(text, view)]) <= 2 * 10 * 10 / len(_solid(text))


def test_below_the_caps_both_rates_give_the_same_views() -> None:
    assert augmented_views([FOX], 8, rates="library") == augmented_views([FOX], 8)
    long = " ".join([FOX] * 10)
    assert augmented_views([long], 1, rates="library") != augmented_views([long], 1)


def test_no_texts() -> None:
    assert augmented_views([], 3) == [[], [], []]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "one text"}, "texts: expected a list of strings, got str"),
        ({"texts": ["a", ["b"]]}, r"texts\[1\]: expected a string, got list"),
        ({"n_views": 0}, "n_views: expected an int of at least 1, got 0"),
        ({"n_views": None}, "n_views: expected an int of at least 1, got None"),
        ({"n_views": True}, "n_views: expected an int of at least 1, got True"),
        ({"seed": -1}, "seed: expected an int of at least 0, got -1"),
        ({"seed": 0.5}, r"seed: expected an int of at least 0, got 0\.5"),
        ({"workers": 0}, "workers: expected an int of at least 1, got 0"),
        ({"rates": "papers"}, "rates: expected one of paper, library, got 'papers'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        augmented_views(**{"texts": ["a"], **arguments})  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_memory")
def test_a_missing_nlpaug_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nlpaug", None)
    with pytest.raises(ValueError, match=r"^augmented views need nlpaug; run: pip install 'midlayer-embed\[select\]'$"):
        augmented_views(["a"])


def test_a_missing_dependency_of_nlpaug_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "nlpaug"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(ValueError, match=r"gdown.*pip install 'midlayer-embed\[select\]'$"):
        views_nlpaug.load_classes.__wrapped__(False)


def test_a_bar_on_stderr_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_memory: None
) -> None:
    monkeypatch.setattr(views, "_CHUNK_CHARACTERS", 1)
    monkeypatch.setattr("midlayer_embed.ground.progress._LINE_EVERY", 0)
    augmented_views([FOX, "text"], show_progress=True)
    assert "4/4" in capsys.readouterr().err
    augmented_views([FOX, "text"])
    assert capsys.readouterr() == ("", "")


def _plain_nlpaug(texts: list[str], words: dict[str, None], characters: dict[str, None]) -> list[tuple[str, str]]:
    """The oracle of the rates: nlpaug as its manual says, one text after the other, seeded globally."""
    import nlpaug.augmenter.char as nac
    import nlpaug.augmenter.word as naw
    import nlpaug.flow as naf

    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(0), np.random.seed(0)  # noqa: NPY002
    flow = naf.Sequential([naw.SplitAug(**words), nac.RandomCharAug(**characters), nac.KeyboardAug(**characters)])
    pairs = [(text, flow.augment(text)[0]) for text in texts]
    random.setstate(states[0]), np.random.set_state(states[1])  # noqa: NPY002
    return pairs


def _solid(text: str) -> str:
    """The text without its spaces. Nothing in nlpaug's flow adds or removes another character."""
    return "".join(text.split())


def _changed(pairs: Iterable[tuple[str, str]]) -> float:
    """Share of characters, spaces aside, that a view has changed."""
    flags = [a != b for text, view in pairs for a, b in zip(_solid(text), _solid(view), strict=True)]
    return float(np.mean(flags))


def _split(pairs: Iterable[tuple[str, str]]) -> float:
    """Share of words with a space inside, between two letters or digits (nlpaug also sets signs apart)."""
    flags = []
    for text, view in pairs:
        gaps, position = set(), 0
        for before, character, after in zip(f" {view}", view, f"{view} "[1:], strict=False):
            if not character.isspace():
                position += 1
            elif before.isalnum() and after.isalnum():
                gaps.add(position)
        start = 0
        for word in text.split():
            flags.append(any(start < gap < start + len(word) for gap in gaps))
            start += len(word)
    return float(np.mean(flags))
