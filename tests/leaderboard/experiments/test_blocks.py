"""Sub-layers: every site of every block in one pass, against a pass and plain metrics of their own."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from support.architectures import FAMILIES, SENTENCES

from leaderboard.experiments import sublayers
from leaderboard.experiments.blocks import draw_sublayers, summary_sublayers
from midlayer_embed import LayerwiseEncoder, metrics
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model


def _curve(table: pl.DataFrame, site: str, metric: str) -> dict[int, float]:
    rows = table.filter(site=site, metric=metric, normalization="raw")
    return dict(zip(rows["layer"], rows["value"], strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_equals_metrics_of_its_own_vectors(family: str, tiny_folders: dict[str, Path]) -> None:
    every = LayerwiseEncoder(tiny_folders[family], final_norm=False)
    table = sublayers(every, SENTENCES, metrics=["effective_rank", "dataset_entropy"], batch_tokens=64)
    found = table["site"].unique(maintain_order=True).to_list()
    assert found == every.checkpoint.family.sites.available()  # type: ignore[union-attr]
    for site in found:
        vectors = every.encode(SENTENCES, site=site).swapaxes(0, 1)
        layers = list(range(1 if site != "resid_post" else 0, every.n_layers))
        curve = _curve(table, site, "dataset_entropy")
        assert list(curve) == layers
        np.testing.assert_allclose(list(curve.values()), metrics.dataset_entropy(vectors), rtol=1e-5, atol=1e-6)
        ranks = _curve(table, site, "effective_rank")
        expected = [metrics.effective_rank(one) for one in vectors.astype(np.float64)]
        np.testing.assert_allclose(list(ranks.values()), expected, rtol=1e-3)


def test_token_metrics_are_those_of_the_site(tiny_folders: dict[str, Path]) -> None:
    """By a hook on the module itself, text by text."""
    every = LayerwiseEncoder(tiny_folders["llama"], final_norm=False)
    table = sublayers(every, SENTENCES, ["mlp_out"], metrics=["prompt_entropy"])
    found: dict[int, list[torch.Tensor]] = {}
    handles = [
        block.mlp.register_forward_hook(lambda _m, _a, out, number=number: found.setdefault(number, []).append(out[0]))
        for number, block in enumerate(every.backbone.blocks, start=1)
    ]
    with torch.inference_mode():
        for text in SENTENCES:
            every.backbone.model(**every.backbone.tokenizer(text, return_tensors="pt"))
    for handle in handles:
        handle.remove()
    for layer, value in _curve(table, "mlp_out", "prompt_entropy").items():
        entropies = [float(metrics.prompt_entropy(states)) for states in found[layer] if len(states) > 1]
        assert value == pytest.approx(np.mean(entropies), abs=1e-5)


def test_neither_order_nor_duplicates_nor_batches_matter(tiny_folders: dict[str, Path]) -> None:
    texts = [*SENTENCES, SENTENCES[0]]
    one = sublayers(tiny_folders["gpt_neox"], texts)
    other = sublayers(tiny_folders["gpt_neox"], texts[::-1], batch_tokens=40)
    assert one.drop("value").equals(other.drop("value"))
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-4)
    assert one["n_texts"].unique().to_list() == [len(texts)]


def test_layers_sites_and_first_token_can_be_chosen(tiny_folders: dict[str, Path]) -> None:
    table = sublayers(tiny_folders["llama"], SENTENCES, ["attn_out", "resid_post"], layers=[0, -1], first_token=False)
    assert table.filter(site="attn_out")["layer"].unique().to_list() == [3]
    assert table.filter(site="resid_post")["layer"].unique().sort().to_list() == [0, 3]
    assert table["first_token"].unique().to_list() == [False]
    with_first = sublayers(tiny_folders["llama"], SENTENCES, ["attn_out"], layers=[-1])
    assert not np.allclose(table.filter(site="attn_out")["value"], with_first["value"])


def test_the_summary_finds_a_valley_and_the_figure_draws_from_the_file(tmp_path: Path) -> None:
    curves = {"resid_post": [9.0, 8, 2, 2, 2, 2, 6, 7], "attn_out": [1.0, 5, 5, 5, 5, 5, 5, 5]}
    rows = [
        ("m", "main", site, layer, layer / 8, "effective_rank", "raw", value)
        for site, values in curves.items()
        for layer, value in enumerate(values, start=1)
    ]
    names = ["model", "revision", "site", "layer", "depth", "metric", "normalization", "value"]
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(tmp_path / "t.parquet")
    table = pl.read_parquet(tmp_path / "t.parquet")
    found = {row["site"]: row for row in summary_sublayers(table).iter_rows(named=True)}
    assert found["resid_post"]["dip"] == pytest.approx((7 - 2) / 7)
    assert (found["resid_post"]["lowest"], found["resid_post"]["at_layer"]) == (2, 3)
    assert found["attn_out"]["dip"] == 0
    assert "attn_out" in str(draw_sublayers(table).to_dict())


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("gpt_neox", {"sites": ["resid_mid"]}, "site: this gpt_neox model has no resid_mid: attention and MLP"),
        ("mamba", {"sites": ["attn_out"]}, "site: this mamba model has no attn_out"),
        ("llama", {"sites": ["nowhere"]}, "site: expected one of resid_pre"),
        ("llama", {"sites": ["attn_out"], "layers": [0]}, "layers: layer 0 is what enters block 1"),
        ("llama", {"metrics": ["infonce"]}, "metrics: infonce needs more than"),
    ],
)
def test_mistakes(family: str, options: dict[str, list[str]], said: str, tiny_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError) as error:
        sublayers(tiny_folders[family], SENTENCES, **options)
    assert str(error.value).startswith(said)
