"""Several results folders as one."""

import json
import os
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.folders.written import Written, files_of

from leaderboard import MergeConflict, merge_results
from midlayer_embed.errors import InputError

LAYER_0 = "results/org__m/main/experiments/layer_0"
METRICS = "metrics/org__m/main/A.parquet"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Written, Written]:
    return Written(tmp_path / "a"), Written(tmp_path / "b")


def _merged(*folders: Written, into: Path | None = None) -> Path:
    target = into or folders[0].root.parent / "all"
    merge_results([one.root for one in folders], target, show_progress=False)
    return target


def _conflicts(*folders: Written) -> list[str]:
    """The conflicts of a merge; that nothing is written is checked, too."""
    target = folders[0].root.parent / "all"
    dry = merge_results([one.root for one in folders], target, dry_run=True, show_progress=False)
    with pytest.raises(MergeConflict) as caught:
        merge_results([one.root for one in folders], target, show_progress=False)
    assert caught.value.report.conflicts == dry.conflicts
    assert str(caught.value).startswith(f"folders: {dry.conflicts[0]}")
    assert not target.exists()
    assert all("\n" not in conflict for conflict in dry.conflicts)
    return dry.conflicts


def test_the_output_of_workers_is_not_merged(two: tuple[Written, Written]) -> None:
    for name, one in zip("ab", two, strict=True):
        one.result(name.upper(), 0)
        one.put("workers/1-of-3.log", f"of {name}")
        one.put(f"workers/{name}.json", json.dumps({"id": name}))
        one.put(f"workers/{name}.end.json", "{}")
    assert [path for path in files_of(_merged(*two)) if path.startswith("workers/")] == [
        f"workers/{name}" for name in ("a.end.json", "a.json", "b.end.json", "b.json")
    ]


def test_layers_and_tasks_of_several_folders_are_joined(two: tuple[Written, Written]) -> None:
    a, b = two
    a.result("A", 0, versions={"mteb": "2"})
    a.result("A", 1)
    b.result("A", 2)
    b.result("B", 0, versions={"mteb": "2"})
    row = {"task": "M", "splits": ["test"], "version": {"mteb": "1"}, "subsets": ["en"]}
    old = {"task": "A", "splits": ["test"], "version": {"mteb": "1"}, "subsets": ["default"]}
    a.put(f"{LAYER_0}/run_settings.jsonl", f"{json.dumps(row)}\n{json.dumps(old)}\n{{torn")
    before = [files_of(one.root) for one in two]
    files = files_of(_merged(a, b))
    assert [files_of(one.root) for one in two] == before
    results = [path for path in files if path.endswith(("A.json", "B.json"))]
    assert [path.split("/")[-2:] for path in results] == [
        ["layer_0", "A.json"],
        ["layer_0", "B.json"],
        ["layer_1", "A.json"],
        ["layer_2", "A.json"],
    ]
    rows = [
        json.loads(row) for row in (a.root.parent / "all" / LAYER_0 / "run_settings.jsonl").read_text().splitlines()
    ]
    assert rows[0] == row
    assert [row["task"] for row in rows] == ["M", "A", "B"]
    assert {row["version"].get("mteb") for row in rows[1:]} == {"2"}


def test_the_same_result_twice_is_fine_and_the_older_one_counts(two: tuple[Written, Written]) -> None:
    a, b = two
    a.result(score=0.5, date=2.0, device="cuda", versions={"torch": "2"}, hub_id="org/m")
    older = b.result(
        score=0.5 + 1e-9, date=1.0, versions={"torch": "3"}, hub_id=None, dataset_files_sha256="x"
    ).read_bytes()
    for order in permutations(two):
        target = _merged(*order, into=a.root.parent / order[0].root.name / ".." / f"into-{order[0].root.name}")
        assert (target / LAYER_0 / "A.json").read_bytes() == older


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"score": 0.6}, "{a} has main_score 0.5, {b} has 0.6"),
        ({"score": float("nan")}, "{a} has main_score 0.5, {b} has nan"),
        ({"data": "2"}, "{a} has dataset_revision '1', {b} has '2'"),
        ({"subset": "en"}, "{a} has the splits and subsets [('test', 'default')], {b} has [('test', 'en')]"),
        ({"weights_sha256": "y"}, "{a} has weights_sha256 'x', {b} has 'y'"),
        ({"own": {"recipe": {"pooling_mode": "cls"}}}, "{a} has own.recipe.pooling_mode 'mean', {b} has 'cls'"),
    ],
)
def test_a_contradiction_is_named_and_nothing_is_written(
    two: tuple[Written, Written], other: dict[str, Any], said: str
) -> None:
    a, b = two
    same = {"weights_sha256": "x", "own": {"recipe": {"pooling_mode": "mean"}}}
    a.result(**same)
    a.result("B", 1)
    b.result(date=2.0, **{**same, **other})  # type: ignore[arg-type]
    assert _conflicts(a, b) == [f"{LAYER_0}/A.json: {said.format(a=a.root, b=b.root)}"]
    assert sorted(_conflicts(b, a)) == _conflicts(a, b)


