"""Results on an object store, through everything that writes and reads results: equal to those of a folder."""

import sys
import uuid
from pathlib import Path

import fsspec
import pytest
from polars.testing import assert_frame_equal
from support.forks import Fork
from support.tiny_tasks import TinySTS, tiny_tasks

from leaderboard import load_results, mteb_results, run_sweep
from leaderboard.cli import main
from leaderboard.experiments.profiles.table import _read_scores
from leaderboard.storage.local import LocalStorage
from leaderboard.storage.opening import open_storage


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.process)])
def url(request: pytest.FixtureRequest) -> str:
    """An empty folder of an object store."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/my results"
    return f"memory://{uuid.uuid4().hex}"


def test_the_tables_of_a_sweep_equal_those_of_a_folder(llama_folder: Path, tmp_path: Path, url: str) -> None:
    boards = [
        run_sweep(llama_folder, tiny_tasks(), results, layers=[0, 3], metrics=["prompt_entropy"], show_progress=False)
        for results in (tmp_path / "results", url)
    ]
    boards.append(load_results(url))
    for board in boards[1:]:
        assert_frame_equal(boards[0].scores, board.scores, abs_tol=1e-9)
        assert_frame_equal(boards[0].metrics, board.metrics, abs_tol=1e-9)
        assert_frame_equal(boards[0].schemes(), board.schemes(), abs_tol=1e-9)
    here, there = (mteb_results(results).to_dataframe() for results in (tmp_path / "results", url))
    assert here.equals(there)
    assert_frame_equal(boards[0].scores, _read_scores(url), abs_tol=1e-9)


def test_finished_results_are_found_again(llama_folder: Path, url: str, caplog: pytest.LogCaptureFixture) -> None:
    sweep = {"layers": [1], "metrics": "none", "show_progress": False}
    run_sweep(llama_folder, TinySTS(), url, **sweep)
    before = _put(url)
    caplog.set_level("INFO")
    run_sweep(llama_folder, TinySTS(), url, **sweep)
    assert "TinySTS is finished" in caplog.text
    assert {path: when for path, when in _put(url).items() if "/results/" in path} == {
        path: when for path, when in before.items() if "/results/" in path
    }


def _put(url: str) -> dict[str, object]:
    store, root = fsspec.url_to_fs(url, use_listings_cache=False)
    return {path: store.modified(path) for path in store.find(root)}


def test_commands_take_a_url_where_they_take_a_folder(
    llama_folder: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: dict[str, dict[str, str]] = {}
    for results in ("folder", url):
        of = said[results] = {}

        def run(*command: str, of: dict[str, str] = of, results: str = results) -> None:
            assert main([*command, "--quiet"] if command[0] == "run" else list(command)) == 0
            of[" ".join(command)] = capsys.readouterr().out

        run("run", str(llama_folder), "--tasks", "StarterSTS", "--limit", "20", "--layers", "0,-1", "--metrics", "dime",
            "--metric-texts", "20", "--results", results)  # fmt: skip
        run("report", results, "--json")
        run("regret", results, "--json")
        run("card", results, "--out", f"{len(said)}/README.md")
    here, there = ([text.replace(url, "folder") for text in of.values()] for of in said.values())
    assert here[:3] == there[:3]
    assert "tables: folder/leaderboard.md; " in here[0]
    cards = [Path(str(number), "README.md").read_text() for number in (1, 2)]
    assert cards[0] == cards[1].replace(url, "folder")
    local, remote = (open_storage(results).paths() for results in ("folder", url))
    by_worker = ("shards/", "workers/")  # who did what has names of its own
    assert [path for path in remote if not path.startswith(by_worker)] == [
        path for path in local if not path.startswith(by_worker)
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "1", "2"}


@pytest.mark.parametrize(
    "command", ["report FOLDER", "regret FOLDER", "card FOLDER --out a.md", "run starter --results FOLDER"]
)
@pytest.mark.parametrize(
    ("results", "why"),
    [
        ("simplecache::s3://b/x", "results: expected a URL such as s3://bucket/results, got 'simplecache::s3://b/x'"),
        ("s4://bucket/x", "results: s4://bucket/x is not the URL of a store: Protocol not known: s4"),
        ("s3:/bucket/x", "results: expected a URL such as s3://bucket/results, got 's3:/bucket/x'"),
    ],
)
def test_a_wrong_url_is_one_line_and_exit_2(
    command: str, results: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.replace("FOLDER", results).split()) == 2
    assert capsys.readouterr().err.splitlines() == [f"midlayer-leaderboard: {why}"]


@pytest.mark.parametrize("command", ["report FOLDER", "regret FOLDER", "card FOLDER --out a.md"])
def test_a_url_where_nothing_is_is_one_line_and_exit_2(
    command: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [url if part == "FOLDER" else part for part in command.split()]
    assert main(given) == 2
    assert capsys.readouterr().err.splitlines() == [f"midlayer-leaderboard: results: there is no folder {url!r}"]


def test_a_path_of_a_url_is_refused(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path("s3://a/b") is the folder b in a in "s3:"."""
    monkeypatch.chdir(tmp_path)
    for call in (load_results, mteb_results, lambda folder: run_sweep(llama_folder, TinySTS(), folder)):
        with pytest.raises(ValueError, match=r"^results: expected a URL such as .*, got 's3:/bucket/x'$"):
            call(Path("s3://bucket/x"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_url_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    for url in (f"file://{tmp_path}/x", f"local://{tmp_path}/x", str(tmp_path / "x")):
        storage = open_storage(url)
        assert isinstance(storage, LocalStorage)
        assert storage.root == tmp_path / "x"


def test_a_store_without_results_says_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    store, root = fsspec.url_to_fs(url)
    store.pipe_file(f"{root}/notes.txt", b"no result")
    assert main(["report", url]) == 2
    assert capsys.readouterr().err.startswith(f"midlayer-leaderboard: {url} contains no scores of layers")


_RUN = """
import sys
from leaderboard.cli import main
sys.exit(main(["run", sys.argv[1], "--tasks", "StarterSTS", "StarterPairClassification", "--limit", "10", "--layers",
               "0,-1", "--metrics", "none", "--quiet", "--results", sys.argv[2]]))
"""


@pytest.mark.slow
@pytest.mark.process
def test_two_runs_share_the_shards_of_one_bucket(llama_folder: Path, s3_bucket: str) -> None:
    url = f"{s3_bucket}/results"
    runs = [Fork([sys.executable, "-c", _RUN, str(llama_folder), url]) for _ in range(2)]
    assert [run.wait(300) for run in runs] == [0, 0]
    paths = open_storage(url).paths("shards")
    shards = {path.rpartition("/")[0] for path in paths}
    assert len(shards) == 2
    claims = sorted(path for path in paths if path.endswith(".claim"))
    assert claims == sorted(f"{shard}/0001.claim" for shard in shards)
    assert load_results(url).scores["task"].value_counts(sort=True)["count"].to_list() == [2, 2]
