from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from support.tiny_models import plain_token_states
from transformers import AutoModel

from midlayer_embed import LayerwiseEncoder, metrics, profile_layers, select_layer, select_recipe
from midlayer_embed.selection.profile import Profile
from midlayer_embed.terms import PAPER_METRICS, n_views
from midlayer_embed.texts.corpora import sample_texts
from midlayer_embed.texts.views import augmented_views

TokenStates = Callable[[Path, str], list[torch.Tensor]]


@pytest.fixture(scope="module")
def corpus(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:3]]


@pytest.fixture(scope="module")
def profile(llama_folder: Path, corpus: list[str]) -> Profile:
    return profile_layers(llama_folder, corpus)


def test_corpus_metrics_are_those_of_the_pooled_vectors(
    llama_folder: Path, corpus: list[str], profile: Profile
) -> None:
    every = LayerwiseEncoder(llama_folder, final_norm=False)
    texts = sample_texts(corpus, None, tokenizer=every.backbone.tokenizer)
    vectors = every.encode(texts)
    views = np.stack([every.encode(view) for view in augmented_views(texts, n_views(PAPER_METRICS))])
    assert set(profile.values) == set(PAPER_METRICS)
    for layer in range(4):
        a, b = views[0, :, layer], views[1, :, layer]
        expected = {
            "dataset_entropy": metrics.dataset_entropy(vectors[:, layer]),
            "effective_rank": metrics.effective_rank(vectors[:, layer]),
            "infonce": metrics.infonce(a, b),
            "dime": metrics.dime(a, b),
            "lidar": metrics.lidar(views[:, :, layer].swapaxes(0, 1)),
        }
        for metric, value in expected.items():
            assert profile.values[metric][layer] == pytest.approx(float(value), abs=1e-4, rel=1e-4), metric


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
def test_token_metrics_are_means_over_each_text_alone(llama_folder: Path, corpus: list[str], final_norm: bool) -> None:
    norm = AutoModel.from_pretrained(llama_folder).norm if final_norm else torch.nn.Identity()
    values = []
    for text in corpus:
        with torch.inference_mode():
            tokens = [norm(states) for states in plain_token_states(llama_folder, text)]
        values.append([[float(f(z)) for z in tokens] for f in (metrics.prompt_entropy, metrics.curvature)])
    found = profile_layers(llama_folder, corpus, ["prompt_entropy", "curvature"], final_norm=final_norm).values
    np.testing.assert_allclose(list(found.values()), np.mean(values, axis=0), rtol=1e-4)


def test_numbers_depend_on_the_set_of_texts_and_the_seed_alone(
    llama_folder: Path, corpus: list[str], profile: Profile
) -> None:
    again = profile_layers(llama_folder, corpus[::-1], workers=2)
    small_batches = profile_layers(llama_folder, corpus, batch_tokens=64)
    for metric in PAPER_METRICS:
        np.testing.assert_array_equal(again.values[metric], profile.values[metric], err_msg=metric)
        np.testing.assert_allclose(small_batches.values[metric], profile.values[metric], rtol=1e-3, err_msg=metric)
    other = profile_layers(llama_folder, corpus, ["dime"], seed=1)
    assert np.abs(other.values["dime"] - profile.values["dime"]).max() > 1e-6


def test_a_metric_alone_is_the_same_as_among_others(llama_folder: Path, corpus: list[str], profile: Profile) -> None:
    for metric in PAPER_METRICS:
        alone = profile_layers(llama_folder, corpus, [metric]).values
        assert list(alone) == [metric]
        np.testing.assert_allclose(alone[metric], profile.values[metric], rtol=1e-4, err_msg=metric)


