"""Sites within blocks, each compared with a forward pass of one block that is written by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.architectures import ARCHITECTURES, FAMILIES, N_BLOCKS
from support.oracles.blocks import PlainSites
from support.tiers import sampled, slow
from transformers import AutoTokenizer

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.errors import InputError
from midlayer_embed.forward.sites import Place
from midlayer_embed.layers import SITES

# Beside every architecture: blocks that do their parts one after the other where most models of the family do not,
# other norms, causal BERT, and states that are not kept in float32.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-decoder": ("bert", {"is_decoder": True, "pad_token_id": 0}),
    "falcon-one-norm": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),
    "falcon-sequential": ("falcon", {"parallel_attn": False}),
    "gpt_neox-sequential": ("gpt_neox", {"use_parallel_residual": False}),
    "mamba-rounded": ("mamba", {"state_size": 4, "residual_in_fp32": False}),
    "phi-qk-norm": ("phi", {"qk_layernorm": True}),
}


@pytest.fixture
def folder_of(tiny_model: Callable[[str], Path], make_model: Callable[..., Path]) -> Callable[[str], Path]:
    def folder_of(name: str) -> Path:
        if name in VARIANTS:
            model_type, entries = VARIANTS[name]
            return make_model(model_type, **entries)
        return tiny_model(name)

    return folder_of


def _padded(folder: Path, texts: list[str]) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    found = tokenizer(texts, return_tensors="pt", padding=True)
    return {name: found[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("name", [*ARCHITECTURES, *VARIANTS])
@pytest.mark.parametrize("final_norm", [False, *slow(True)], ids=["raw", "normed"])
def test_every_site_equals_a_block_written_by_hand(
    name: str, folder_of: Callable[[str], Path], sentences: list[str], final_norm: bool
) -> None:
    site_folder = folder_of(name)
    plain, encoder = PlainSites(site_folder), LayerwiseEncoder(site_folder, final_norm=final_norm)
    for texts in (sentences, [sentences[4]], [sentences[5]]):  # padded; the longest and the shortest alone
        blocks = plain.means(**_padded(site_folder, texts), final_norm=final_norm)
        for site in blocks[0]:
            expected = torch.stack([block[site] for block in blocks], dim=1)
            found = encoder.encode(texts, range(1, N_BLOCKS + 1), site=site)
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=site)
            # A site that were another one by mistake would be found.
            others = [block[other] for other in blocks[0] if other != site for block in blocks[-1:]]
            assert min(float(abs(other - expected[:, -1]).max()) for other in others) > 1e-3, site
    assert not _hooks(encoder)


def _hooks(encoder: LayerwiseEncoder) -> list[Any]:
    return [
        hook
        for module in encoder.backbone.model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]


def _of_all_blocks(blocks: list[dict[str, torch.Tensor]], site: str) -> torch.Tensor:
    return torch.stack([block[site] for block in blocks], dim=1)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2", "bert", "mamba"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_sites_of_half_precision(
    tiny_model: Callable[[str], Path], sentences: list[str], name: str, dtype: torch.dtype
) -> None:
    folder = tiny_model(name)
    texts = _padded(folder, sentences)
    exact, blocks = (PlainSites(folder, dtype=kind).means(**texts, final_norm=True) for kind in (torch.float32, dtype))
    encoder = LayerwiseEncoder(folder, dtype=dtype)
    for site in blocks[0]:
        found, expected = encoder.encode(sentences, [1, 2, 3], site=site), _of_all_blocks(blocks, site)
        rounding = float(abs(_of_all_blocks(exact, site) - expected).max())
        np.testing.assert_allclose(found, expected, atol=2 * rounding, rtol=torch.finfo(dtype).eps, err_msg=site)
        assert rounding < 0.1 * float(expected.std())


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gpt2", "gemma", "opt"])
def test_sites_of_bidirectional_attention(tiny_model: Callable[[str], Path], sentences: list[str], name: str) -> None:
    folder = tiny_model(name)
    encoder = LayerwiseEncoder(folder, bidirectional=True)
    blocks = PlainSites(folder, bidirectional=True).means(**_padded(folder, sentences), final_norm=True)
    causal = PlainSites(folder).means(**_padded(folder, sentences), final_norm=True)
    for site in blocks[0]:
        found = encoder.encode(sentences, [1, 2, 3], site=site)
        np.testing.assert_allclose(found, _of_all_blocks(blocks, site), atol=1e-5, err_msg=site)
        assert abs(found - _of_all_blocks(causal, site).numpy())[:, -1].max() > 1e-3, site


def test_sites_under_an_adapter(llama_folder: Path, make_adapter: Callable[..., Path], sentences: list[str]) -> None:
    adapter = make_adapter(llama_folder)
    encoder = LayerwiseEncoder(llama_folder, adapters=[adapter], bidirectional=True)
    plain = PlainSites(llama_folder, adapter=adapter, bidirectional=True)
    blocks = plain.means(**_padded(llama_folder, sentences), final_norm=True)
    for site in blocks[0]:
        found = encoder.encode(sentences, [1, 2, 3], site=site)
        np.testing.assert_allclose(found, _of_all_blocks(blocks, site), atol=1e-5, err_msg=site)


# Families of blocks that add: a norm after the sum would hide it.
_ADDS = [
    "falcon",
    "falcon-alibi",
    "falcon-new",
    "gemma2",
    "gpt2",
    "gpt_neox",
    "llama",
    "modernbert",
    "opt",
    "phi",
    "t5",
]


@pytest.mark.parametrize("name", _ADDS)
def test_what_the_parts_add_is_what_a_block_adds(
    tiny_model: Callable[[str], Path], sentences: list[str], name: str
) -> None:
    encoder = LayerwiseEncoder(tiny_model(name), final_norm=False)
    every = encoder.encode(sentences)
    added = encoder.encode(sentences, site="attn_out") + encoder.encode(sentences, site="mlp_out")
    np.testing.assert_allclose(added, np.diff(every, axis=1), atol=2e-5)
    np.testing.assert_allclose(encoder.encode(sentences, site="resid_pre"), every[:, :-1], atol=1e-6)


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_what_a_mixer_adds_is_what_its_block_adds(
    tiny_model: Callable[[str], Path], sentences: list[str], name: str
) -> None:
    encoder = LayerwiseEncoder(tiny_model(name), final_norm=False)
    added = encoder.encode(sentences, site="mixer_out")
    np.testing.assert_allclose(added, np.diff(encoder.encode(sentences), axis=1), atol=2e-5)


@pytest.mark.parametrize("name", sampled([*ARCHITECTURES, *VARIANTS], *FAMILIES))
def test_all_sites_come_from_one_pass_bit_for_bit(
    name: str, folder_of: Callable[[str], Path], sentences: list[str]
) -> None:
    site_folder = folder_of(name)
    encoder = LayerwiseEncoder(site_folder)
    sites = encoder.backbone.sites
    assert sites is not None
    available = sites.available()
    places = [Place(layer, site) for site in available for layer in range(1, N_BLOCKS + 1)]
    places = [Place(0), *places[::-1]]
    passes = []
    encoder.backbone.model.register_forward_pre_hook(lambda *_: passes.append(1))
    found = np.zeros((2, len(places), len(sentences), 32), dtype=np.float32)
    for batch in encoder.pooled_batches(sentences, places, norms=[True, False]):
        found[:, :, batch.rows] = batch.vectors
    assert len(passes) == 1
    for site in available:
        for number, normed in enumerate([True, False]):
            alone = LayerwiseEncoder(site_folder, final_norm=normed, site=site).encode(sentences)
            slots = [places.index(Place(layer, site)) for layer in range(int(site != "resid_post"), N_BLOCKS + 1)]
            np.testing.assert_array_equal(found[number, slots].swapaxes(0, 1), alone, err_msg=site)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "mamba", "gemma2"])
def test_only_the_residual_stream_is_normed(tiny_model: Callable[[str], Path], sentences: list[str], name: str) -> None:
    raw = LayerwiseEncoder(tiny_model(name), final_norm=False)
    normed = LayerwiseEncoder(tiny_model(name), final_norm=True)
    sites = raw.backbone.sites
    assert sites is not None
    for site in sites.available():
        one, other = (encoder.encode(sentences, site=site) for encoder in (raw, normed))
        assert np.array_equal(one, other) == site.endswith("_out"), site


def test_a_site_has_the_layers_of_the_blocks(llama: LayerwiseEncoder, sentences: list[str]) -> None:
    every = llama.encode(sentences, site="mlp_out")
    assert every.shape == (len(sentences), N_BLOCKS, 32)
    np.testing.assert_array_equal(llama.encode(sentences, "all", site="mlp_out"), every)
    # in the order asked for, from the end, as a depth, and twice
    some = llama.encode(sentences, [-1, 1, 0.7, 1], site="mlp_out")
    np.testing.assert_array_equal(some, every[:, [2, 0, 1, 0]])
    np.testing.assert_allclose(llama.encode(sentences[0], site="mlp_out"), every[0], atol=1e-5)
    np.testing.assert_array_equal(llama.encode([*sentences, sentences[0]], site="mlp_out"), every[[*range(8), 0]])
    assert llama.encode([], site="mlp_out").shape == (0, N_BLOCKS, 32)
    assert not llama.encode("", site="mlp_out").any()  # no tokens
    own = LayerwiseEncoder(llama.checkpoint, site="mlp_out")
    assert own.layers == [1, 2, 3] and own.n_layers == 4
    np.testing.assert_array_equal(own.encode(sentences), every)
    np.testing.assert_array_equal(own.encode(sentences, site="resid_post"), llama.encode(sentences))


def test_a_site_stops_the_pass_where_it_is_reached(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    run = []
    for number, block in enumerate(encoder.backbone.blocks, start=1):
        block.mlp.register_forward_hook(lambda *_, number=number: run.append(number))
    encoder.encode(sentences, layers=[2], site="attn_out")
    assert run == [1]
    assert len(_hooks(encoder)) == N_BLOCKS  # this test's own


def test_no_hook_stays_behind_after_a_failed_pass(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder)

    def fails(*_args: Any) -> None:
        raise RuntimeError("the device is lost")

    with encoder.backbone.blocks[1].register_forward_pre_hook(fails), pytest.raises(RuntimeError, match="is lost"):
        encoder.encode(sentences, site="mlp_out")
    assert not _hooks(encoder)


_BLOCK = "blocks consist of attention and an MLP, not of a mixer"
_PARALLEL = r"attention and MLP read the same state \(a parallel residual\), so there is none between them; it has "
_MIXER = "its blocks consist of a mixer, without attention and MLP; it has resid_pre, resid_post, mixer_out"


@pytest.mark.parametrize(
    ("name", "site", "message"),
    [
        ("gpt_neox", "resid_mid", f"this gpt_neox model has no resid_mid: {_PARALLEL}resid_pre, resid_post, attn_out"),
        ("falcon", "resid_mid", f"this falcon model has no resid_mid: {_PARALLEL}"),
        ("falcon-new", "resid_mid", f"this falcon model has no resid_mid: {_PARALLEL}"),
        ("phi", "resid_mid", f"this phi model has no resid_mid: {_PARALLEL}"),
        ("llama", "mixer_out", f"this llama model has no mixer_out: its {_BLOCK}; it has resid_pre, resid_mid"),
        ("gpt_neox", "mixer_out", _BLOCK),
        ("bert", "mixer_out", _BLOCK),
        *[(name, site, _MIXER) for name in ("mamba", "mamba2") for site in ("attn_out", "mlp_out", "resid_mid")],
        ("llama", "mlp", "expected one of resid_pre, resid_mid, resid_post, attn_out, mlp_out, mixer_out, got 'mlp'"),
        ("llama", 3, "expected one of .*, got 3"),
        ("llama", "", "expected one of .*, got ''"),
    ],
)
def test_a_site_that_is_not_there_is_one_line(
    tiny_model: Callable[[str], Path], name: str, site: Any, message: str
) -> None:
    encoder = LayerwiseEncoder(tiny_model(name))
    for call in (
        lambda: encoder.encode(["a text"], site=site),
        lambda: LayerwiseEncoder(tiny_model(name), site=site),
    ):
        with pytest.raises(InputError, match=f"^site: .*{message}") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", ["stablelm", "olmo2"])
def test_only_the_layers_of_a_model_found_by_structure_are_known(
    make_model: Callable[..., Path], model_type: str
) -> None:
    encoder = LayerwiseEncoder(make_model(model_type))
    for site in set(SITES) - {"resid_post"}:
        expected = f"site: the parts of a {model_type} block are not known, only its output, resid_post; got '{site}'"
        with pytest.raises(InputError, match=expected):
            encoder.encode(["a text"], site=site)
        with pytest.raises(InputError, match=expected):
            list(encoder.pooled_batches(["a text"], [Place(1, site)], norms=[True]))


@pytest.mark.parametrize("layers", [[0], [0.0], [-4], [1, 0]])
def test_layer_0_has_no_sites(llama: LayerwiseEncoder, layers: list[float]) -> None:
    with pytest.raises(
        InputError, match="^layer: 0 is what enters block 1 and has no mlp_out; expected a layer from 1 to 3$"
    ):
        llama.encode(["a text"], layers, site="mlp_out")


def test_places_that_are_not_there_are_told_before_the_pass(llama: LayerwiseEncoder) -> None:
    """What no hook writes would be whatever was in memory."""
    for places, message in (
        ([Place(0, "mlp_out")], "layer: 0 is what enters block 1 and has no mlp_out; expected a layer from 1 to 3"),
        ([Place(4, "mlp_out")], "layer: 4 is out of range"),
        ([Place(1, "mlp_out"), Place(2), Place(1, "mlp_out")], "layers: expected each once, got mlp_out of layer 1, "),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            next(llama.pooled_batches(["a text"], places, norms=[True]))


def test_a_transform_is_fitted_at_a_site(llama: LayerwiseEncoder, sentences: list[str]) -> None:
    every = LayerwiseEncoder(llama.checkpoint, site="attn_out")
    X = every.encode(sentences)
    found = every.fit_transform(sentences, "center")
    np.testing.assert_allclose(found(X), X - X.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(every.fit_transform(sentences, "center", [-1]).bias, found.bias[2:], atol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 7])
@pytest.mark.parametrize("name", ["albert", "bert", "distilbert", "roberta"])
def test_a_feed_forward_in_chunks_gives_the_same_states(
    tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path, name: str, chunk_size: int
) -> None:
    """It saves memory in training; texts whose length is no multiple of a chunk would be an error."""
    folder = tmp_path / "chunked"
    shutil.copytree(tiny_model(name), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "chunk_size_feed_forward": chunk_size}))
    chunked, whole = LayerwiseEncoder(folder), LayerwiseEncoder(tiny_model(name))
    for site in ("resid_mid", "attn_out", "mlp_out", "resid_post"):
        np.testing.assert_array_equal(chunked.encode(sentences, site=site), whole.encode(sentences, site=site))
    np.testing.assert_allclose(MidLayerEncoder(folder, 2).encode(sentences), whole.encode(sentences)[:, 2], atol=1e-5)
