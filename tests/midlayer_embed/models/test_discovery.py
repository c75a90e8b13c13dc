from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import AutoConfig, AutoModel, LlamaConfig, ViTConfig, ViTModel
from transformers.modeling_outputs import BaseModelOutput

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.models import discovery, families
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.discovery import find_family
from midlayer_embed.models.families import Family, HiddenStates

# Everything in the table that is neither an encoder-decoder nor shares its blocks.
_PLAIN = sorted(set(families.known_families()) - {"albert", "mt5", "t5", "umt5"})


@pytest.mark.parametrize("model_type", _PLAIN)
def test_structure_tells_of_known_architectures_what_the_table_says(
    model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0}
    if model_type == "mamba2":
        sizes = {"num_heads": 8, "head_dim": 16}
    config = AutoConfig.for_model(model_type, vocab_size=50, hidden_size=64, num_hidden_layers=2, **sizes)
    expected = families.family_of(config)
    assert expected is not None
    monkeypatch.setattr(discovery, "family_of", lambda _config: None)
    found = find_family(config)
    assert (found.blocks, found.final_norm) == (expected.blocks, expected.final_norm)
    assert found.hidden_states == expected.hidden_states


@pytest.mark.parametrize("model_type", ["stablelm", "olmo2", "mixtral"])  # of other norms, norms in other places, MoE
def test_an_unknown_architecture_is_found_by_structure(
    make_model: Callable[..., Path], sentences: list[str], model_type: str, tmp_path: Path
) -> None:
    folder = make_model(model_type)
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = LayerwiseEncoder(folder).backbone.tokenizer
    input_ids = torch.tensor([tokenizer(sentences[0])["input_ids"]])
    with torch.inference_mode():
        output = model(input_ids=input_ids, output_hidden_states=True)
        states = [*(model.norm(state) for state in output.hidden_states[:-1]), output.last_hidden_state]
    every = LayerwiseEncoder(folder).encode(sentences)
    np.testing.assert_allclose(every[0], torch.stack([state[0].mean(dim=0) for state in states]), atol=1e-5)
    for layer in range(4):
        encoder = MidLayerEncoder(folder, layer)
        np.testing.assert_allclose(encoder.encode(sentences), every[:, layer], atol=1e-5)
    raw = MidLayerEncoder(folder, 2, final_norm=False).encode(sentences[0])
    np.testing.assert_allclose(raw, output.hidden_states[2][0].mean(dim=0), atol=1e-5)
    encoder.save_pretrained(str(tmp_path), create_model_card=False)
    plain = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), every[:, 3], atol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("blip", "not a plain text model: its config holds the configs of several models"),
        ("bart", "not a plain text model: it is an encoder-decoder"),
        # rescales its states between some blocks
        (
            "rwkv",
            r"not known \(known are albert, .*not called one after the other.*register_family\('rwkv'",
        ),
        # gives positions and masks of its own
        ("xlnet", r"a trial forward pass without weights fails .*register_family\('xlnet'"),
    ],
)
def test_what_is_not_understood_is_refused_before_weights_are_read(
    model_type: str, message: str, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 8} if model_type == "rwkv" else {}
    AutoConfig.for_model(model_type, **sizes).save_pretrained(tmp_path)  # a folder without weights
    with pytest.raises(ValueError, match=message) as error:
        find_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


class _Decoder(nn.Module):
    """Blocks, a list of as many other things beside them, and a norm; each as a model without numbers runs it."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ReLU(inplace=in_place) for _ in range(2))
        self.others = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.norm = nn.LayerNorm(4)

    def forward(self, input_ids: torch.Tensor, **_: object) -> BaseModelOutput:
        state = torch.ones(*input_ids.shape, 4)
        states = [state]
        for block in self.blocks:
            state = block(state)
            states.append(state)
        return BaseModelOutput(last_hidden_state=self.norm(state), hidden_states=tuple(states))


def test_lists_beside_the_blocks_do_not_mislead() -> None:
    with torch.device("meta"):
        model = _Decoder(in_place=False)
    found, _ = discovery._find_by_structure(LlamaConfig(num_hidden_layers=2), model)
    assert found == Family("blocks", "norm", HiddenStates())


def test_blocks_that_write_into_their_input_leave_no_raw_states_behind() -> None:
    with torch.device("meta"):
        model = _Decoder(in_place=True)
    found, _ = discovery._find_by_structure(LlamaConfig(num_hidden_layers=2), model)
    assert found == Family("blocks", "norm", hidden_states=None)


def test_a_vision_model_is_refused(tmp_path: Path) -> None:
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTModel(config).save_pretrained(tmp_path)
    for encoder in (LayerwiseEncoder, lambda folder: MidLayerEncoder(folder, 1)):
        with pytest.raises(ValueError, match=r"is an image encoder \(vit\); use ImageLayerwiseEncoder"):
            encoder(tmp_path)


def test_what_cannot_run_without_weights_can_be_registered(
    make_model: Callable[..., Path], sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_REGISTERED", {})
    folder = make_model("stablelm")
    monkeypatch.setattr(discovery, "_forward", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=r"fails \(division by zero\)"):
        find_checkpoint(folder)
    discovery.register("stablelm", blocks="layers", final_norm="norm")
    encoder = MidLayerEncoder(folder, 2)
    np.testing.assert_allclose(encoder.encode(sentences), LayerwiseEncoder(folder).encode(sentences)[:, 2], atol=1e-5)
    with pytest.raises(ValueError, match="no stock form gives the raw states of layer 2.*use final_norm=True"):
        MidLayerEncoder(folder, 2, final_norm=False)  # nobody has looked where they are
