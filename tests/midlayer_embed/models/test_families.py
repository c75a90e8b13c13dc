from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.architectures import TINY_TYPES
from transformers import AlbertConfig, AutoModel

from midlayer_embed import LayerwiseEncoder
from midlayer_embed.models import discovery, families
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.families import blocks_of, family_of


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten."""
    monkeypatch.setattr(discovery, "_REGISTERED", {})


def test_every_row_of_the_table_has_a_tiny_model() -> None:
    assert set(families.known_families()) == TINY_TYPES


def test_albert_is_one_block_called_many_times(tiny_model: Callable[[str], Path]) -> None:
    encoder = LayerwiseEncoder(tiny_model("albert"))
    assert len(encoder.backbone.blocks) == 3
    assert len(set(encoder.backbone.blocks)) == 1
    calls = []
    encoder.backbone.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    encoder.encode("one text", layers=[2, 1])
    assert len(calls) == 2  # and not the third


def test_alberts_groups_are_called_in_turn() -> None:
    config = AlbertConfig(num_hidden_layers=6, num_hidden_groups=3, hidden_size=16, num_attention_heads=2)
    family = family_of(config)
    assert family is not None
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    groups = list(model.encoder.albert_layer_groups)
    assert blocks_of(model, family) == [groups[0], groups[0], groups[1], groups[1], groups[2], groups[2]]


def test_albert_of_several_layers_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="inner_group_num = 2 is not supported"):
        family_of(AlbertConfig(inner_group_num=2))


def test_robertas_first_positions_are_no_tokens(tiny_model: Callable[[str], Path]) -> None:
    encoder = LayerwiseEncoder(tiny_model("roberta"))
    assert encoder.max_seq_length == 128 - 2
    encoder.encode("word " * 200)  # or this would be an index error


def test_only_the_encoder_of_t5_is_loaded(tiny_model: Callable[[str], Path]) -> None:
    model = LayerwiseEncoder(tiny_model("t5")).backbone.model
    assert type(model).__name__ == "T5EncoderModel"
    assert not any("decoder" in name for name, _ in model.named_parameters())


@pytest.mark.usefixtures("unregistered")
def test_what_is_registered_is_used(make_model: Callable[..., Path], sentences: list[str]) -> None:
    folder = make_model("granite")
    found = LayerwiseEncoder(folder).encode(sentences)
    discovery.register("granite", blocks="layers", final_norm="norm")
    torch.testing.assert_close(LayerwiseEncoder(folder).encode(sentences), found)
    # Registering again replaces: the model is looked at again, and has no such norm.
    discovery.register("granite", blocks="layers", final_norm="last_norm")
    with pytest.raises(ValueError, match="final_norm: 'granite' is registered with 'last_norm', which the model"):
        find_checkpoint(folder)


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize(
    ("blocks", "final_norm", "message"),
    [
        ("blocks", "norm", "blocks: 'granite' is registered with 'blocks', which the model does not have"),
        ("layers.0", "norm", r"'layers\.0', which is not a list of its 3 blocks"),
        ("layers", None, "its forward pass does not go through these blocks"),
        ("layers", "layers.0.input_layernorm", "its forward pass does not go through these blocks"),
    ],
)
def test_what_is_registered_has_to_be_so(
    make_model: Callable[..., Path], blocks: str, final_norm: str | None, message: str
) -> None:
    discovery.register("granite", blocks=blocks, final_norm=final_norm)
    with pytest.raises(ValueError, match=message):
        find_checkpoint(make_model("granite"))


@pytest.mark.parametrize(
    ("model_type", "blocks", "final_norm", "message"),
    [
        ("", "layers", "norm", "model_type: expected .* got ''"),
        (None, "layers", "norm", "model_type: expected .* got None"),
        ("llama", "layers", "norm", "'llama' is known already"),
        ("mine", "", None, "blocks: expected a dotted path .* got ''"),
        ("mine", "the layers", None, "blocks: expected a dotted path .* got 'the layers'"),
        ("mine", 3, None, "blocks: expected a dotted path .* got 3"),
        ("mine", "layers", "norm.", r"final_norm: expected a dotted path .* got 'norm\.'"),
        ("mine", "layers", "layers", "final_norm: expected a path other than that of the blocks"),
    ],
)
@pytest.mark.usefixtures("unregistered")
def test_nonsense_is_not_registered(model_type: str, blocks: str, final_norm: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discovery.register(model_type, blocks=blocks, final_norm=final_norm)
    assert discovery.registered_family("mine") is None
