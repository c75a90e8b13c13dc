from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from support.forks import vectors_of_a_stranger
from torch import nn

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder

# Every other layer of every other architecture has a stock form, normed and raw.
_NO_STOCK_FORM = {
    *((name, 0, "raw") for name in ("mamba", "mamba2")),
    *((name, 3, "raw") for name in ("falcon", "falcon-alibi", "falcon-new", "umt5")),
    ("modernbert", 0, "normed"),
}


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
def test_every_layer_equals_the_all_layers_pass_and_survives_saving(
    any_folder: Path, sentences: list[str], final_norm: bool, tmp_path: Path
) -> None:
    every = LayerwiseEncoder(any_folder, final_norm=final_norm).encode(sentences)
    for layer in range(4):
        kind = "normed" if final_norm else "raw"
        if (any_folder.name.removeprefix("tiny-"), layer, kind) in _NO_STOCK_FORM:
            with pytest.raises(
                ValueError, match=f"no stock form gives the {kind} states.*use final_norm={not final_norm}"
            ):
                MidLayerEncoder(any_folder, layer, final_norm=final_norm)
            continue
        encoder = MidLayerEncoder(any_folder, layer, final_norm=final_norm)
        vectors = encoder.encode(sentences)
        np.testing.assert_allclose(vectors, every[:, layer], atol=1e-5)
        encoder.save_pretrained(str(tmp_path / f"{layer}"), create_model_card=False)  # which takes as long as the rest
        plain = SentenceTransformer(str(tmp_path / f"{layer}"), device="cpu")
        np.testing.assert_allclose(plain.encode(sentences), vectors, atol=1e-6)


@pytest.mark.process
def test_a_stranger_loads_what_was_saved(llama_folder: Path, sentences: list[str], tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    encoder.save_pretrained(str(tmp_path / "saved"))
    vectors = vectors_of_a_stranger(tmp_path / "saved", sentences)
    np.testing.assert_allclose(vectors, encoder.encode(sentences), atol=1e-6)


def test_it_is_a_sentence_transformer_that_knows_its_layer(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, layer=0.7)
    assert isinstance(encoder, SentenceTransformer)
    assert (encoder.layer, encoder.n_layers) == (2, 4)
    assert encoder.depth == pytest.approx(2 / 3)
    assert MidLayerEncoder(llama_folder, layer=-1).layer == 3
    assert MidLayerEncoder(llama_folder, layer=np.argmax([0, 1, 5])).layer == 2  # no int, but as good as one
    assert encoder.similarity(encoder.encode(sentences), encoder.encode(sentences)).shape == (8, 8)


def test_blocks_above_the_layer_are_not_kept(tiny_folder: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(tiny_folder, 1)
    assert encoder.transformers_model.config.num_hidden_layers == 1
    encoder.save_pretrained(str(tmp_path))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as weights:
        numbers = {part for key in weights.keys() for part in key.split(".") if part.isdigit()}  # noqa: SIM118
    assert numbers == {"0"}


def test_blocks_above_the_layer_take_no_memory(any_folder: Path) -> None:
    whole = LayerwiseEncoder(any_folder).backbone.model
    low, high = (
        sum(parameter.numel() for parameter in MidLayerEncoder(any_folder, layer).transformers_model.parameters())
        for layer in (1, 3)
    )
    assert high == sum(parameter.numel() for parameter in whole.parameters())
    blocks = [sum(parameter.numel() for parameter in block.parameters()) for block in _blocks(whole)]
    # ALBERT's groups are few and shared; all of them are kept.
    assert low == high - (0 if any_folder.name == "tiny-albert-groups" else sum(blocks[1:]))


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The items of the longest list of modules: blocks, or groups of blocks that share weights."""
    return max((list(part) for part in model.modules() if isinstance(part, nn.ModuleList)), key=len)


def test_empty_texts_are_defined(
    sentences: list[str],
    llama_2: MidLayerEncoder,
) -> None:
    np.testing.assert_array_equal(llama_2.encode([""]), np.zeros((1, 32), dtype=np.float32))
    np.testing.assert_allclose(llama_2.encode(["", sentences[0]])[0], np.zeros(32), atol=1e-6)


@pytest.mark.parametrize("layer", [4, -5, 1.5, "min-foo", None, True])
def test_bad_layers_are_refused_before_weights_are_read(llama_folder: Path, layer: object) -> None:
    with pytest.raises(ValueError, match="layer: "):
        MidLayerEncoder(llama_folder, layer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("truncate_dim", 0),
        ("truncate_dim", -1),
        ("truncate_dim", "8"),
        ("include_prompt", "no"),
        ("prompts", ["query: "]),
        ("prompts", {"query": 3}),
    ],
)
def test_bad_settings_are_named_before_the_model_is_looked_for(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{argument}(\['query'\])?: expected "):
        MidLayerEncoder("no/such-model", 2, **{argument: value})  # type: ignore[arg-type]


def test_texts_are_cut_where_told_and_the_export_remembers(llama_folder: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, max_seq_length=9)
    assert encoder.max_seq_length == 9
    encoder.save_pretrained(str(tmp_path))
    assert SentenceTransformer(str(tmp_path), device="cpu").max_seq_length == 9
    assert LayerwiseEncoder(tmp_path).max_seq_length == 9