def test_every_contradiction_is_named(two: tuple[Written, Written]) -> None:
    for folder, score in zip(two, (0.1, 0.2), strict=True):
        for layer in range(3):
            folder.result(layer=layer, score=score)
    assert len(_conflicts(*two)) == 3


def test_metrics_of_the_same_texts_are_united(two: tuple[Written, Written]) -> None:
    a, b = two
    a.metrics({0: 1.0, 1: 2.0}, device="cuda")
    b.metrics({1: 2.0 + 1e-8, 2: 3.0}, dataset_files_sha256="x")
    frame = pl.read_parquet(_merged(a, b, into=a.root.parent / "a-and-b") / METRICS)
    assert frame.select("layer", "value").rows() == [(0, 1.0), (1, pytest.approx(2.0, abs=1e-7)), (2, 3.0)]
    with_nan = Written(a.root.parent / "c")
    with_nan.metrics({2: float("nan"), 3: float("inf")})
    (conflict,) = _conflicts(b, with_nan)
    assert "as dime (raw) of layer 2" in conflict
    again = Written(a.root.parent / "d")
    again.metrics({2: float("nan"), 3: float("inf"), 4: 0.0})
    assert pl.read_parquet(_merged(with_nan, again, into=a.root.parent / "e") / METRICS).height == 3


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"max_texts": 500}, "max_texts"),
        ({"data": "2"}, "dataset_revision"),
        ({"weights_sha256": "y"}, "weights_sha256"),
        ({"n_texts": 7}, "n_texts"),
    ],
)
def test_rows_of_different_texts_are_never_mixed(
    two: tuple[Written, Written], other: dict[str, Any], said: str
) -> None:
    a, b = two
    a.metrics({0: 1.0}, n_texts=6)
    b.metrics({1: 2.0}, **{"n_texts": 6, **other})
    (conflict,) = _conflicts(a, b)
    assert conflict.startswith(f"{METRICS}: the metrics are of different texts or settings: ")
    assert f"has {said} " in conflict


def test_different_values_of_a_metric_are_refused(two: tuple[Written, Written]) -> None:
    a, b = two
    a.metrics({0: 1.0, 1: 1.0})
    b.metrics({0: 1.5, 1: 1.5})
    (conflict,) = _conflicts(a, b)
    assert conflict == f"{METRICS}: {a.root} has 1.0 as dime (raw) of layer 0, {b.root} has 1.5; 1 more rows differ"


def test_results_of_mteb_itself_and_other_revisions_are_kept(two: tuple[Written, Written]) -> None:
    a, b = two
    a.put("results/org__m/r1/A.json", {"task_name": "A", "scores": {"test": [{"main_score": 1, "hf_subset": "x"}]}})
    a.put("results/org__m/r1/model_meta.json", {"name": "org/m", "revision": "r1", "loader": None})
    a.put("results/org__m/r1/old.json", {"test": {"en": {"main_score": 0.5}}, "mteb_dataset_name": "old"})
    a.put("results/org__m/r1/readme.txt", "by hand")
    b.put("results/org__m/r1/old.json", {"test": {"en": {"main_score": 0.5}}, "mteb_dataset_name": "old"})
    b.result(revision="r2")
    settings = "results/org__m/r2/experiments/layer_0/run_settings.jsonl"
    merged = files_of(_merged(a, b))
    assert merged.pop(settings)
    assert merged == files_of(a.root) | files_of(b.root)
    b.put("results/org__m/r1/readme.txt", "by another hand")
    b.put("results/org__m/r1/old.json", {"test": {"en": {"main_score": 0.6}}})
    shutil.rmtree(a.root.parent / "all")
    assert len(_conflicts(a, b)) == 2


def test_tables_and_hidden_files_are_not_merged(two: tuple[Written, Written]) -> None:
    a, b = two
    a.result()
    for path in ("scores.parquet", "leaderboard.md", ".lock", "results/.DS_Store", ".scratch-host-1-x/results/x.json"):
        b.put(path, "of b")
    b.result("B")
    assert set(files_of(_merged(a, b))) == {
        f"{LAYER_0}/{name}" for name in ("A.json", "B.json", "model_meta.json", "run_settings.jsonl")
    }


