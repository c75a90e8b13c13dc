"""What a table shows, in numbers and drawn."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from leaderboard.experiments import checkpoints
from leaderboard.experiments.profiles import (
    draw_checkpoints,
    draw_compare_models,
    summary_checkpoints,
    summary_compare_models,
)
from leaderboard.experiments.profiles.revisions import step_of
from leaderboard.experiments.profiles.table import SCHEMA
from leaderboard.report.figures import save_figure
from midlayer_embed.errors import InputError

FAST = ("prompt_entropy", "dataset_entropy", "curvature")


def _run(values: dict[str, list[float]], metric: str = "dime", model: str = "m") -> pl.DataFrame:
    """A table of one metric: for each revision its value at each layer."""
    n_blocks = len(next(iter(values.values()))) - 1
    rows = [
        {
            **dict.fromkeys(SCHEMA),
            **{"model": model, "revision": name, "source": "measured", "step": step_of(name), "n_blocks": n_blocks},
            **{"layer": layer, "depth": layer / n_blocks, "metric": metric, "normalization": "raw", "value": value},
        }
        for name, curve in values.items()
        for layer, value in enumerate(curve)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def test_the_summary_tells_what_moved_most_and_where() -> None:
    table = _run(
        {
            "step1": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            "step4": [2.0, 1.0, 1.0, 1.0, 3.0, 1.0],
            "step16": [2.0, 1.0, 0.5, 1.0, 1.0, 1.0],
            "main": [2.0, 1.0, 0.0, -1.0, 1.0, 1.5],
        }
    )
    (row,) = summary_checkpoints(table).to_dicts()
    assert row == {
        **{"source": "measured", "model": "m", "metric": "dime", "checkpoints": "step1 to main"},
        **{"moved_layer": 4, "moved": 4.0, "changed_layer": 3, "changed": -2.0},
        **{"early": 0.5, "middle": 1.5, "late": 0.25, "since": "step4"},
        **{"since_early": 0.0, "since_middle": 1.5, "since_late": 1.25},
    }
    with pytest.raises(InputError, match="^table: expected two checkpoints of a model or more, got one of each$"):
        summary_checkpoints(table.filter(revision="main"))
    (two,) = summary_checkpoints(table.filter(pl.col("revision").is_in(["step1", "main"]))).to_dicts()
    assert two["since"] is None and two["since_early"] is None and two["changed"] == -2.0


def test_the_summary_of_models_tells_how_deep_each_dips() -> None:
    entropy = _run({"main": [4.0, 3.0, 1.5, 3.5]}, "prompt_entropy")
    score = _run({"main": [1.0, 5.0, 9.0, 2.0]}, "score")
    (row,) = summary_compare_models(pl.concat([entropy, score])).to_dicts()
    assert (row["dip"], row["dip_depth"], row["prompt_entropy"], row["score"]) == (2.5, pytest.approx(2 / 3), 3.0, 9.0)
    (row,) = summary_compare_models(entropy.filter(pl.col("layer") > 0)).to_dicts()
    assert row["dip"] is None and row["prompt_entropy"] == pytest.approx(8 / 3)


def test_figure_and_summary_need_only_the_table_also_from_a_file(
    run_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    table = checkpoints(run_folder, sentences, metrics=FAST)
    table.write_parquet(tmp_path / "table.parquet")
    again = pl.read_parquet(tmp_path / "table.parquet")
    assert_frame_equal(again, table)
    assert_frame_equal(summary_checkpoints(again), summary_checkpoints(table))
    assert set(summary_checkpoints(table)["moved_layer"]) <= {2, 3}  # what was changed is block 2
    save_figure(draw_checkpoints(again), tmp_path / "figure.svg")
    legend = (tmp_path / "figure.svg").read_text("utf-8")
    assert all(f">{name}<" in legend for name in ("main", "16", "prompt entropy (nats)"))
    models = table.with_columns(model="revision")
    save_figure(draw_compare_models(models), tmp_path / "models.svg")
    assert ">step16<" in (tmp_path / "models.svg").read_text("utf-8")


def test_later_checkpoints_are_darker_on_a_scale_of_log_steps() -> None:
    steps = ["step0", "step1", "step1000", "final", "main"]
    spec = draw_checkpoints(_run({name: [0.0, 1.0] for name in steps})).to_dict()
    colour = spec["concat"][0]["encoding"]["color"]
    assert colour["scale"]["type"] == "log"
    assert colour["legend"]["values"] == [0.5, 1, 1000, 2000, 4000]
    assert 'datum.value == 2000.0 ? "final" : datum.value == 4000.0 ? "main"' in colour["legend"]["labelExpr"]
