"""A recipe around a layer, template, pooling and transform: against plain transformers and numpy, and as saved."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import forks
from transformers import AutoModel, AutoTokenizer

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, fit_transform

FAMILIES = ["llama", "gpt_neox", "bert", "mamba", "gemma3"]
TEMPLATES = {
    None: ("", ""),
    "eol": ('This sentence : "', '" means in one word:"'),
    "echo": ("Rewrite the sentence: ", ", rewritten sentence: ", ""),
    "query: {text}": ("query: ", ""),
}
POOLING_MODES = ["mean", "weightedmean", "lasttoken", "cls+max"]
TRANSFORMS: list[dict[str, Any]] = [
    {},
    {"transform": "center"},
    {"transform": "standardize"},
    {"transform": "remove:2"},
    {"transform": "whiten"},
    {"transform": "whiten:1", "dim": 7},
]
FITTED_ON = [f"{word} {number} {'and more ' * (number % 5)}" for word in ("one", "rain", "He") for number in range(40)]
LIMIT = 60
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
    tokenizer = AutoTokenizer.from_pretrained(folder)

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
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.real)])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_recipe_equals_its_definition_and_is_saved_as_stock(
    family: str,
    template: str | None,
    whole: bool,
    tiny_model: Callable[[str], Path],
    sentences: list[str],
    tmp_path: Path,
) -> None:
    """Poolings and transforms under a template: against numpy, in the pass of all layers, and in another process.

    All pairs of them, or each pooling and each transform at least once. Vectors equal to 1e-5 of their size, token ids
    equal, for short and for truncated texts.
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
        size = max(1.0, float(np.abs(found).max()))
        by_stranger = np.load(tmp_path / f"{name}.npy", allow_pickle=False)
        np.testing.assert_allclose(by_stranger, found, atol=1e-5 * size, err_msg=name)
        compared = [found, expected[name]]
        if "whiten" in str(encoder.recipe.transform):  # directions of equal eigenvalues may be turned
            compared = [vectors @ vectors.T for vectors in compared]
        # a dimension of a small variance magnifies what float32 rounds
        np.testing.assert_allclose(*compared, atol=2e-3 * float(np.abs(compared[0]).max()), err_msg=name)
