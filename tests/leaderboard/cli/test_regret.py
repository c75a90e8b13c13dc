"""midlayer-leaderboard regret: what it prints, what it writes, and mistakes."""

import json
from pathlib import Path

import polars as pl
import pytest
from support.web.boards import board_of

from leaderboard import load_tables
from leaderboard.cli.program import main


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    """Three models, one under a name that could be markup, with two metrics; tasks of two types."""
    board = board_of(["org/m", "org/[bold]n", "a|b"], ["A", "B", "C"], 6, ("dime", "infonce"))
    kinds = pl.when(pl.col("task") == "C").then(pl.lit("Clustering")).otherwise("task_type")
    board.scores.with_columns(task_type=kinds).write_csv(tmp_path / "s.csv")
    board.metrics.write_parquet(tmp_path / "m.parquet")
    return ["regret", "--scores", str(tmp_path / "s.csv"), "--metrics", str(tmp_path / "m.parquet")]


def _rows(out: str, title: str) -> dict[str, list[str]]:
    """The rows of the table under a title, by criterion."""
    block = out.partition(title)[2].split("\n\n")[0]
    return {words[0]: words[1:] for line in block.splitlines() if (words := line.split())}


def test_each_reading_has_a_table_with_the_numbers_of_the_board(
    tables: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tables) == 0
    out = capsys.readouterr().out
    found = load_tables(tables[2], tables[4]).regret()
    titles = {
        "model": "regret, one layer a model",
        "type": "regret, the same layer",
        "task": "regret, one layer a task",
    }
    for reading, title in titles.items():
        printed = _rows(out, title)
        for row in found.filter(reading=reading).iter_rows(named=True):
            assert printed[row["criterion"]][:1] == [f"{row['regret']:.1f}"]
            assert f"{row['worst']:.1f}" in printed[row["criterion"]]
    assert "3 models, 3 tasks" in " ".join(out.split()) and "org/[bold]n" in out
    of_types = load_tables(tables[2], tables[4]).regret(per_type=True).filter(reading="type", criterion="last")
    numbers = dict(of_types.select("task_type", "regret").iter_rows())
    of_last = [f"{numbers[kind]:.1f}" for kind in ("Clustering", "STS")]
    assert _rows(out, "of each type of tasks, the mean")["last"] == of_last
    assert _rows(out, "what it takes")["min-dime"] == ["2", "-"]
    assert _rows(out, "what it takes")["tuned-depth"] == ["-", "other", "models"]
    assert "tuned on all models here, tuned-criterion takes" in out
    assert max(len(line.rstrip()) for line in out.splitlines() if not line.startswith("tuned on")) <= 80


