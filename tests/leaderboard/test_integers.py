"""Every argument of both packages that `check_int` guards is tried with bad values, through a function of its table."""

import ast
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leaderboard import run_sweep
from leaderboard.cli import main as leaderboard_main
from leaderboard.experiments import (
    alpha_curves,
    compare_models,
    prompt_length,
    repetition,
    sequence_length,
    sublayers,
)
from leaderboard.experiments.profiles.training import Training, train_checkpoints
from leaderboard.probes import linear_probe, probe_layers
from leaderboard.probes.arguments import Settings, check_window
from leaderboard.sweep.arguments import check_jobs
from leaderboard.sweep.executors.arguments import check_workers, make_executor
from leaderboard.tasks.names import check_limit
from midlayer_embed import (
    LayerwiseEncoder,
    MidLayerEncoder,
    SavedEncoder,
    fit_transform,
    metrics,
    profile_layers,
    select_layer,
    select_recipe,
)
from midlayer_embed.cli import main
from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import token_budget
from midlayer_embed.forward.inputs.images import ImageInputs
from midlayer_embed.ground.checks import check_int
from midlayer_embed.images.views import augmented_pictures
from midlayer_embed.options import Recipe
from midlayer_embed.texts.corpora import sample_texts
from midlayer_embed.texts.prompts import cut_tokens, repeat_tokens
from midlayer_embed.texts.tokens import TokenIds
from midlayer_embed.texts.views import augmented_views

VIEWS = np.eye(4)
TEXTS: dict[str, Any] = {"texts": ["a"], "tokenizer": None}
TOKENS = TokenIds.of([[1, 2, 3]])
FREE = np.zeros(3, dtype=bool)
SAVED = SavedEncoder.__new__(SavedEncoder)  # of no folder: the size of a batch is checked first
IMAGES = ImageInputs.__new__(ImageInputs)  # of no model: what is drawn is checked first
Place = tuple[str, str]  # the module that checks, the name of the argument


def _settings(name: str, value: Any, _folder: Path) -> Any:
    return Settings(**{name: value}).checked()


def _trained(name: str, value: Any, folder: Path) -> object:
    return train_checkpoints(folder / "results", ["a"], Training(**{name: value}))


