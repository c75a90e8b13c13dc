"""A merge of the records of shards, and one that is killed, repeated, or given the folders in another order."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.folders.written import Written, ended, files_of

from leaderboard import merge_results
from leaderboard.results.files import merging
from leaderboard.shards.progress import read_progress
from leaderboard.storage.local import LocalStorage
from leaderboard.storage.opening import open_storage


@pytest.fixture
def two(tmp_path: Path) -> tuple[Written, Written]:
    return Written(tmp_path / "a"), Written(tmp_path / "b")


def _merged(*folders: Written, into: Path | None = None) -> Path:
    target = into or folders[0].root.parent / "all"
    merge_results([one.root for one in folders], target, show_progress=False)
    return target


def test_tries_are_numbered_so_that_the_state_is_right(two: tuple[Written, Written]) -> None:
    a, b = two
    for folder, name in ((a, "a1"), (b, "b1")):
        folder.worker(name)
    a.shard("A", ended("failed", "a1", error="no memory"), "a1")  # open: its worker is gone with its machine
    b.shard("A", ended("finished", "b1"))
    a.shard("B", ended("finished", "a1"))
    b.shard("B", ended("stopped", "b1"), ended("failed", "b1"))
    a.shard("C", "a1")
    b.shard("C")
    a.shard("D", ended("failed", "a1", error="no disk"), cost=10)
    b.shard("E", ended("finished", "b1", seconds=7), cost=12)
    b.shard("A", ended("finished", "b1"), cost=11, asks="more")  # an estimate of another machine
    seen = []
    for order in permutations(two):
        target = a.root.parent / f"into-{order[0].root.name}"
        progress = read_progress(open_storage(_merged(*order, into=target)))
        states = {shard.task: (shard.state, shard.tries) for shard in progress.shards}
        assert states == {
            **{"A": ("finished", 2), "B": ("finished", 3), "C": ("waiting", 0)},
            **{"D": ("failed", 1), "E": ("finished", 1)},
        }
        assert progress.workers == {}
        (failed,) = progress.of("failed")
        assert failed.error == "no disk" and failed.host == "host-1"
        assert failed.log is not None and (target / failed.log).read_text() == "try 1 of a1\n"
        seen.append(files_of(target))
    assert seen[0] == seen[1]
    into_a = read_progress(open_storage(_merged(a, b, into=a.root)))
    assert {shard.task: shard.state for shard in into_a.shards}["A"] == "finished"
    assert _merged(b, into=a.root) and files_of(a.root) == files_of(_merged(a, b, into=a.root))


def test_a_worker_of_another_folder_does_not_pass_for_alive(two: tuple[Written, Written]) -> None:
    a, b = two
    a.worker("killed")
    a.worker("here")
    assert set(read_progress(open_storage(a.root)).workers) == {"killed", "here"}
    b.worker("ended", ended=True)
    assert read_progress(open_storage(_merged(a, b))).workers == {}
    assert set(read_progress(open_storage(_merged(a, b, into=a.root))).workers) == {"killed", "here"}


class _Killed(BaseException):
    """As SIGKILL: nothing is cleaned up in our code."""


def _killing(after: int) -> Callable[..., Any]:
    class Storage(LocalStorage):
        left = after

        def _count(self) -> None:
            Storage.left -= 1
            if Storage.left < 0:
                raise _Killed

        def write(self, path: str, content: bytes) -> None:
            self._count()
            super().write(path, content)

        def create(self, path: str, content: bytes) -> bool:
            self._count()
            return super().create(path, content)

    return Storage


def test_a_merge_that_is_killed_anywhere_is_finished_by_the_next(
    two: tuple[Written, Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    a.result("A")
    b.result("A", 1)
    b.result("B")
    a.metrics({0: 1.0})
    b.metrics({1: 1.0})
    a.worker("a1")
    b.worker("b1", ended=True)
    a.shard("A", ended("failed", "a1"), ended("finished", "a1"))
    b.shard("A", ended("failed", "b1"), ended("finished", "b1"))
    whole = files_of(_merged(a, b))
    for after in range(len(whole)):
        target = a.root.parent / f"killed-{after}"
        with monkeypatch.context() as patch:
            patch.setattr(merging, "open_storage", _killing(after))
            with pytest.raises(_Killed):
                merge_results([a.root, b.root], target, show_progress=False)
        partly = files_of(target)
        assert len(partly) == after
        assert partly.items() <= whole.items()
        assert files_of(_merged(a, b, into=target)) == whole


_FOLDER = st.lists(
    st.tuples(
        st.sampled_from("AB"), st.integers(0, 1), st.sampled_from(["result", "metrics", "failed", "finished", "worker"])
    ),
    max_size=6,
)


@settings(max_examples=25)
@given(st.lists(_FOLDER, min_size=1, max_size=3), st.randoms())
def test_order_does_not_matter_and_a_second_merge_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[tuple[str, int, str]]], random: Any
) -> None:
    root = tmp_path_factory.mktemp("merged")
    folders = []
    for place, content in enumerate(contents):
        folder = Written(root / f"from-{place}")
        for number, (task, layer, kind) in enumerate(content):
            if kind == "result":
                folder.result(task, layer, 0.5 + 1e-9 * random.random(), date=random.choice([1.0, 2.0, 3.0]))
            elif kind == "metrics":
                folder.metrics({layer: 1.0 + 1e-9 * random.random()}, task, device=random.choice(["cpu", "cuda"]))
            elif kind == "worker":
                folder.worker(f"w{place}", ended=layer == 0)
            else:
                folder.shard(task, ended(kind, f"w{place}", seconds=number), cost=layer)
        folders.append(folder.root)
    if not any(files_of(folder) for folder in folders):
        return
    merged = []
    for number, order in enumerate(permutations(folders)):
        target = root / f"into-{number}"
        merge_results(order, target, show_progress=False)
        merged.append(files_of(target))
        report = merge_results([*order, target, *order], target, show_progress=False)
        assert not report.copied and not report.united
        assert files_of(target) == merged[-1]
    assert all(one == merged[0] for one in merged)