def test_what_is_written_is_what_is_printed(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv, markdown = tmp_path / "new" / "regret.csv", tmp_path / "new" / "regret.md"
    options = ["--criteria", "min-dime", "--seed", "3"]
    assert main([*tables, *options, "--json", "--csv", str(csv), "--markdown", str(markdown)]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    board = load_tables(tables[2], tables[4])
    assert found["regret"] == board.regret(criteria=["min-dime"], seed=3).to_dicts()
    assert found["types"] == board.regret(criteria=["min-dime"], seed=3, per_type=True).to_dicts()
    assert {row["criterion"] for row in found["regret"]} >= {"min-dime", "last"} and found["notes"]
    read = pl.read_csv(csv, infer_schema_length=None)
    assert read.height == len(found["regret"]) + len(found["types"])
    assert read["regret"].to_list() == pytest.approx([row["regret"] for row in (*found["regret"], *found["types"])])
    text = markdown.read_text("utf-8")
    assert text.startswith("## Regret") and "| min-dime |" in text and "a\\|b" in text


def test_rules_that_go_by_more_than_a_metric_are_shown_with_what_has_to_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = "EleutherAI/pythia-410m"
    board = board_of([hub, "mine"], ["A", "B"], 25, ("half_retrieval", "drop_retrieval"))
    hole = (pl.col("model") == "mine") & (pl.col("layer") == 24)
    board.scores.with_columns(main_score=pl.when(~hole).then("main_score")).write_csv(tmp_path / "s.csv")
    board.metrics.write_csv(tmp_path / "m.csv")
    tables = ["regret", "--scores", str(tmp_path / "s.csv"), "--metrics", str(tmp_path / "m.csv"), "--quiet"]
    assert main([*tables, "--markdown", str(tmp_path / "r.md")]) == 0
    out, text = capsys.readouterr().out, (tmp_path / "r.md").read_text("utf-8")
    costs = _rows(out, "what it takes")
    assert costs["half-and-drop"] == costs["auto"] == ["4", "-"] and costs["published"] == ["-", "published"]
    assert _rows(out, "regret, one layer a model")["published"][0] == "-" and "; 2 models, 2 tasks" in out
    said = [
        "published knows only some of these models, so it is not compared; named as a criterion, it is, over those",
        "auto takes half-and-drop",
        "last is not the last layer where that has no score, but layer 23 of 24 of mine",
    ]
    for note in said:
        assert note in out and f"{note[:1].upper()}{note[1:]}." in text
    assert main([*tables, "--criteria", "published", "auto", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["n_models"] for row in found["regret"]} == {1}
    assert main([*tables, "--criteria", "proxy"]) == 2
    assert "criteria: proxy goes by the starter benchmark" in capsys.readouterr().err


def test_one_model_and_only_plain_layers(tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = pl.read_csv(tables[2])
    eol = scores.with_columns(template=pl.lit("eol"), main_score=1 - pl.col("main_score"))
    pl.concat([scores.with_columns(template=None), eol], how="diagonal_relaxed").write_csv(tmp_path / "both.csv")
    both = ["regret", "--scores", str(tmp_path / "both.csv"), *tables[3:], "--json"]
    assert main([*both, "--plain"]) == 0
    plain = json.loads(capsys.readouterr().out)["regret"]
    assert plain == load_tables(tables[2], tables[4]).regret().to_dicts()
    assert main(both) == 0
    assert json.loads(capsys.readouterr().out)["regret"] != plain
    assert main([*tables, "--model", "org/m"]) == 0
    assert "one model: there is no interval" in capsys.readouterr().out


def test_folders_are_joined(tiny_folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regret", *tiny_folders, "--json"]) == 0
    both = json.loads(capsys.readouterr().out)["regret"]
    assert {row["of_tasks"] for row in both} == {2} and {row["of_models"] for row in both} == {1}
    assert main(["regret", tiny_folders[0], tiny_folders[0], "--json"]) == 0  # the same twice is the same
    assert {row["of_tasks"] for row in json.loads(capsys.readouterr().out)["regret"]} == {1}


@pytest.fixture(scope="module")
def tiny_folders(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two results folders of the tiny Llama, of a task each."""
    from support.tiny_tasks import TinySTS, renamed

    from leaderboard import run_sweep

    folders = []
    for name in ("One", "Two"):
        folders.append(str(tmp_path_factory.mktemp("results")))
        run_sweep(llama_folder, [renamed(TinySTS, name)], folders[-1], metrics=["curvature"], show_progress=False)
    return folders


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a results folder or --scores FILE, got neither"),
        (["EMPTY", "--metrics", "m.csv"], "metrics: a results folder includes its metrics"),
        (["EMPTY"], "contains no scores"),
        (["TABLES", "--criteria", "min-foo"], "criteria: expected some of min-dime"),
        (["TABLES", "--criteria", "min-lidar"], "criteria: min-lidar goes by the metric lidar"),
        (["TABLES", "--model", "x"], "model: expected one of org/m (main)"),
        (["TABLES", "--tasks", "x"], "tasks: expected one of available, common"),
        (["TABLES", "--seed", "-1"], "seed: expected an int of at least 0"),
        (["TABLES", "--csv", "EMPTY"], "csv: EMPTY cannot be written: expected a file, got a folder"),
    ],
)
def test_mistakes_are_one_line_exit_2(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    empty = str(tmp_path / "empty")
    given = [empty if one == "EMPTY" else one for one in arguments if one != "TABLES"]
    assert main([*(tables if "TABLES" in arguments else tables[:1]), *given]) == 2
    captured = capsys.readouterr()
    assert message.replace("EMPTY", empty) in captured.err and captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