# For each place its bound, and a call with a value and the folder of a model.
FUNCTIONS: dict[Place, tuple[int, Callable[[Any, Path], object]]] = {
    ("midlayer_embed.metrics.invariance", "n_permutations"): (
        1,
        lambda value, _: metrics.dime(VIEWS, VIEWS, n_permutations=value),
    ),
    ("midlayer_embed.metrics.invariance", "seed"): (0, lambda value, _: metrics.dime(VIEWS, VIEWS, seed=value)),
    ("midlayer_embed.options", "layer"): (0, lambda value, _: Recipe(layer=value)),
    ("midlayer_embed.options", "dim"): (1, lambda value, _: Recipe(transform="whiten", dim=value)),
    ("midlayer_embed.options", "max_seq_length"): (
        1,
        lambda value, folder: LayerwiseEncoder(folder, max_seq_length=value),
    ),
    ("midlayer_embed.forward.batching", "batch_tokens"): (
        1,
        lambda value, _: token_budget(value, torch.device("cpu")),
    ),
    ("midlayer_embed.texts.corpora", "max_texts"): (1, lambda value, _: sample_texts(max_texts=value, seed=0, **TEXTS)),
    ("midlayer_embed.texts.corpora", "min_tokens"): (
        1,
        lambda value, _: sample_texts(max_texts=1, min_tokens=value, seed=0, **TEXTS),
    ),
    ("midlayer_embed.texts.corpora", "seed"): (0, lambda value, _: sample_texts(max_texts=1, seed=value, **TEXTS)),
    ("midlayer_embed.texts.views", "n_views"): (1, lambda value, _: augmented_views(["a"], value)),
    ("midlayer_embed.texts.views", "seed"): (0, lambda value, _: augmented_views(["a"], seed=value)),
    ("midlayer_embed.texts.views", "workers"): (1, lambda value, _: augmented_views(["a"], workers=value)),
    ("midlayer_embed.selection.select", "n_resamples"): (
        0,
        lambda value, folder: select_layer(folder, ["a", "b"], n_resamples=value),
    ),
    ("midlayer_embed.forward.inputs.text", "min_tokens"): (
        1,
        lambda value, folder: profile_layers(folder, ["a", "b"], ["curvature"], min_tokens=value, first_token=False),
    ),
    ("midlayer_embed.selection.recipe_search", "n_resamples"): (
        0,
        lambda value, folder: select_recipe(folder, ["a b", "b c"], n_resamples=value),
    ),
    ("midlayer_embed.metrics.distances", "k"): (1, lambda value, _: metrics.neighbour_agreement(VIEWS, VIEWS, k=value)),
    ("midlayer_embed.saved.encoder", "threads"): (1, lambda value, folder: SavedEncoder(folder, threads=value)),
    ("midlayer_embed.saved.encoder", "batch_size"): (1, lambda value, _: SAVED.encode([], batch_size=value)),
    ("midlayer_embed.encoder.sentence_transformer", "truncate_dim"): (
        1,
        lambda value, folder: MidLayerEncoder(folder, 1, truncate_dim=value),
    ),
    ("midlayer_embed.encoder.sentence_transformer", "max_seq_length"): (
        1,
        lambda value, folder: setattr(MidLayerEncoder(folder, 1), "max_seq_length", value),
    ),
    ("midlayer_embed.recipes.names", "dim"): (1, lambda value, _: fit_transform(VIEWS, "whiten", dim=value)),
    ("midlayer_embed.texts.prompts", "length"): (1, lambda value, _: cut_tokens(TOKENS, value)),
    ("midlayer_embed.texts.prompts", "seed"): (0, lambda value, _: repeat_tokens(TOKENS, 0.5, FREE, seed=value)),
    ("leaderboard.sweep.executors.arguments", "workers"): (1, lambda value, _: check_workers(value)),
    ("leaderboard.sweep.executors.arguments", "cpus"): (
        1,
        lambda value, folder: make_executor("local", logs=folder, cpus=value),
    ),
    ("leaderboard.experiments.alpha", "n_eigenvalues"): (1, lambda value, _: alpha_curves(n_eigenvalues=value)),
    ("leaderboard.experiments.blocks", "seed"): (0, lambda value, folder: sublayers(folder, ["a"], seed=value)),
    ("leaderboard.experiments.grids", "lengths"): (2, lambda value, folder: prompt_length(folder, ["a"], [value])),
    ("leaderboard.experiments.prefixes", "seed"): (0, lambda value, folder: sequence_length(folder, ["a"], seed=value)),
    ("leaderboard.experiments.prompts", "seed"): (0, lambda value, folder: repetition(folder, ["a"], seed=value)),
    ("leaderboard.experiments.profiles.measure", "max_texts"): (
        1,
        lambda value, folder: compare_models([folder], ["a"], max_texts=value),
    ),
    ("leaderboard.experiments.profiles.measure", "min_tokens"): (
        1,
        lambda value, folder: compare_models([folder], ["a"], min_tokens=value),
    ),
    ("leaderboard.experiments.profiles.measure", "seed"): (
        0,
        lambda value, folder: compare_models([folder], ["a"], seed=value),
    ),
    **{
        ("leaderboard.experiments.profiles.training", name): (1, partial(_trained, name))
        for name in ("n_steps", "n_blocks", "context", "batch_size")
    },
    **{
        ("leaderboard.probes.arguments", name): (bound, partial(_settings, name))
        for name, bound in {"heads": 1, "batch_size": 1, "epochs": 1, "patience": 1, "seed": 0}.items()
    },
    ("leaderboard.probes.arguments", "window"): (2, lambda value, _: check_window(value)),
    ("leaderboard.probes.layers", "max_metric_images"): (
        2,
        lambda value, folder: probe_layers(folder, [], [], max_metric_images=value),
    ),
    ("leaderboard.probes.linear", "seed"): (0, lambda value, _: linear_probe(VIEWS, [0, 1, 0, 1], seed=value)),
    ("midlayer_embed.images.views", "n_views"): (1, lambda value, _: augmented_pictures([], value)),
    ("midlayer_embed.images.views", "seed"): (0, lambda value, _: augmented_pictures([], seed=value)),
    ("midlayer_embed.forward.inputs.images", "max_texts"): (1, lambda value, _: IMAGES.sample([], value)),
    ("midlayer_embed.forward.inputs.images", "min_tokens"): (
        1,
        lambda value, _: IMAGES.sample([], None, min_tokens=value),
    ),
    ("midlayer_embed.forward.inputs.images", "seed"): (0, lambda value, _: IMAGES.sample([], None, seed=value)),
    ("leaderboard.tasks.names", "limit"): (2, lambda value, _: check_limit(value)),
    ("leaderboard.sweep.arguments", "jobs"): (1, lambda value, _: check_jobs(value)),
    ("leaderboard.sweep.arguments", "seed"): (
        0,
        lambda value, folder: run_sweep(folder, "starter", folder / "results", seed=value),
    ),
    ("leaderboard.sweep.arguments", "metric_texts"): (
        2,
        lambda value, folder: run_sweep(folder, "starter", folder / "results", metric_texts=value),
    ),
    ("leaderboard.sweep.arguments", "fit_texts"): (
        2,
        lambda value, folder: run_sweep(folder, "starter", folder / "results", fit_texts=value),
    ),
}
# Commands get their ints from argparse, which refuses other types.
COMMANDS: dict[Place, tuple[int, Callable[[list[str]], int], list[str]]] = {
    ("midlayer_embed.cli.parser", "seed"): (0, leaderboard_main, ["report", "results", "--seed"]),
    ("midlayer_embed.cli.early", "max_texts"): (1, main, ["select", "starter", "--starter-texts", "--max-texts"]),
    ("midlayer_embed.cli.early", "min_tokens"): (1, main, ["select", "starter", "--starter-texts", "--min-tokens"]),
    ("leaderboard.cli.probe", "metric_images"): (
        2,
        leaderboard_main,
        ["probe", "model", "--images", "images", "--labels", "folders", "--out", "out", "--metric-images"],
    ),
    ("midlayer_embed.cli.encode", "batch_tokens"): (
        1,
        main,
        ["encode", "starter", "--layer", "1", "--input", "texts.txt", "--output", "vectors.npy", "--batch-tokens"],
    ),
}


