"""The corpus of docstring sentences: English, without leaks, with true links. The oracles do not share its regexes."""

import importlib
import string

import pytest

from midlayer_embed.texts import starter_corpus
from midlayer_embed.texts.starter_corpus import (
    LABEL_STEMS,
    comparable,
    corpus_revision,
    linked,
    read_corpus,
    see_also,
    sentence,
    summary,
    unrelated,
)


@pytest.fixture(scope="module")
def items():
    return read_corpus()


def public_object(path):
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
    raise LookupError(path)


def see_also_block(docstring):
    """Lines between the "See Also" heading and the next heading, read the plain way."""
    lines = [line.strip() for line in docstring.splitlines()]
    starts = [i + 2 for i, line in enumerate(lines) if line.lower() == "see also"]
    if not starts:
        return ""
    start = starts[0]
    ends = [i - 1 for i in range(start + 1, len(lines)) if lines[i] and set(lines[i]) <= set("-=")]
    return "\n".join(lines[start : min(ends, default=len(lines))])


def test_paths_and_texts_are_unique(items):
    assert len({item.path for item in items}) == len({item.text for item in items}) == len(items) > 1_200


def test_every_text_is_one_plain_sentence(items):
    allowed = set(string.ascii_letters + string.digits + " .,;:!?()/+-'\"%&")
    for item in items:
        assert set(item.text) <= allowed, item
        assert 5 <= len(item.text.split()) <= 40, item
        assert item.text == " ".join(item.text.split()), item
        assert not item.text.endswith(":"), item
        assert not item.text.startswith(f"{item.name}("), item
        assert "deprecated" not in item.text.lower(), item


def test_no_text_contains_a_dotted_path(items):
    for item in items:
        for word in item.text.replace("i.e.", "").replace("e.g.", "").split():
            left, dot, right = word.strip(string.punctuation).partition(".")
            assert not (dot and left[-1:].isalnum() and right[:1].isalpha()), item


@pytest.mark.parametrize("label", sorted(LABEL_STEMS))
def test_no_text_contains_a_word_that_starts_like_a_label(items, label):
    beginnings = {label, label.removesuffix("s"), label.removesuffix("e"), *LABEL_STEMS[label]} - {"stat"}
    for item in items:
        words = "".join(char if char.isalpha() else " " for char in item.text.lower()).split()
        assert not [word for word in words if word.startswith(tuple(beginnings))], item


def test_the_text_opens_the_docstring(items):
    for item in items[:: max(1, len(items) // 200)]:
        squeezed = "".join(public_object(item.path).__doc__.replace("`", "").split())
        assert "".join(item.text.split()) in squeezed, item


def test_every_link_is_written_in_a_see_also_section(items):
    by_path = {item.path: item for item in items}
    blocks = {item.path: see_also_block(public_object(item.path).__doc__) for item in items}
    seen = unseen = 0
    for item in items:
        for path in item.links:
            other = by_path[path]
            written = any(name in blocks[item.path] for name in other.names)
            if written or any(name in blocks[path] for name in item.names):
                seen += 1
            else:
                # Namesakes with the same summary are one item and bring the links of their own docstrings along.
                assert len(item.names) > 1 or len(other.names) > 1, (item, other)
                unseen += 1
    assert seen > 1_000 and unseen < 0.02 * seen


def test_links_are_symmetric(items):
    by_path = {item.path: item for item in items}
    assert all(item.path in by_path[path].links for item in items for path in item.links)


def test_a_known_link_is_found(items):
    by_path = {item.path: item for item in items}
    assert "scipy.signal.buttap" in by_path["scipy.signal.butter"].links


def test_a_signature_is_not_a_summary():
    assert summary("zeros(shape)\n\nReturn a new array\nof zeros.\n\nMore.") == "Return a new array of zeros."
    assert summary("add(x, y)\n\nParameters\n----------\nx : int") is None


@pytest.mark.parametrize(
    "text",
    [
        "Too short a text.",
        "Alias of another function that does it.",
        "This function is deprecated since the last release.",
        "Compute the value of scipy.foo along an axis.",
        "Inverse of `arc_sin` along the given axis.",
        "Return the :func:`foo` of the given array.",
        "Design a filter for the given Signals.",
        "Raised by RegularGridInterpolator for points out of range.",
        "Return the following things of the array:",
        "Solve the equation a x = b for x.",
    ],
)
def test_these_are_no_plain_sentences(text):
    assert sentence(text) is None


def test_see_also_reads_lists_roles_and_descriptions():
    docstring = (
        "Sum.\n\nSee Also\n--------\nmean, median : Averages, of `x`.\n:func:`~a.prod`\n    More.\n\nNotes\n-----\nno\n"
    )
    assert see_also(docstring) == ("mean", "median", "a.prod")


def test_pairs_that_answer_themselves_are_not_comparable(items):
    by_path = {item.path: item for item in items}
    item = by_path["scipy.signal.butter"]
    assert not comparable(item, item)
    for first, second in [(a, by_path[path]) for a in items for path in a.links]:
        assert linked(first, second) and not unrelated(first, second)
        if comparable(first, second):
            padded = f" {''.join(c if c.isalnum() else ' ' for c in second.text.lower())} "
            assert f" {first.name.lower()} " not in padded or "_" in first.name


def test_revision_names_the_three_versions():
    from importlib.metadata import version

    assert all(f"{name}{version(name)}" in corpus_revision() for name in ("numpy", "scipy", "scikit-learn"))


def test_a_package_without_docstrings_is_named(monkeypatch):
    monkeypatch.setattr(starter_corpus, "_NAMESPACES", {"string": "."})
    with pytest.raises(ValueError, match=r"no usable docstring found in string .*numpy"):
        read_corpus.__wrapped__()
