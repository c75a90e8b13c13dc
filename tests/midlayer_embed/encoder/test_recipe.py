"""A recipe around a layer, template, pooling and transform: against plain transformers and numpy, and as saved."""

import itertools
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from support import forks
from support.tiers import slow
from transformers import AutoModel, AutoTokenizer

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, Recipe, Transform, fit_transform
from midlayer_embed.errors import InputError

FAMILIES = ["llama", "bert", "gpt_neox", "mamba", "gemma3"]
TEMPLATES = {
    None: ("", ""),
    "eol": ('This sentence : "', '" means in one word:"'),
    "echo": ("Rewrite the sentence: ", ", rewritten sentence: ", ""),
    "query: {text}": ("query: ", ""),
}
POOLING_MODES = ["mean", "weightedmean", "lasttoken", "cls+max"]
TRANSFORMS: list[dict[str, Any]] = [
    {},
    *({"transform": name} for name in ("center", "standardize", "remove:2", "whiten")),
    {"transform": "whiten:1", "dim": 7},
]
FITTED_ON = [f"{word} {number} {'and more ' * (number % 5)}" for word in ("one", "rain", "He") for number in range(40)]
LIMIT = 60
tokenizer_of = cache(AutoTokenizer.from_pretrained)  # it is asked for every text, and takes longer to load than to use
# A process without this package loads every folder as anybody would.
STRANGER = """
import json, sys
sys.modules["midlayer_embed"] = None
import numpy as np, torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer
torch.set_num_threads(1)
root, folders, texts = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
ids = {}
for folder in folders:
    model = SentenceTransformer(f"{root}/{folder}", device="cpu")
    np.save(f"{root}/{folder}.npy", model.encode(texts, batch_size=1).astype("float32"), allow_pickle=False)
    tokenizer = AutoTokenizer.from_pretrained(f"{root}/{folder}")
    ids[folder] = tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    assert ids[folder] == tokenizer(texts, truncation=True)["input_ids"], "the tokenizer's own limit is another one"
print(json.dumps(ids))
"""


def plain_ids(folder: Path, template: str | None, text: str, limit: int) -> list[int]:
    """The tokens of a text, put together by hand: special ones, the template's parts, and the text cut to fit."""
    tokenizer = tokenizer_of(folder)

    def plain(part: str) -> list[int]:
        return list(tokenizer(part, add_special_tokens=False)["input_ids"]) if part else []

    whole, letters = tokenizer("a")["input_ids"], plain("a")
    place = whole.index(letters[0])
    start, end = whole[:place], whole[place + len(letters) :]
    parts = [plain(part) for part in TEMPLATES[template]]
    copies = len(parts) - 1
    room = (limit - len(start) - len(end) - sum(map(len, parts))) // copies
    ids = start + parts[0]
    for part in parts[1:]:
        ids = ids + plain(text)[:room] + part
    return ids + end


def pooled(states: np.ndarray, mode: str) -> np.ndarray:
    states = states.astype(np.float64)
    places = np.arange(len(states)) + 1.0
    of = {
        "mean": states.mean(axis=0),
        "weightedmean": (states * places[:, None]).sum(axis=0) / places.sum(),
        "lasttoken": states[-1],
        "cls": states[0],
        "max": states.max(axis=0),
    }
    return np.concatenate([of[part] for part in mode.split("+")]).astype(np.float32)


def final_norm(model: Any, states: torch.Tensor) -> torch.Tensor:
    for name in ("norm", "final_layer_norm", "norm_f"):
        if hasattr(model, name):
            return getattr(model, name)(states)
    return states