def _checked() -> dict[Place, int]:
    """Every place that calls `check_int` or `check_optional_int`, with its bound, out of the source."""
    found = {}
    for package in ("midlayer_embed", "leaderboard"):
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        root = Path(spec.origin).parent
        for path in root.rglob("*.py"):
            if path == root / "ground" / "checks.py":
                continue
            module = ".".join((package, *path.relative_to(root).with_suffix("").parts))
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and re.match(r"check_(optional_)?int$", getattr(node.func, "id", "")):
                    name, _, bound = (*node.args, *(keyword.value for keyword in node.keywords))
                    found[module, ast.literal_eval(name)] = ast.literal_eval(bound)
    return found


def test_every_place_that_checks_an_int_is_tried_here() -> None:
    assert _checked() == {place: bound for place, (bound, *_) in (FUNCTIONS | COMMANDS).items()}


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_a_bad_int_is_refused_with_its_name_and_bound(module: str, name: str, llama_folder: Path) -> None:
    bound, call = FUNCTIONS[module, name]
    for value in (True, "3", 2.5, np.float64(3), bound - 1):
        message = re.escape(f"{name}: expected an int of at least {bound}, got {value!r}")
        with pytest.raises(InputError, match=f"^{message}$") as refused:
            call(value, llama_folder)
        assert isinstance(refused.value, TypeError) == (type(value) is not int), value
    assert not (llama_folder / "results").exists()


@pytest.mark.parametrize(("module", "name"), COMMANDS)
def test_a_bad_int_of_a_command_is_a_mistake(
    module: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound, command, arguments = COMMANDS[module, name]
    monkeypatch.chdir(tmp_path)
    assert command([*arguments, str(bound - 1)]) == 2
    assert f"{name}: expected an int of at least {bound}, got {bound - 1}\n" in capsys.readouterr().err


def test_integers_of_numpy_become_ints() -> None:
    found = check_int("n", np.int64(3), 1)
    assert found == 3 and type(found) is int
