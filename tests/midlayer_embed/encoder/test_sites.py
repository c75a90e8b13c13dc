"""Encoders of a site within a block: they encode as the layer-wise encoder does, and are never saved."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, select_layer
from midlayer_embed.encoder.export import export_encoder
from midlayer_embed.errors import InputError

_WHY = "stock models return the output of whole blocks, not"


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
@pytest.mark.parametrize(
    "name",
    ["llama", "gpt_neox", "bert", "mamba", "gemma2", "albert-groups", "falcon", "opt-projected", "t5", "umt5"],
)
def test_every_site_of_every_layer_equals_the_layerwise_encoder(
    tiny_model: Callable[[str], Path], sentences: list[str], name: str, final_norm: bool
) -> None:
    folder = tiny_model(name)
    every = LayerwiseEncoder(folder, final_norm=final_norm)
    assert every.backbone.sites is not None
    for site in set(every.backbone.sites.available()) - {"resid_post"}:
        expected = every.encode(sentences, [1, 2, 3], site=site)
        for layer in (1, 2, 3):
            encoder = MidLayerEncoder(folder, layer, site=site, final_norm=final_norm)
            assert encoder.recipe.site == site
            found = encoder.encode([*sentences, sentences[0]])
            np.testing.assert_allclose(found[:-1], expected[:, layer - 1], atol=1e-5, err_msg=f"{site} {layer}")
            np.testing.assert_array_equal(found[-1], found[0])


def test_blocks_above_the_site_are_not_loaded(llama_folder: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, site="attn_out")
    assert len(encoder.transformers_model.layers) == 2


def test_copies_and_pickles_give_the_same_vectors(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, site="attn_out")
    expected = encoder.encode(sentences)
    for copy in (deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        np.testing.assert_array_equal(copy.encode(sentences), expected)
        copy.half()  # a copy is a model of its own
    np.testing.assert_array_equal(encoder.encode(sentences), expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.transformers_model.modules())


@pytest.mark.process
def test_processes_of_a_pool_give_the_same_vectors(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, site="attn_out")
    pool = encoder.start_multi_process_pool(["cpu", "cpu"])
    try:
        found = encoder.encode(sentences, pool=pool)
    finally:
        encoder.stop_multi_process_pool(pool)
    np.testing.assert_allclose(found, encoder.encode(sentences), atol=1e-5)


def test_what_comes_after_pooling_and_before_the_model_is_as_at_a_layer(
    llama_folder: Path, sentences: list[str]
) -> None:
    options: dict[str, Any] = {"template": "echo", "pooling_mode": "mean+max", "site": "mlp_out"}
    every = LayerwiseEncoder(llama_folder, **options)
    encoder = MidLayerEncoder(llama_folder, 2, transform="standardize", transform_texts=sentences, **options)
    X = every.encode(sentences, [2])[:, 0]
    np.testing.assert_allclose(encoder.encode(sentences), (X - X.mean(axis=0)) / X.std(axis=0), atol=1e-4)
    of_all = every.fit_transform(sentences, "standardize")
    np.testing.assert_allclose(of_all(every.encode(sentences))[:, 1], encoder.encode(sentences), atol=1e-4)
    from_all = MidLayerEncoder(llama_folder, 2, transform=of_all, **options)
    np.testing.assert_allclose(from_all.encode(sentences), encoder.encode(sentences), atol=1e-4)


def test_the_empty_text_is_zero(llama_folder: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, site="attn_out")
    assert not encoder.encode("").any()
    assert not encoder.encode(["", "a text"])[0].any()


def test_results_of_a_site_have_a_name_of_their_own(llama_folder: Path) -> None:
    names = [
        MidLayerEncoder(llama_folder, 2, site=site).model_card_data.model_name for site in ("attn_out", "resid_post")
    ]
    assert names[0] == names[1].replace("layer=2", "layer=2, site=attn_out") != names[1]


@pytest.mark.parametrize("method", ["save", "save_pretrained", "push_to_hub", "export"])
def test_a_site_is_not_saved(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, site="attn_out")
    calls: list[str] = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_args, **_keywords: calls.append("create_repo"))
    with pytest.raises(InputError, match=rf"^site: only a layer \(resid_post\) can be saved, because {_WHY} attn_out"):
        if method == "export":
            export_encoder(encoder, tmp_path / "out")
        else:
            getattr(encoder, method)(str(tmp_path / "out") if method != "push_to_hub" else "org/model")
    assert not list(tmp_path.iterdir())
    assert not calls


def test_a_site_is_not_chosen(llama_folder: Path, sentences: list[str]) -> None:
    selection = select_layer(llama_folder, sentences, "min-entropy")
    for layer in ("min-entropy", "last", selection):
        with pytest.raises(InputError, match=rf"^site: only a layer \(resid_post\) can be chosen, because {_WHY}"):
            MidLayerEncoder(llama_folder, layer, selection_texts=sentences, site="attn_out")


@pytest.mark.parametrize("layer", [0, 0.0, -4])
def test_layer_0_has_no_site(llama_folder: Path, layer: float) -> None:
    with pytest.raises(
        InputError, match="^layer: 0 is what enters block 1 and has no attn_out; expected a layer from 1 to 3$"
    ):
        MidLayerEncoder(llama_folder, layer, site="attn_out")


def test_a_site_that_the_model_does_not_have(tiny_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="^site: this gpt_neox model has no resid_mid: "):
        MidLayerEncoder(tiny_folders["gpt_neox"], 2, site="resid_mid")
