"""A tiny training run, who is measured, and a published table."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from leaderboard.experiments.profiles import measure
from midlayer_embed import profile_layers


@pytest.fixture(scope="session")
def run_folder(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four checkpoints of the tiny GPT-NeoX, each with more noise in the weights of its middle block."""
    run = tmp_path_factory.mktemp("runs") / "tiny-run"
    for number, name in enumerate(["step16", "main", "step2", "step1"]):
        folder = Path(shutil.copytree(tiny_model("gpt_neox"), run / name))
        weights = load_file(folder / "model.safetensors")
        noise = torch.Generator().manual_seed(number)
        for key, value in weights.items():
            if ".1." in key and value.ndim == 2:
                weights[key] = value + 0.1 * number * torch.randn(value.shape, generator=noise)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return run


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders of models that are measured."""
    measured: list[str] = []

    def noted(model: Any, *args: Any, **options: Any) -> Any:
        checkpoint = getattr(model, "checkpoint", model)
        measured.append(Path(checkpoint.location).name)
        return profile_layers(model, *args, **options)

    monkeypatch.setattr(measure, "profile_layers", noted)
    return measured


@pytest.fixture
def published_file(tmp_path: Path) -> Path:
    rows = [
        ("Pythia-70m", revision, metric, layer, value + layer)
        for revision, value in (("main", 3.0), ("step10", 1.0), ("step2", 2.0))
        for metric in ("entropy_prompt", "infonce", "intrinsic_dimension")
        for layer in range(3)
    ]
    rows += [("Pythia-70m", "main", "entropy_prompt", 0, 5.0)]  # of a second run
    rows += [("Pythia-1.4b", "main", "entropy_sentence", layer, 1.0) for layer in range(2)]
    table = pl.DataFrame(rows, schema=["model", "revision", "metric", "layer", "value"], orient="row")
    table.with_columns(normalization=pl.lit("raw")).write_csv(tmp_path / "published.csv")
    return tmp_path / "published.csv"