@pytest.mark.parametrize("torn", [b"", b'{"task_name": "A", "sco', b"[1, 2]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_cannot_be_read_is_named_and_left_out(two: tuple[Written, Written], torn: bytes) -> None:
    a, b = two
    a.result("A")
    a.result("B")
    b.result("B")
    b.result("C")
    b.put(f"{LAYER_0}/B.json", torn)
    b.put(f"{LAYER_0}/C.json", torn)
    b.put(METRICS, torn)
    report = merge_results([a.root, b.root], a.root.parent / "all", show_progress=False)
    assert [one.partition(" cannot be read: ")[0] for one in report.left_out] == [
        f"{b.root}: {path}" for path in (METRICS, f"{LAYER_0}/B.json", f"{LAYER_0}/C.json")
    ]
    merged = files_of(a.root.parent / "all")
    assert merged[f"{LAYER_0}/B.json"] == files_of(a.root)[f"{LAYER_0}/B.json"]
    assert f"{LAYER_0}/C.json" not in merged and METRICS not in merged


def test_the_target_may_be_one_of_the_folders(two: tuple[Written, Written]) -> None:
    a, b = two
    a.result("A")
    b.result("B")
    a.put("leaderboard.md", "its own")
    whole = files_of(_merged(a, b))
    report = merge_results([a.root, b.root], a.root, show_progress=False)
    assert files_of(a.root) == {**whole, **{"leaderboard.md": files_of(a.root)["leaderboard.md"]}}
    assert list(report.copied) == [str(b.root)]
    report = merge_results([a.root, f"{b.root}/", b.root / ".." / "b"], a.root, show_progress=False)
    assert not report.copied and not report.united


def test_folders_and_target_may_be_urls(two: tuple[Written, Written], tmp_path: Path) -> None:
    a, b = two
    a.result("A")
    b.result("B")
    b.metrics({0: 1.0})
    whole = files_of(_merged(a, b))
    url = f"memory://{tmp_path.name}/all"
    merge_results([a.root, b.root], url, show_progress=False)
    merge_results(url, tmp_path / "back", show_progress=False)
    assert files_of(tmp_path / "back") == whole
    report = merge_results([f"{url}/", url, a.root], url, show_progress=False)
    assert not report.copied and not report.united
    for folders, into, said in (
        (["memory://nothing/there"], tmp_path / "new", "folders: there is no folder 'memory://nothing/there'"),
        ([url], f"{url}/inside", "which a merge does not change"),
        ([f"{url}/results"], url, "is a part of "),
    ):
        with pytest.raises(InputError, match=said):
            merge_results(folders, into, show_progress=False)


def test_what_the_target_holds_counts_even_if_it_is_not_named(two: tuple[Written, Written]) -> None:
    a, b = two
    a.result(score=0.5)
    b.result(score=0.6)
    with pytest.raises(MergeConflict, match="main_score"):
        merge_results(a.root, b.root, show_progress=False)


def test_mistakes_are_told(two: tuple[Written, Written], tmp_path: Path) -> None:
    a, b = two
    file = tmp_path / "file"
    file.touch()
    new = tmp_path / "new"
    for folders, into, said in (
        ([], new, "folders: expected one results folder or more"),
        ([tmp_path / "nowhere"], new, "folders: there is no folder"),
        ([file], new, "is a file; expected a folder"),
        ([a.root, b.root], new, "holds no results; expected results, metrics, workers, sweeps, shards in it"),
        ([a.root], a.root / "inside", "which a merge does not change"),
        ([a.root / "results"], a.root, "is a part of "),
        ([a.root], file, "is a file; expected a folder"),
        ([""], new, "expected a path, got an empty string"),
    ):
        if any(Path(one).name == "results" for one in folders):
            (a.root / "results").mkdir()
        with pytest.raises(InputError, match=said):
            merge_results(folders, into, show_progress=False)  # type: ignore[arg-type]
        assert not new.exists() and not (a.root / "inside").exists()


def test_an_empty_folder_among_others_is_named(two: tuple[Written, Written]) -> None:
    a, b = two
    a.result()
    report = merge_results([a.root, b.root], a.root.parent / "all", show_progress=False)
    assert report.left_out == [f"{b.root} holds no results"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("what", ["results", f"{LAYER_0}/A.json"])
def test_what_may_not_be_read_stops_the_merge(two: tuple[Written, Written], what: str) -> None:
    a, b = two
    a.result("B")
    b.result("A")
    (b.root / what).chmod(0)
    try:
        with pytest.raises(PermissionError):
            _merged(a, b)
    finally:
        (b.root / what).chmod(0o755)
    assert not (a.root.parent / "all").exists()