def states_of(folder: Path, ids: list[list[int]], layer: int) -> list[np.ndarray]:
    """The normed states of a layer of each text on its own, by a hook on a stock model."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    blocks = model.encoder.layer if hasattr(model, "encoder") else model.layers
    found = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        found.append(output if isinstance(output, torch.Tensor) else output[0])

    handle = blocks[layer - 1].register_forward_hook(keep)
    with torch.inference_mode():
        for row in ids:
            model(torch.tensor([row]))
        handle.remove()
        return [final_norm(model, states)[0].numpy() for states in found]


def texts_of(sentences: list[str]) -> list[str]:
    return [*sentences, "a long text of many words " * 30, "Ünïcödé, 数学 and emoji 🙂", sentences[0]]


@pytest.mark.process
@pytest.mark.parametrize(
    ("family", "template", "whole"),
    [
        *(("llama", template, False) for template in TEMPLATES),
        ("bert", "echo", False),
        *slow(*((family, "echo", False) for family in FAMILIES[2:])),
        *(pytest.param(*case, True, marks=pytest.mark.real) for case in itertools.product(FAMILIES, TEMPLATES)),
    ],
)
def test_every_recipe_equals_its_definition_and_is_saved_as_stock(
    family: str,
    template: str | None,
    whole: bool,
    tiny_model: Callable[[str], Path],
    sentences: list[str],
    tmp_path: Path,
) -> None:
    """Poolings and transforms under a template: against numpy, in the pass of all layers, and in another process.

    All pairs, or each at least once. Vectors equal to 1e-5 of their size, ids equal, also of truncated texts.
    """
    folder, texts, layer = tiny_model(family), texts_of(sentences), 2
    ids = [plain_ids(folder, template, text, LIMIT) for text in texts]
    fit_ids = [plain_ids(folder, template, text, LIMIT) for text in FITTED_ON]
    states, fit_states = (states_of(folder, some, layer) for some in (ids, fit_ids))
    expected, encoders = {}, {}
    for place, mode in enumerate(POOLING_MODES):
        options: dict[str, Any] = {"template": template, "pooling_mode": mode, "max_seq_length": LIMIT}
        vectors = np.stack([pooled(row, mode) for row in states])
        fit_vectors = np.stack([pooled(row, mode) for row in fit_states])
        every = LayerwiseEncoder(folder, **options)
        np.testing.assert_allclose(every.encode(texts, layers=[layer])[:, 0], vectors, atol=2e-5)
        for number, asked in enumerate(TRANSFORMS):
            if not whole and number % len(POOLING_MODES) != place:
                continue
            name = f"{mode}-{number}"
            expected[name] = vectors
            if asked:
                expected[name] = fit_transform(fit_vectors, asked["transform"], dim=asked.get("dim"))(vectors)
                asked = {**asked, "transform_texts": FITTED_ON}
            encoders[name] = MidLayerEncoder(folder, layer, **options, **asked)
            encoders[name].save_pretrained(str(tmp_path / name))
            assert encoders[name].max_seq_length in (LIMIT, LIMIT - 1)
    arguments = [str(tmp_path), json.dumps(list(encoders)), json.dumps(texts)]
    done = forks.run([sys.executable, "-c", STRANGER, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    for name, encoder in encoders.items():
        assert read[name] == ids
        found = encoder.encode(texts, batch_size=1)
        terms = [found, getattr(encoder.transform, "bias", found)]  # float32 rounds what a transform adds up
        size = max(1.0, *(float(np.abs(some).max()) for some in terms))
        by_stranger = np.load(tmp_path / f"{name}.npy", allow_pickle=False)
        np.testing.assert_allclose(by_stranger, found, atol=1e-5 * size, err_msg=name)
        compared = [found, expected[name]]
        if "whiten" in str(encoder.recipe.transform):  # directions of equal eigenvalues may be turned
            compared = [vectors @ vectors.T for vectors in compared]
        # a dimension of a small variance magnifies what float32 rounds
        np.testing.assert_allclose(*compared, atol=2e-3 * float(np.abs(compared[0]).max()), err_msg=name)


@pytest.fixture(scope="module")
def llama(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


def test_a_recipe_says_all_that_makes_a_vector(llama: Path) -> None:
    encoder = MidLayerEncoder(llama, 0.7, template="eol", transform="whiten", transform_texts=FITTED_ON, dim=5)
    assert encoder.recipe == Recipe(2, True, "eol", "weightedmean", "whiten:10", 5, 128)
    assert encoder.encode("a text").shape == (5,) and encoder.get_embedding_dimension() == 5
    plain = MidLayerEncoder(llama, 2)
    assert plain.recipe == Recipe(2, True, None, "mean", None, None, 128) and plain.transform is None


def test_a_transform_is_fitted_in_one_pass_over_all_layers_whatever_the_order(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = LayerwiseEncoder(llama, template="echo")
    texts = [*FITTED_ON, *FITTED_ON[:30]]
    vectors = every.encode(texts)
    passes = []
    forward = every.backbone.model.forward
    monkeypatch.setattr(every.backbone.model, "forward", lambda *a, **k: passes.append(1) or forward(*a, **k))
    every.encode(sorted(set(texts)))
    of_encode, passes[:] = len(passes), []
    for name in ("center", "standardize", "remove:1", "whiten"):
        fitted = every.fit_transform(texts, name)
        assert len(passes) == of_encode, name
        assert fitted.n_texts == len(texts)
        expected, found = fit_transform(vectors, name)(vectors), fitted(vectors)
        for layer in range(every.n_layers):  # up to the turning of equal eigenvalues
            np.testing.assert_allclose(
                found[:, layer] @ found[:, layer].T, expected[:, layer] @ expected[:, layer].T, atol=1e-2
            )
        again = every.fit_transform(texts[::-1], name)
        passes.clear()
        assert (again.weight.tobytes(), again.bias.tobytes()) == (fitted.weight.tobytes(), fitted.bias.tobytes())
        alone = MidLayerEncoder(llama, 2, template="echo", transform=name, transform_texts=texts)
        assert alone.transform is not None and alone.transform.n_texts == len(texts)
        np.testing.assert_allclose(alone.transform.bias @ alone.transform.bias, fitted.bias[2] @ fitted.bias[2], 1e-3)


def test_layers_whose_sums_do_not_fit_are_fitted_in_groups(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = LayerwiseEncoder(llama)
    whole = every.fit_transform(FITTED_ON, "whiten", layers=[-1, 0, 2, 2])
    monkeypatch.setattr("midlayer_embed.forward.fitting._MOST_BYTES", 2 * 8 * 32 * 32)
    groups = []
    batches = LayerwiseEncoder.pooled_batches

    def note(self: LayerwiseEncoder, texts: Any, layers: Any, **options: Any) -> Any:
        groups.append(list(layers))
        return batches(self, texts, layers, **options)

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", note)
    parts = every.fit_transform(FITTED_ON, "whiten", layers=[-1, 0, 2, 2])
    assert groups == [[3, 0], [2]]
    np.testing.assert_allclose(parts.weight, whole.weight, atol=1e-9)


def test_a_fitted_transform_is_taken_as_it_is(llama: Path, sentences: list[str], tmp_path: Path) -> None:
    every = LayerwiseEncoder(llama)
    fitted = every.fit_transform(FITTED_ON, "standardize")
    fitted.save(tmp_path / "t.safetensors")
    loaded = Transform.load(tmp_path / "t.safetensors")
    expected = fitted(every.encode(sentences))[:, 2]
    for transform in (fitted, loaded, fitted.of_layer(2)):
        encoder = MidLayerEncoder(llama, 2, transform=transform)
        assert encoder.recipe.transform == "standardize"
        np.testing.assert_allclose(encoder.encode(sentences), expected, atol=1e-5)
    with pytest.raises(InputError, match="expected one of the layer or of all 4 layers, got 2"):
        MidLayerEncoder(llama, 2, transform=every.fit_transform(FITTED_ON, "center", layers=[0, 1]))
    with pytest.raises(InputError, match="pooling gives vectors of 64 dimensions, and it takes 32"):
        MidLayerEncoder(llama, 2, transform=fitted, pooling_mode="cls+mean")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "whiten"}, "^transform_texts: whiten:10 needs texts like those that will be embedded"),
        ({"transform_texts": ["a"]}, "^transform_texts: expected None, because there is no transform"),
        ({"dim": 3}, "^dim: expected None, because there is no transform"),
        ({"transform": "zca", "transform_texts": ["a"]}, "^transform: expected one of center"),
        ({"transform": "center", "transform_texts": ["a"], "dim": 3}, "^dim: only whitening orders the dimensions"),
        ({"transform": "center", "transform_texts": "a text"}, "^transform_texts: expected a list of strings, got str"),
        ({"transform": "center", "transform_texts": ["a", "b"]}, "^transform_texts: expected at least 4 texts to fit"),
        ({"transform": "center", "transform_texts": ["a", 2]}, r"^transform_texts\[1\]: expected a string, got int"),
        (
            {"transform": "center", "transform_texts": {"a", "b"}},
            "^transform_texts: expected a list of strings, got set",
        ),
        (
            {"transform": "center", "transform_texts": [""] * 40},
            "^transform_texts: expected at least 4 texts with tokens to fit center to 32 dimensions, got 0",
        ),
        (
            {"transform": "whiten", "transform_texts": [*[""] * 40, "a", "b"]},
            "^transform_texts: expected at least 4 texts with tokens to fit whiten:10 to 32 dimensions, got 2",
        ),
        ({"transform": Transform("mine", np.eye(32), np.zeros(32), 9)}, "^transform: expected one of center"),
        (
            {"transform": Transform("center", np.full((32, 32), np.nan), np.zeros(32), 9)},
            "^transform: center has weights that are not finite in float32",
        ),
        (
            {"transform": Transform("whiten:1", 1e6 * np.eye(32), np.zeros(32), 9), "dtype": "float16"},
            "^transform: whiten:1 has weights that are not finite in float16",
        ),
        ({"transform": "whiten", "transform_texts": FITTED_ON, "dim": 33}, "^dim: expected at most 32, got 33"),
        (
            {"transform": "center", "transform_texts": ["a"] * 9},
            "^transform_texts: expected texts that differ, got the same vector",
        ),
        (
            {"transform": "center", "transform_texts": [*["one rain"] * 9, ""]},
            "^transform_texts: expected texts that differ, got the same vector",
        ),
        ({"template": "eol", "include_prompt": False}, "^include_prompt: expected True under a template"),
        ({"template": "eol", "max_seq_length": 5}, "^max_seq_length: the tokenizer and the template add"),
    ],
)
def test_what_makes_no_recipe_is_named(options: dict[str, Any], message: str, llama: Path) -> None:
    with pytest.raises(InputError, match=message):
        MidLayerEncoder(llama, 2, **options)


def test_what_is_wrong_about_texts_names_their_argument(llama: Path) -> None:
    with pytest.raises(InputError, match=r"^selection_texts\[1\]: expected a string, got int"):
        MidLayerEncoder(llama, "min-dime", selection_texts=["a", 2])  # type: ignore[list-item]
    with pytest.raises(InputError, match="^texts: expected at least 4 texts with tokens to fit center"):
        LayerwiseEncoder(llama).fit_transform([""] * 40 + ["a"], "center")


def test_a_fitted_transform_and_one_to_be_fitted_are_the_same_recipe(llama: Path) -> None:
    fitted = LayerwiseEncoder(llama).fit_transform(FITTED_ON, "whiten:2", dim=5)
    known = MidLayerEncoder(llama, 2, transform=fitted)
    found = MidLayerEncoder(llama, 2, transform="whiten:2", transform_texts=FITTED_ON, dim=5)
    assert known.recipe == found.recipe and hash(known.recipe) == hash(found.recipe)
    assert known.recipe.dim == 5


@pytest.mark.parametrize("recipe", [Recipe(layer=1), Recipe(transform="whiten"), Recipe(transform="whiten", dim=3)])
def test_an_encoder_of_every_layer_takes_no_recipe_of_one(llama: Path, recipe: Recipe) -> None:
    every = LayerwiseEncoder(llama)
    for make in (every.with_recipe, lambda recipe: LayerwiseEncoder.from_checkpoint(every.checkpoint, recipe)):
        with pytest.raises(InputError, match="^recipe: expected one for every layer, without layer, transform, dim"):
            make(recipe)


@pytest.mark.parametrize(("family", "mode"), [("llama", "lasttoken"), ("gpt_neox", "lasttoken"), ("llama", "cls")])
def test_a_layer_that_tells_no_texts_apart_is_refused(
    family: str, mode: str, tiny_model: Callable[[str], Path]
) -> None:
    folder = tiny_model(family)
    with pytest.raises(InputError, match="^layer: at layer 0 every text has the same vector under the template 'eol'"):
        MidLayerEncoder(folder, 0, template="eol", pooling_mode=mode)
    if mode == "lasttoken":
        assert np.isfinite(MidLayerEncoder(folder, 1, template="eol", pooling_mode=mode).encode("a")).all()
    every = LayerwiseEncoder(folder, template="eol", pooling_mode=mode).encode(["a", "b", "c d e"])
    assert np.isfinite(every).all()


def test_a_prompt_is_part_of_the_text_in_the_template(llama: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama, 2, template="say {text} again {text}", prompts={"query": "He drove "})
    found = encoder.encode(["to it"], prompt_name="query")
    np.testing.assert_allclose(found, encoder.encode(["He drove to it"]), atol=1e-6)
    encoder.save_pretrained(str(tmp_path / "saved"))
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(plain.encode(["to it"], prompt_name="query"), found, atol=1e-6)


def test_normalize_of_a_folder_comes_after_the_transform(
    tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path
) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    transformer = Transformer(str(tiny_model("bert")))
    pooling = Pooling(32, "mean")
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save(str(tmp_path / "own"))
    encoder = MidLayerEncoder(tmp_path / "own", -1, transform="whiten", transform_texts=FITTED_ON)
    assert [type(module).__name__ for module in encoder] == ["Transformer", "Pooling", "Dense", "Normalize"]
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(sentences), axis=1), 1, atol=1e-5)
    encoder.save_pretrained(str(tmp_path / "saved"))
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-5)
    SentenceTransformer(modules=[transformer, pooling, Dense(32, 16)], device="cpu").save(str(tmp_path / "dense"))
    with pytest.raises(InputError, match="^transform: the last layer has a Dense of its own after pooling"):
        MidLayerEncoder(tmp_path / "dense", -1, transform="center", transform_texts=FITTED_ON)
    assert MidLayerEncoder(tmp_path / "dense", 1, transform="center", transform_texts=FITTED_ON).recipe.layer == 1


def test_mteb_knows_recipes_apart(llama: Path) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"template": "eol"},
        {"template": "eol", "pooling_mode": "mean"},
        *({"transform": "center", "transform_texts": FITTED_ON[:n]} for n in (50, 60)),
        {"transform": "whiten", "transform_texts": FITTED_ON[:50]},
        {"transform": "whiten", "transform_texts": FITTED_ON[:50], "dim": 7},
    ]
    names = [MidLayerEncoder(llama, 2, **options).result_name for options in asked]
    assert len(set(names)) == len(names)
    assert names[1].endswith("(layer=2, pooling_mode=weightedmean, template=eol)")


def test_names_of_templates_differ_where_mteb_writes_characters_as_others(llama: Path) -> None:
    templates = ["a {text}", "a_{text}", "a/{text}", "a__{text}", "a\n{text}"]
    names = [MidLayerEncoder(llama, 2, template=template).result_name for template in templates]
    folders = {name.replace("/", "__").replace(" ", "_") for name in names}
    assert len(folders) == len(templates)
    assert not any("\n" in name for name in folders)


def test_the_card_names_template_and_transform(llama: Path, tmp_path: Path) -> None:
    template = "<b> | {text}"
    encoder = MidLayerEncoder(llama, 2, template=template, transform="whiten:1", transform_texts=FITTED_ON, dim=4)
    encoder.save_pretrained(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "whiten:1, the first 4 dimensions, fitted on 120 texts without labels" in card
    assert "part of the tokenizer: pass texts as they are" in card and "<b>" not in card
    assert "Dense" not in card
