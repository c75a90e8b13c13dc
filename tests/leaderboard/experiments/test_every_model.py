"""Every experiment takes every kind of model: Pythia-like, Mamba, BERT, Llama, and a Llama made like LLM2Vec."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.architectures import N_BLOCKS, SENTENCES

from leaderboard.experiments.files import save
from leaderboard.experiments.names import EXPERIMENTS
from midlayer_embed.terms import METRICS

pytestmark = pytest.mark.model

_KINDS = ("gpt_neox", "mamba", "bert", "llama", "llm2vec")
_KEYWORDS: dict[str, dict[str, Any]] = {
    "checkpoints": {"metrics": ["prompt_entropy", "dime"]},
    "compare_models": {"metrics": ["prompt_entropy", "infonce"]},
    "sequence_length": {"lengths": [4, 6]},
    "repetition": {"p": [0, 0.5]},
    "randomness": {"p": [0, 0.5]},
    "prompt_length": {"lengths": [4, 6]},
    "sublayers": {},
    "alpha_curves": {"alphas": [0.5, 1, 2]},
}


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_takes_every_kind_of_model(
    name: str, kind: str, tiny_folders: dict[str, Path], make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    experiment = EXPERIMENTS[name]
    model: Any = tiny_folders["llama" if kind == "llm2vec" else kind]
    options = {"bidirectional": True, "adapters": [make_adapter(model)]} if kind == "llm2vec" else {}
    if "revisions" in experiment.takes:
        for step in ("step1", "step8"):
            (tmp_path / "run" / step).parent.mkdir(exist_ok=True)
            (tmp_path / "run" / step).symlink_to(model, target_is_directory=True)
        model = tmp_path / "run"
    given = [model] if experiment.several else model
    table = experiment.part()(given, SENTENCES, **_KEYWORDS[name], **options)
    of_model = table.filter(pl.col("metric").is_in(METRICS))
    assert {"model", "revision", "layer", "depth", "metric", "value", "n_texts", "seed"} <= set(table.columns)
    assert of_model["layer"].min() == 0 and of_model["layer"].max() == N_BLOCKS
    assert of_model["depth"].min() == 0 and of_model["depth"].max() == 1
    assert of_model["value"].is_finite().all()
    changed = {"sequence_length": "length", "prompt_length": "length", "sublayers": "site", "alpha_curves": "alpha"}
    column = changed.get(name, "p" if "p" in experiment.takes else "revision")
    assert of_model[column].n_unique() >= (1 if column == "revision" else 2)
    assert not experiment.part("summary_")(table).is_empty()
    if kind == "gpt_neox":  # a picture takes a second, and does not depend on the model
        files = save(table, experiment, tmp_path / "out")
        assert all(path.stat().st_size for path in files)
        assert pl.read_parquet(files[0]).equals(table)