@pytest.mark.parametrize(
    ("metrics_", "texts", "views"),
    [(["prompt_entropy"], 8, 0), (["dime", "infonce"], 0, 2), (list(PAPER_METRICS), 8, 16)],
)
def test_no_text_and_no_view_goes_through_the_model_twice(
    llama_folder: Path,
    sentences: list[str],
    monkeypatch: pytest.MonkeyPatch,
    metrics_: list[str],
    texts: int,
    views: int,
) -> None:
    rows = []
    original = LayerwiseEncoder._started

    def counted(self: LayerwiseEncoder, batch: object, wanted: object) -> object:
        rows.extend(batch.rows)  # type: ignore[attr-defined]
        return original(self, batch, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(LayerwiseEncoder, "_started", counted)
    profile_layers(llama_folder, sentences * 3, metrics_)  # a text that is there three times goes through once
    distinct_views = {view for some in augmented_views(sentences, max(1, views)) for view in some} if views else set()
    assert len(rows) == texts + len(distinct_views)


def test_the_frame_has_a_row_a_layer_metric_and_normalization(profile: Profile, corpus: list[str]) -> None:
    frame = profile.to_frame()
    assert frame.columns == ["layer", "depth", "metric", "normalization", "value"]
    assert frame.filter(pl.col("layer") == 3)["depth"].unique().to_list() == [1.0]
    counts = dict(frame.group_by("metric").agg(pl.col("normalization").n_unique()).iter_rows())
    entropies = dict.fromkeys(["prompt_entropy", "dataset_entropy", "lidar", "dime"], 5)
    assert counts == {**entropies, "infonce": 2, "curvature": 1, "effective_rank": 1}
    bound = frame.filter(pl.col("normalization") == "mi_lower_bound")["value"].to_numpy()
    np.testing.assert_allclose(bound, np.log(len(corpus)) - profile.values["infonce"])


def test_normalised_curves_are_the_metrics_own(llama_folder: Path, corpus: list[str], profile: Profile) -> None:
    every = LayerwiseEncoder(llama_folder, final_norm=False)
    texts = sample_texts(corpus, None, tokenizer=every.backbone.tokenizer)
    vectors, views = every.encode(texts), np.stack([every.encode(view) for view in augmented_views(texts, 16)])
    for name in metrics.NORMALIZATIONS[1:]:
        for metric, value in {
            "dataset_entropy": metrics.dataset_entropy(vectors[:, 2], normalization=name),
            "dime": metrics.dime(views[0, :, 2], views[1, :, 2], normalization=name),
            "lidar": metrics.lidar(views[:, :, 2].swapaxes(0, 1), normalization=name),
        }.items():
            assert profile.normalized[metric, name][2] == pytest.approx(float(value), rel=1e-4), (metric, name)


def test_normalised_prompt_entropy_divides_by_each_text_s_own_tokens(llama_folder: Path, sentences: list[str]) -> None:
    found = profile_layers(llama_folder, sentences, ["prompt_entropy"]).normalized
    for name in metrics.NORMALIZATIONS[1:]:
        values = []
        for text in sentences:
            tokens = plain_token_states(llama_folder, text)
            if len(tokens[1]) > 1:
                values.append(float(metrics.prompt_entropy(tokens[1], normalization=name)))
        assert found["prompt_entropy", name][1] == pytest.approx(np.mean(values), rel=1e-4)


def test_which_states_are_measured(llama_folder: Path, sentences: list[str]) -> None:
    raw, normed = (LayerwiseEncoder(llama_folder, final_norm=norm) for norm in (False, True))

    def entropy(model: Path | LayerwiseEncoder, **keywords: bool) -> np.ndarray:
        return profile_layers(model, sentences, ["dataset_entropy"], **keywords).values["dataset_entropy"]

    np.testing.assert_array_equal(entropy(llama_folder), entropy(raw))
    np.testing.assert_array_equal(entropy(llama_folder, final_norm=True), entropy(normed))
    np.testing.assert_array_equal(entropy(normed, final_norm=False), entropy(raw))
    assert np.abs(entropy(normed) - entropy(raw)).max() > 1e-3


@pytest.mark.parametrize("texts", [["one text alone"], ["the same text"] * 2, ["word"] * 3, ["a b", "c d"]])
def test_few_and_equal_texts_give_the_limits(llama_folder: Path, texts: list[str]) -> None:
    found = profile_layers(llama_folder, texts)
    for metric in ("dataset_entropy", "infonce", "lidar", "dime", "effective_rank"):
        assert np.isfinite(found.values[metric]).all(), metric
    if len(set(texts)) == 1:
        np.testing.assert_allclose(found.values["dataset_entropy"], 0, atol=1e-9)
        np.testing.assert_allclose(found.values["effective_rank"], 1, atol=1e-4)


def test_texts_of_one_token_have_no_token_metric(llama_folder: Path) -> None:
    found = profile_layers(llama_folder, ["a", "b", "c"], ["prompt_entropy", "curvature", "dataset_entropy"])
    assert np.isnan(found.values["prompt_entropy"]).all() and np.isnan(found.values["curvature"]).all()
    assert (found.values["dataset_entropy"] > 0).all()


@pytest.mark.parametrize("metric", ["dataset_entropy", "prompt_entropy", "dime"])
def test_states_that_are_not_finite_are_told_with_their_layer(
    llama_folder: Path, sentences: list[str], metric: str
) -> None:
    every = LayerwiseEncoder(llama_folder)
    with torch.no_grad():
        every.backbone.blocks[1].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"layer 2: [ZA]: holds NaN or infinity"):
        profile_layers(every, sentences, [metric])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"metrics": ["dime", "depth"]}, "metrics: expected some of prompt_entropy, .*, got 'depth'"),
        ({"metrics": []}, "metrics: .* got none"),
        ({"normalizations": ["logX"]}, "normalizations: .* got 'logX'"),
        ({"texts": []}, "texts: expected at least one usable text"),
        ({"max_texts": 0}, "max_texts: "),
        ({"seed": -1}, "seed: "),
        ({"alpha": 0}, "^alpha: "),
        ({"temperature": 0, "metrics": ["curvature"]}, "^temperature: "),
        ({"rates": "many"}, "rates: "),
    ],
)
def test_mistakes_are_named(llama_folder: Path, sentences: list[str], keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile_layers(llama_folder, **{"texts": sentences, **keywords})


def test_settings_of_an_encoder_are_given_where_it_is_made(llama_folder: Path, sentences: list[str]) -> None:
    with pytest.raises(ValueError, match="max_seq_length: pass settings of a LayerwiseEncoder to its constructor"):
        profile_layers(LayerwiseEncoder(llama_folder), sentences, max_seq_length=8)


def test_parquet_says_what_the_numbers_depend_on(profile: Profile, tmp_path: Path) -> None:
    profile.to_parquet(tmp_path / "profile.parquet")
    frame = pl.read_parquet(tmp_path / "profile.parquet")
    assert frame.select("layer", "depth", "metric", "normalization", "value").equals(profile.to_frame())
    assert frame.select("model", "n_texts", "final_norm", "seed").unique().rows() == [
        ("local/tiny-llama", 24, False, 0)
    ]


def test_scratch_files_go_when_the_numbers_are_there(
    llama_folder: Path, sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile_layers(llama_folder, sentences, ["dime"])
    assert not list(tmp_path.iterdir())


def test_no_room_for_the_views_is_one_line(
    llama_folder: Path, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(
        ValueError, match=r"views: their vectors need .* GB .* No space left on device; measure fewer texts"
    ):
        profile_layers(llama_folder, sentences, ["dime"])


@pytest.mark.parametrize("site", ["resid_pre", "attn_out"])
def test_metrics_of_a_site_are_those_of_its_states(
    llama_folder: Path, corpus: list[str], tmp_path: Path, site: str
) -> None:
    every = LayerwiseEncoder(llama_folder, final_norm=False, site=site)
    found = profile_layers(every, corpus)
    assert (found.site, found.n_layers) == (site, 4)
    texts = sample_texts(corpus, None, tokenizer=every.backbone.tokenizer)
    vectors = every.encode(texts)
    views = np.stack([every.encode(view) for view in augmented_views(texts, 2)])
    for layer in (1, 2, 3):
        a, b = views[0, :, layer - 1], views[1, :, layer - 1]
        assert found.values["dataset_entropy"][layer] == pytest.approx(metrics.dataset_entropy(vectors[:, layer - 1]))
        assert found.values["dime"][layer] == pytest.approx(float(metrics.dime(a, b)), rel=1e-4)
    for curve in (*found.values.values(), *found.normalized.values()):
        assert curve.shape == (4,) and np.isnan(curve[0]) and not np.isnan(curve[1:]).any()
    of_path = profile_layers(llama_folder, corpus, ["dataset_entropy"], site=site)
    np.testing.assert_array_equal(of_path.values["dataset_entropy"], found.values["dataset_entropy"])
    if site == "resid_pre":  # the input of a block is the output of the one below
        plain = profile_layers(llama_folder, corpus, ["prompt_entropy", "dime"])
        for metric, curve in plain.values.items():
            np.testing.assert_allclose(found.values[metric][1:], curve[:-1], rtol=1e-6, err_msg=metric)
    frame = found.to_frame()
    assert frame["layer"].to_list()[:4] == [0, 1, 2, 3] and frame["depth"].to_list()[:2] == [0, pytest.approx(1 / 3)]
    found.to_parquet(tmp_path / "profile.parquet")
    written = pl.read_parquet(tmp_path / "profile.parquet")
    assert written["site"].unique().to_list() == [site]
    assert written["final_norm"].unique().to_list() == [False]


def test_agreement_of_a_site_is_that_of_blocks_next_to_each_other(llama_folder: Path, corpus: list[str]) -> None:
    every = LayerwiseEncoder(llama_folder, final_norm=False)
    plain = profile_layers(every, corpus, ["agreement"]).values["agreement"]
    pre = profile_layers(llama_folder, corpus, ["agreement"], site="resid_pre").values["agreement"]
    np.testing.assert_allclose(pre[2], plain[1])  # layers 0 to 2 of one are layers 1 to 3 of the other
    assert np.isnan(pre[0])


@pytest.mark.parametrize("site", ["attn_out", "resid_pre"])
def test_only_layers_are_chosen(llama_folder: Path, corpus: list[str], site: str) -> None:
    why = rf"^site: only a layer \(resid_post\) can be chosen, because stock models .* not {site}"
    every = LayerwiseEncoder(llama_folder, site=site)
    for choose in (
        lambda: select_layer(every, corpus),
        lambda: select_layer(llama_folder, corpus, site=site),
        lambda: select_recipe(every, corpus),
        lambda: select_recipe(llama_folder, corpus, site=site),
    ):
        with pytest.raises(ValueError, match=why):
            choose()
