"""midlayer-leaderboard report: what it prints, what it writes, and mistakes."""

import json
from pathlib import Path

import polars as pl
import pytest

from leaderboard import load_results, load_tables
from leaderboard.cli.program import main

_TASKS = ["A", "B"]


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    """Two models, a revision of one, and metrics of task A alone; layer 2 of org/m misses task B."""
    scores = [
        (model, revision, layer, task, "STS", 0.25 + layer / 10 - (layer == 4) / 4)
        for model, revision in [("org/m", "main"), ("org/m", "step1"), ("org/[bold]n", "main")]
        for layer in (0, 1, 2, 4)
        for task in _TASKS
        if (model, layer, task) != ("org/m", 2, "B")
    ]
    names = ["model", "revision", "layer", "task", "task_type", "main_score"]
    pl.DataFrame(scores, schema=names, orient="row").write_csv(tmp_path / "s.csv")
    metrics = [("org/m", "main", "A", "dime", "raw", layer, 1.0 - layer) for layer in (0, 1, 2, 4)]
    names = ["model", "revision", "task", "metric", "normalization", "layer", "value"]
    pl.DataFrame(metrics, schema=names, orient="row").write_parquet(tmp_path / "m.parquet")
    return ["report", "--scores", str(tmp_path / "s.csv"), "--metrics", str(tmp_path / "m.parquet")]


def _line(out: str, start: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if line.startswith(start)]
    return line.removeprefix(start).split()


def test_a_row_a_model(tables: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tables) == 0
    out = capsys.readouterr().out
    assert "each over its available tasks" in out
    assert _line(out, "org/m  ") == ["2", "45.0", "2", "40.0", "34.8", "40.0", "-", "-"]
    assert _line(out, "org/[bold]n  ") == ["2", "45.0", "2", "40.0", "36.2", "-", "-", "-"]
    assert "of 1" in out and '"of N"' in out
    assert "org/m (step1)" in out
    assert "--model NAME" in out and "kendall" not in out


def test_all_over_the_same_tasks(tables: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*tables, "--tasks", "common", "--model", "org/[bold]n", "--complete-only"]) == 0
    out = capsys.readouterr().out
    assert "all over the common tasks" in out
    assert "of 1" not in out


def test_one_model_in_detail(tables: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*tables, "--model", "org/m"]) == 0
    out = capsys.readouterr().out
    assert "org/m (main), schemes" in out  # of two revisions
    assert _line(out, "best: layer 2  ") == ["45.0", "-", "-", "1"]  # over a single task
    assert _line(out, "last  ") == ["40.0", "40.0", "to", "40.0", "5.0", "2"]
    assert _line(out, "min_lidar  ") == ["-", "-", "-", "0"]
    assert _line(out, "dime  ") == ["-1.000", "-1.000", "-0.891", "0.901", "3", "1"]
    assert main([*tables, "--model", "org/m", "--revision", "step1"]) == 0
    out = capsys.readouterr().out
    assert "org/m (step1), schemes" in out and "kendall" not in out


