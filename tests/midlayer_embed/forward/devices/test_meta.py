"""The pass of all layers on the meta device: its shapes and dtypes, and that the host never waits for a value."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from support.architectures import DIM, N_BLOCKS
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder, LayerwiseEncoder
from midlayer_embed.forward import one_pass
from midlayer_embed.forward.devices.transfers import Transfers
from midlayer_embed.forward.measured import StatesKept
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.options import Recipe


class MetaTransfers(Transfers):
    """Notes what would be copied back: tensors of the meta device have no values, and reading one is an error."""

    copied: list[list[torch.Tensor]]

    def to_host(self, tensors: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        self.copied.append(list(tensors))
        return lambda: [torch.zeros(tensor.shape, dtype=tensor.dtype) for tensor in tensors]


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[list[torch.Tensor]]:
    found: list[list[torch.Tensor]] = []
    monkeypatch.setattr(MetaTransfers, "copied", found, raising=False)
    monkeypatch.setattr(one_pass, "transfers", MetaTransfers)
    # transformers reads the mask once, before the first block, to see whether any text is padded
    monkeypatch.setattr("transformers.masking_utils.is_tracing", lambda *_: True)
    return found


def _on_meta(encoder: OnePassEncoder) -> None:
    encoder.backbone.model.to("meta")


def test_vectors_of_every_architecture(
    any_folder: Path, sentences: list[str], copied: list[list[torch.Tensor]]
) -> None:
    encoder = LayerwiseEncoder(any_folder, dtype="bfloat16")
    _on_meta(encoder)
    (pooled,) = encoder.pooled_batches(sentences, range(encoder.n_layers), norms=[True, False])
    ((vectors, _),) = copied
    assert (vectors.device.type, vectors.dtype) == ("meta", torch.float32)
    assert pooled.vectors.shape == vectors.shape == (2, N_BLOCKS + 1, len(pooled.rows), DIM)


def test_vectors_and_states_of_every_image_encoder(
    any_image_folder: tuple[str, Path], copied: list[list[torch.Tensor]]
) -> None:
    encoder = ImageLayerwiseEncoder(any_image_folder[1])
    _on_meta(encoder)
    items = encoder.inputs.check(images(3))
    (pooled,) = encoder.pooled_batches(items, encoder.layers, norms=[True, False], kept=StatesKept(True, 1))
    assert copied[0][0].device.type == "meta"
    assert pooled.vectors.shape == (2, N_BLOCKS + 1, 3, encoder.dim)
    n_tokens = int(encoder.inputs.token_counts(items)[0])
    assert {tuple(states.shape) for states in pooled.states} == {(3, n_tokens - 1, encoder.backbone.dim)}
    assert {states.dtype for states in pooled.states} == {torch.float32}


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", "max", "weightedmean", "mean+max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_no_pooling_waits_for_a_value(
    llama_folder: Path, sentences: list[str], copied: list[list[torch.Tensor]], mode: str, dtype: torch.dtype
) -> None:
    encoder = LayerwiseEncoder(llama_folder, dtype=dtype)
    sites = [one_pass.Place(2, site) for site in ("resid_mid", "attn_out", "mlp_out", "resid_post")]
    _on_meta(encoder)
    encoder = encoder.with_recipe(Recipe(pooling_mode=mode))
    (pooled,) = encoder.pooled_batches(sentences, sites, norms=[True], first_token=mode != "mean")
    assert pooled.vectors.shape == (1, 4, len(sentences), DIM * (1 + mode.count("+")))
    assert copied[0][0].dtype == torch.float32


def test_texts_with_unequal_prompts_are_pooled_without_waiting(
    llama_folder: Path, sentences: list[str], copied: list[list[torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    _on_meta(encoder)
    batched = type(encoder.inputs).stream

    def stream(inputs: object, *arguments: object, **options: object) -> object:
        found = batched(inputs, *arguments, **options)  # type: ignore[arg-type]
        batches = list(found.batches)
        for batch in batches:
            batch.not_pooled[::2] = 2
        return found._replace(batches=iter(batches))

    monkeypatch.setattr(type(encoder.inputs), "stream", stream)
    (pooled,) = encoder.pooled_batches(sentences, encoder.layers, norms=[True])
    assert pooled.vectors.shape == (1, N_BLOCKS + 1, len(sentences), DIM)
