"""Quality against cost: its parts, and all of it at a tiny size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_energy_is_read_where_it_may_be_and_counters_start_again(tmp_path: Path) -> None:
    from benchmarks.serving.one_way import Joules

    assert Joules(tmp_path).since([]) is None
    counters = []
    for number in range(2):
        folder = tmp_path / f"intel-rapl:{number}"
        folder.mkdir()
        (folder / "max_energy_range_uj").write_text("9999999\n")
        counters.append(folder / "energy_uj")
        counters[-1].write_text("9000000\n")
    joules = Joules(tmp_path)
    before = joules.read()
    counters[0].write_text("9500000\n")
    counters[1].write_text("1000000\n")
    assert joules.since(before) == pytest.approx(0.5 + 2.0)


def test_a_text_is_encoded_once() -> None:
    from benchmarks.serving.one_way import Encoding

    asked: list[str] = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    encoding = Encoding(encode)
    assert encoding.vectors(["a", "bb", "a"]).tolist() == [[1], [2], [1]]
    assert encoding.vectors(["bb", "ccc"]).tolist() == [[2], [3]]
    assert asked == ["a", "bb", "ccc"]


def test_the_best_of_several_rounds_is_that_of_each_number() -> None:
    from benchmarks.bench import Timing
    from benchmarks.serving.one_way import Measured

    rounds = [Measured(Timing(2, 3), Timing(9, 8), 5.0), Measured(Timing(3, 2), Timing(7, 9), None)]
    assert Measured.best(rounds) == Measured(Timing(2, 2), Timing(7, 8), 5.0)
    assert Measured.best(rounds[1:]).joules is None


def test_scores_are_kept_by_what_they_depend_on(tmp_path: Path) -> None:
    from benchmarks.serving.one_way import INT8, ONNX, OURS, PLAIN
    from benchmarks.serving.quality_and_cost import Scores, Way

    file = tmp_path / "scores.json"
    keys = [Scores.key(Way("layer 7", by), "STS", "starter", "abc") for by in (PLAIN, OURS, ONNX, INT8)]
    assert len(set(keys)) == 2  # float32 and int8
    Scores(file).put(keys[0], 51.5)
    kept = Scores(file)
    assert (kept.get(keys[2]), kept.get(keys[3])) == (51.5, None)
    assert kept.get(Scores.key(Way("layer 7", PLAIN), "STS", "starter", "abd")) is None


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    from benchmarks.serving.one_way import INT8, ONNX, PLAIN, WORDS
    from benchmarks.serving.quality_plot import draw

    points = [("last", PLAIN, 20.0, [40.0, 50.0]), ("layer 7", ONNX, 3.0, [51.0, 67.0])]
    points += [("layer 7", INT8, 2.0, [50.0, 66.0]), ("TF-IDF", WORDS, 0.01, [69.0, 63.0])]
    for name in ("plot.png", "plot.svg"):
        draw(points, ["STS", "Classification"], tmp_path / name)
    assert "</svg>" in (tmp_path / "plot.svg").read_text()
    assert (tmp_path / "plot.png").stat().st_size > 10_000


@pytest.mark.slow
def test_all_ways_are_timed_and_scored(llama_folder: Path, tmp_path: Path) -> None:
    sizes = ["--texts", "24", "--blocks", "4", "--rounds", "1", "--layer", "2", "--without-minilm"]
    files = {name: tmp_path / name for name in ("scores.json", "plot.png", "rows.jsonl")}
    command = [sys.executable, "-m", "benchmarks.serving.quality_and_cost", "--model", str(llama_folder), *sizes]
    command += [
        "--scores",
        str(files["scores.json"]),
        "--plot",
        str(files["plot.png"]),
        "--rows",
        str(files["rows.jsonl"]),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "DATA_DIR"}
    for _ in range(2):  # the second time with the scores of the first one
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
        assert [row.split(" | ")[0] for row in rows[2:]] == [
            "| last layer, SentenceTransformer",
            "| layer 2, SentenceTransformer",
            "| layer 2, MidLayerEncoder",
            "| layer 2, ONNX",
            "| layer 2, ONNX int8",
            "| recipe eol, last layer, SentenceTransformer",
            "| recipe eol, last layer, ONNX",
            "| recipe eol, last layer, ONNX int8",
            "| TF-IDF, scikit-learn",
        ]
    assert len(json.loads(files["scores.json"].read_text())) == 2 * 6
    assert len(files["rows.jsonl"].read_text().splitlines()) == 2 * 5
    assert files["plot.png"].is_file()
    assert ": scored in" not in done.stdout
