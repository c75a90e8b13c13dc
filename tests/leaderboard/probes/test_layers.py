"""`probe_layers`: from images and labels to a table, with the states of a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from leaderboard.probes import attention_probe, linear_probe, probe_layers
from leaderboard.probes.arguments import split_test
from leaderboard.probes.files import save_probes
from leaderboard.probes.table import SCHEMA, curves_of, summary_of
from midlayer_embed import ImageLayerwiseEncoder
from midlayer_embed.forward.inputs.images import ImageInputs

RNG = np.random.default_rng(0)
LABELS = np.arange(24) % 2
IMAGES = [RNG.integers(0, 100, (20, 20, 3), dtype=np.uint8) + np.uint8(100 * label) for label in LABELS]
OPTIONS: dict[str, Any] = {"heads": 2, "epochs": 3, "metrics": ["curvature", "dataset_entropy"], "device": "cpu"}


@pytest.fixture
def model(tiny_image_model: Callable[[str], Path]) -> Path:
    return tiny_image_model("vit")


def test_a_table_says_what_the_probes_of_the_states_say(model: Path) -> None:
    table = probe_layers(model, IMAGES, LABELS, **OPTIONS)
    every = ImageLayerwiseEncoder(model, device="cpu")
    assert table.columns == [*SCHEMA, *OPTIONS["metrics"]]
    assert table["layer"].to_list() == [*every.layers, *every.layers]
    tokens = np.concatenate([states.numpy() for _, states, _ in every.token_batches(IMAGES)], axis=1).swapaxes(0, 1)
    attention = attention_probe(tokens, LABELS, heads=2, epochs=3, device="cpu")
    assert table.filter(probe="attention")["accuracy"].to_list() == attention.tolist()
    assert table.filter(probe="linear")["accuracy"].to_list() == linear_probe(every.encode(IMAGES), LABELS).tolist()
    train, test = split_test(LABELS, 0)
    assert table.select("n_train", "n_test", "n_classes").unique().rows() == [(len(train), len(test), 2)]
    assert table["curvature"].is_finite().all()
    assert table.filter(probe="linear").select(pl.col("heads", "epochs").is_null().all()).row(0) == (True, True)


def test_both_probes_take_one_pass(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    stream = ImageInputs.stream

    def counted(self: ImageInputs, items: Any, *args: Any, **kwargs: Any) -> Any:
        passes.append(len(items))
        return stream(self, items, *args, **kwargs)

    monkeypatch.setattr(ImageInputs, "stream", counted)
    probe_layers(model, IMAGES, LABELS, **{**OPTIONS, "metrics": []})
    assert passes == [1, len(IMAGES)]  # the first image says how many patches there are


@pytest.mark.slow
def test_states_that_do_not_fit_the_store_are_computed_again(model: Path) -> None:
    some: dict[str, Any] = {**OPTIONS, "metrics": [], "probes": ["attention"], "window": 2}
    kept = probe_layers(model, IMAGES, LABELS, **some)
    streamed = probe_layers(model, IMAGES, LABELS, **some, store_budget=1)
    assert kept.equals(streamed)


def test_a_window_is_the_mean_of_its_layers(model: Path) -> None:
    every = ImageLayerwiseEncoder(model, device="cpu", final_norm=False)
    some: dict[str, Any] = {**OPTIONS, "window": 2}
    del some["device"]
    table = probe_layers(every, IMAGES, LABELS, **some).filter(pl.col("window") == 2)
    n = every.n_layers
    assert table["layers"].to_list() == [f"{k}-to-{k + 1}" for k in range(n - 1)] * 2
    assert table["depth"][0] == pytest.approx(0.5 / (n - 1))
    assert table["curvature"].is_null().all()
    tokens = np.concatenate([states.numpy() for _, states, _ in every.token_batches(IMAGES)], axis=1).swapaxes(0, 1)
    means = (tokens[:, :-1] + tokens[:, 1:]) / 2
    attention = attention_probe(means, LABELS, heads=2, epochs=3, device="cpu")
    assert table.filter(probe="attention")["accuracy"].to_list() == attention.tolist()
    vectors = every.encode(IMAGES)
    linear = linear_probe((vectors[:, :-1] + vectors[:, 1:]) / 2, LABELS)
    assert table.filter(probe="linear")["accuracy"].to_list() == linear.tolist()


def test_images_to_test_on_are_not_trained_on(model: Path) -> None:
    table = probe_layers(
        model, IMAGES[:16], LABELS[:16], test_images=IMAGES[16:], test_labels=LABELS[16:], probes=["linear"], metrics=[]
    )
    vectors = ImageLayerwiseEncoder(model).encode(IMAGES)
    expected = linear_probe(vectors[:16], LABELS[:16], vectors[16:], LABELS[16:])
    assert table["accuracy"].to_list() == expected.tolist()
    assert table.select("n_train", "n_test", "n_metric_images").row(0) == (16, 8, None)


def test_finished_models_are_taken_from_the_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some: dict[str, Any] = {**OPTIONS, "metrics": [], "folder": tmp_path}
    first = probe_layers(model, IMAGES, LABELS, **some)
    monkeypatch.setattr("leaderboard.probes.layers.linear_probe", None)
    assert probe_layers(model, IMAGES, LABELS, **some).equals(first)
    for change in ({"seed": 1}, {"window": 2}, {"lr": 1e-2}):
        with pytest.raises(TypeError, match="not callable"):
            probe_layers(model, IMAGES, LABELS, **{**some, **change})
    with pytest.raises(TypeError, match="not callable"):
        probe_layers(model, IMAGES, 1 - LABELS, **some)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probes": ["knn"]}, "probes: expected some of attention, linear, got knn"),
        ({"probes": []}, "probes: expected some of attention, linear, got none"),
        ({"window": 1}, "window: expected an int of at least 2, got 1"),
        ({"window": 99}, r"window: the model has \d layers, got 99"),
        ({"metrics": ["colour"]}, "metrics: expected some of"),
        ({"labels": LABELS[1:]}, "labels: expected one for each of the 24 images, got 23"),
        ({"images": []}, "labels: expected one for each of the 0 images, got 24"),
        ({"test_images": IMAGES}, "test_labels: test_images and test_labels belong together"),
        ({"test_images": [], "test_labels": []}, "test_images: expected at least one, got none"),
        ({"heads": 7}, "heads: expected a number that divides"),
        ({"models": []}, "models: expected at least one, got none"),
        ({"store_budget": "much"}, "store_budget: expected bytes such as 20GB, got 'much'"),
    ],
)
def test_mistakes_are_told_in_a_line(model: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        probe_layers(**{"models": model, "images": IMAGES, "labels": LABELS, **OPTIONS, **change})
    assert "\n" not in str(error.value)


def test_a_model_twice_and_a_model_of_texts_are_told(model: Path, llama_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"models: local/\S+ is given twice"):
        probe_layers([model, model], IMAGES, LABELS, **{**OPTIONS, "metrics": [], "probes": ["linear"]})
    with pytest.raises(ValueError, match="takes texts; probes are trained on images"):
        probe_layers(llama_folder, IMAGES, LABELS)


def test_files_show_accuracies_before_metrics(model: Path, tmp_path: Path) -> None:
    table = probe_layers(model, IMAGES, LABELS, **OPTIONS, window=2)
    assert curves_of(table)["panel"].unique(maintain_order=True).to_list() == [
        "attention probe (accuracy, %)",
        "attention probe, 2 layers (accuracy, %)",
        "linear probe (accuracy, %)",
        "linear probe, 2 layers (accuracy, %)",
        "curvature (radians)",
        "dataset entropy (nats)",
    ]
    summary = summary_of(table)
    assert summary.columns == ["model", "probe", "window", "best_layer", "best", "last", "lost_by_the_last"]
    assert len(summary) == 4
    files = save_probes(table, tmp_path / "out")
    assert [path.name for path in files] == ["probe.parquet", "probe.png", "probe.svg", "index.html"]
    assert all(path.stat().st_size for path in files)
    assert pl.read_parquet(files[0]).equals(table)
    assert "attention" in files[3].read_text(encoding="utf-8")
