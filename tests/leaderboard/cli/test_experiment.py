"""midlayer-leaderboard experiment: what it writes and prints, and mistakes, which are told before anything slow."""

import sys
from pathlib import Path

import polars as pl
import pytest
from support.architectures import SENTENCES

from leaderboard.cli.program import main
from midlayer_embed import LayerwiseEncoder


@pytest.fixture
def texts(tmp_path: Path) -> str:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    return str(path)


@pytest.mark.model
def test_an_experiment_writes_its_files_and_prints_its_numbers(
    texts: str, tiny_folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a folder" / "out"
    command = ["experiment", "sublayers", str(tiny_folders["llama"]), "--texts", texts, "--out", str(out)]
    assert main([*command, "--sites", "resid_post", "attn_out", "--layers", "1,-1", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "Sites within a block: local/" in printed and "sublayers.parquet" in printed
    table = pl.read_parquet(out / "sublayers.parquet")
    assert set(table["site"]) == {"resid_post", "attn_out"} and set(table["layer"]) == {1, 3}
    # A second one joins the page.
    command[1] = "repetition"
    assert main([*command, "--p", "0", "1", "--measure", "prompt_entropy", "--quiet"]) == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert 'id="repetition"' in page and 'id="sublayers"' in page


@pytest.mark.model
def test_experiments_are_sections_of_the_leaderboards_page(
    texts: str, tiny_folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["experiment", "sublayers", str(tiny_folders["llama"]), "--texts", texts, "--out", str(tmp_path / "e")]
    assert main([*command, "--quiet"]) == 0
    scores = [("org/m", "main", layer, "A", "STS", layer / 10) for layer in range(3)]
    names = ["model", "revision", "layer", "task", "task_type", "main_score"]
    pl.DataFrame(scores, schema=names, orient="row").write_csv(tmp_path / "s.csv")
    report = ["report", "--scores", str(tmp_path / "s.csv"), "--experiments", str(tmp_path / "e")]
    assert main([*report, "--html", str(tmp_path / "page.html")]) == 0
    assert 'id="sublayers"' in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(report) == 2
    assert "experiments: a section of the page" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("prompts m --starter-texts", "experiment: expected one of checkpoints"),
        ("repetition --starter-texts", "model: repetition needs a MODEL, got none"),
        ("repetition m", "texts: repetition needs texts"),
        ("repetition m n --starter-texts", "model: repetition takes one MODEL, got 2"),
        ("repetition m --starter-texts --sites resid_mid", "sites: repetition does not take it; it takes --p, "),
        ("sublayers m --starter-texts --no-first-token --p 1", "p: sublayers does not take it"),
        ("sublayers m --starter-texts --sites attention", "site: expected one of resid_pre"),
        ("sublayers m --starter-texts --layers x", 'layers: expected "all" or layers'),
        ("repetition m --starter-texts --measure entropy", "metrics: expected some of prompt_entropy"),
        ("repetition m --starter-texts --p 2", "p: expected probabilities from 0 to 1, got 2.0"),
        ("prompt_length m --starter-texts --lengths 1", "lengths: expected"),
        ("repetition m --starter-texts --metrics t.csv", "metrics: repetition has no published table"),
        ("checkpoints m --starter-texts --model org/m", "model: it chooses models of the table of --metrics FILE"),
        ("checkpoints m --texts nowhere.txt", "texts: "),
        ("repetition m --starter-texts --max-texts 0", "max_texts: expected"),
        ("alpha_curves --alphas 0", "alphas: expected"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    arguments: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("leaderboard.experiments.files", "midlayer_embed.forward.layerwise"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    assert main(["experiment", *arguments.split(), "--out", "out"]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith(f"midlayer-leaderboard: {said}") and "\n" not in err
    assert not Path("out").exists()


def test_a_target_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["experiment", "repetition", "m", "--starter-texts", "--out", str(tmp_path / "out")]) == 2
    assert "it is a file; expected a folder" in capsys.readouterr().err


@pytest.mark.model
def test_an_interrupt_does_not_promise_to_resume_what_nothing_keeps(
    texts: str,
    tiny_folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", stopped)
    model = str(tiny_folders["llama"])
    for name, said in (
        ("repetition", "interrupted"),
        ("compare_models", "0 profiles kept; run the same command again"),
    ):
        command = ["experiment", name, model, "--texts", texts, "--out", str(tmp_path / "out"), "--quiet"]
        assert main(command) == 130
        err = capsys.readouterr().err
        assert said in err and ("resume" in err) is (name == "compare_models")
