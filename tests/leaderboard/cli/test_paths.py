"""Every path of every command may be spelt in every way; what is written is where the path leads."""

import os
from pathlib import Path

import polars as pl
import pytest
from support.spelt.paths import WAYS, Spelt
from support.tiny_tasks import TinySTS

from leaderboard import load_results, load_tables, mteb_results, run_sweep
from leaderboard.cli.program import main
from leaderboard.tasks.names import check_data_dir
from midlayer_embed.ground.atomic import PARTIAL_MARK

_FILES = ("page.html", "report.md")
_FOLDERS = ("csv", "figures", "parquet")


@pytest.fixture(params=WAYS)
def spelt(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spelt:
    return Spelt(request.param, tmp_path, monkeypatch)


def _write_scores(path: Path) -> None:
    rows = [("org/m", layer, "A", "STS", 0.5) for layer in (0, 1)]
    names = ["model", "layer", "task", "task_type", "main_score"]
    pl.DataFrame(rows, schema=names, orient="row").write_csv(path)


def test_report(spelt: Spelt) -> None:
    _write_scores(spelt.real / "scores.csv")
    scores = spelt.given("scores.csv")
    page, text, csv, figures, parquet = map(spelt.given, (*_FILES, *_FOLDERS))
    files = ["--html", page, "--markdown", text, "--csv", csv, "--figures", figures, "--parquet", parquet]
    assert main(["report", "--scores", scores, *files]) == 0
    assert all((spelt.real / name).is_file() for name in _FILES)
    assert all(list((spelt.real / name).iterdir()) for name in _FOLDERS)
    assert load_tables(Path(scores)).scores.height == 2
    assert not list(spelt.folder.rglob(f".*{PARTIAL_MARK}*"))


def test_a_sweep_and_its_card(spelt: Spelt, llama_folder: Path) -> None:
    model, results, out = spelt.copy(llama_folder, "model"), spelt.given("results"), spelt.given("card.md")
    board = run_sweep(model, [TinySTS()], results, layers=[0, 3], metrics=["curvature"], show_progress=False)
    loaded = load_results(results)
    assert loaded.scores.equals(board.scores) and board.scores.height == 2
    assert loaded.metrics.equals(board.metrics) and board.metrics.height == 2
    assert mteb_results(results, layer=3).model_results[0].model_name == "local/model"
    assert set(board.scores["model"]) == {"local/model"}
    assert main(["card", results, "--layer", "3", "--out", out, "--model-path", model]) == 0
    assert (spelt.real / "card.md").is_file()


def test_data(spelt: Spelt) -> None:
    (spelt.real / "data").mkdir()
    assert os.path.samefile(check_data_dir(spelt.given("data")), spelt.real / "data")


def test_a_report_goes_to_a_stream(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_scores(tmp_path / "scores.csv")
    monkeypatch.setattr(os, "replace", None)  # nothing is to be replaced, least of all a device
    assert main(["report", "--scores", str(tmp_path / "scores.csv"), "--markdown", "/dev/stdout"]) == 0
    out = capfd.readouterr().out
    assert out.index("## Schemes") < out.index("regret: points below")  # the file, and what is printed
