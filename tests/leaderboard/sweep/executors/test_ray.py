"""On a cluster of three nodes, all of them on this machine."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboard.sweep.executors.follow import follow
from leaderboard.sweep.executors.ray import RayExecutor
from midlayer_embed.errors import InputError

pytestmark = [pytest.mark.process, pytest.mark.slow]
Until = Callable[..., None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    try:
        for _ in range(2):
            found.add_node(num_cpus=1, object_store_memory=80_000_000)
        yield found.address
    finally:
        found.shutdown()


def test_workers_run_on_all_nodes_and_one_whose_task_is_killed_starts_again(
    cluster: str, stand_in: Any, until: Until
) -> None:
    executor = RayExecutor(cluster)
    names = [f"{number}-of-3" for number in (1, 2, 3)]
    try:
        handles = executor.start([stand_in.worker("sleep", name, name=name) for name in names])
        assert executor.said().endswith("3 nodes")
        until(lambda: len(stand_in.notes()) == 3)  # all at a time
        (killed,) = stand_in.pids("sleep 2-of-3")
        os.kill(
            int(Path(f"/proc/{killed}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL
        )  # its parent
        until(lambda: len(stand_in.pids("sleep 2-of-3")) == 2)
        assert stand_in.pids("stopped") == [killed]  # in order, though nobody told it
        assert [handle.poll() for handle in handles] == [None] * 3
        for handle in handles:
            handle.stop()
        until(lambda: len(stand_in.pids("stopped")) == 4)
        until(lambda: all(handle.poll() is not None for handle in handles))
    finally:
        executor.close()


def test_the_exit_codes_come_back(cluster: str, stand_in: Any) -> None:
    executor = RayExecutor(cluster)
    try:
        assert follow(executor, [stand_in.worker(code) for code in ("0", "1", "2", "0")], lambda: None) == [0, 1, 2, 0]
    finally:
        executor.close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "address: no Ray cluster at 127.0.0.1:1: "),
        ("ray://127.0.0.1:1", "address: no Ray cluster at ray://127.0.0.1:1: "),
        ("127.0.0.1", 'address: expected "auto", HOST:PORT or ray://HOST:PORT, got'),
        ("127.0.0.1:port", 'address: expected "auto", HOST:PORT or ray://HOST:PORT, got'),
    ],
)
def test_an_address_without_a_cluster(
    address: str, message: str, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match=message):
        RayExecutor(address).start([stand_in.worker("0")])