def test_nothing_is_wider_than_80_columns(tables: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--model", "org/m"]):
        main([*tables, *arguments])
        out = capsys.readouterr().out
        rows = [line for line in out.splitlines() if not line.startswith(("all schemes of one", '"of N"'))]
        assert max(len(line.rstrip()) for line in rows) <= 80
        assert "…" not in out


def test_json_is_all_there_is(tables: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*tables, "--json", "--complete-only"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert captured.err == ""
    board = load_tables(tables[2], tables[4])
    assert found["schemes"] == board.schemes(complete_only=True).to_dicts()
    assert found["schemes"][0]["min_lidar"] is None
    associations = board.associations("org/m").to_dicts()
    assert found["associations"] == [{"model": "org/m", "revision": "main", **row} for row in associations]


def test_tables_are_written_beside(tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new"
    files = ["--parquet", str(new / "p"), "--csv", str(new / "c"), "--markdown", str(new / "m" / "report.md")]
    assert main([*tables, "--model", "org/m", "--seed", "7", "--tasks", "common", *files]) == 0
    found = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
    board = load_tables(tables[2], tables[4])
    board.to_csv(tmp_path / "expected")
    names = sorted(path.stem for path in (tmp_path / "expected").iterdir())
    assert found == [*(f"c/{n}.csv" for n in names), "m/report.md", *(f"p/{n}.parquet" for n in names)]
    assert pl.read_parquet(new / "p" / "regret.parquet").equals(board.only("org/m").regret(seed=7))
    assert pl.read_parquet(new / "p" / "schemes.parquet").equals(board.schemes("org/m", tasks="common", seed=7))
    assert "## org/m (step1)" in (new / "m" / "report.md").read_text()
    assert "bold" not in (new / "m" / "report.md").read_text()


def test_page_and_figures_are_written_beside_what_is_printed(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, folder = tmp_path / "out" / "page.html", tmp_path / "figures"
    assert main([*tables, "--model", "org/[bold]n", "--html", str(page), "--figures", str(folder)]) == 0
    assert "org/[bold]n" in capsys.readouterr().out
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{ending}" for name in ("score_over_depth", "heat_map-org__bold_n") for ending in ("png", "svg")
    }


def test_tables_and_results_are_joined(tables: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    golden = Path(__file__).parents[2] / "golden" / "results"
    assert main([*tables, str(golden), "--json"]) == 0
    schemes = {row["model"]: row for row in json.loads(capsys.readouterr().out)["schemes"]}
    (of_results,) = load_results(golden).schemes().to_dicts()
    assert schemes[of_results["model"]]["best"] == of_results["best"]
    assert schemes["org/m"]["best_layer"] == 2 and len(schemes) == 3
    assert main([*tables[:3], str(golden), str(golden), "--metrics", tables[4], "--quiet"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a results folder or --scores FILE, got neither"),
        (["EMPTY", "--metrics", "m.csv"], "metrics: a results folder includes its metrics"),
        (["/no/such/folder"], "there is no folder '/no/such/folder'"),
        (["EMPTY"], "contains no scores"),
        (["--scores", "/no/such.csv"], "scores: there is no file '/no/such.csv'"),
        (["TABLES", "--tasks", "all"], "tasks: expected one of available, common, got 'all'"),
        (["TABLES", "--model", "x"], "model: expected one of org/m (main), org/m (step1)"),
        (["TABLES", "--seed", "-1"], "seed: expected an int of at least 0, got -1"),
        (["TABLES", "--csv", "TOUCHED"], "csv: TOUCHED cannot be written"),
        (["TABLES", "--markdown", "EMPTY"], "markdown: EMPTY cannot be written"),
        (["TABLES", "--html", "EMPTY"], "html: EMPTY cannot be written"),
        (["TABLES", "--figures", "TOUCHED"], "figures: TOUCHED cannot be written"),
        (["TABLES", "--site", "TOUCHED"], "site: TOUCHED cannot be written"),
        (["TABLES", "--published"], "published: a section of the page; expected --html FILE or --site FOLDER, too"),
        (["TABLES", "--about", "x"], "about: a sentence of the site; expected --site FOLDER, too"),
    ],
)
def test_mistakes_are_one_line_exit_2(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {"EMPTY": str(tmp_path / "empty"), "TOUCHED": str(tmp_path / "file")}
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    given = [places.get(argument, argument) for argument in arguments if argument != "TABLES"]
    assert main([*(tables if "TABLES" in arguments else tables[:1]), *given]) == 2
    captured = capsys.readouterr()
    for name, place in places.items():
        message = message.replace(name, place)
    assert message in captured.err and captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert not list((tmp_path / "empty").iterdir())


def test_the_results_of_a_run_are_reported(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = str(tmp_path / "results")
    run = ["run", str(llama_folder), "--tasks", "StarterSTS", "--results", results, "--metrics", "dataset_entropy"]
    assert main([*run, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["report", results, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["schemes"]
    table = pl.read_parquet(Path(results, "layers.parquet"))
    lowest = table.sort("dataset_entropy").row(0, named=True)
    assert row["min_entropy"] == pytest.approx(lowest["StarterSTS"])
    assert row["best"] == pytest.approx(table["mean"].max()) and row["last"] == pytest.approx(table["mean"][-1])


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        ("Pythia-410m", ["32", "52.0", "17", "45.5", "48.1", "48.5", "46.2", "48.1"]),
        ("LLM2Vec-mntp-unsup-simcse-8B", ["32", "66.3", "24", "63.9", "59.3", "60.0", "64.3", "50.4"]),
    ],
)
def test_the_papers_numbers_are_printed(
    paper_folder: Path, capsys: pytest.CaptureFixture[str], model: str, numbers: list[str]
) -> None:
    files = ["--scores", f"{paper_folder}/scores_as_published.csv.gz", "--metrics", f"{paper_folder}/metrics.csv.gz"]
    assert main(["report", *files]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith(f"{model} ") and "(" not in line]
    assert line.split() == [model, *numbers]
