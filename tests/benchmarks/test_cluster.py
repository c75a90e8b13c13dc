"""The simulation of workers gives what a person computes by hand."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cluster import Cluster, Job, simulate


def jobs(model: str, *seconds: float) -> list[Job]:
    return [Job(model, f"task {number}", some) for number, some in enumerate(seconds)]


def test_a_worker_that_is_done_helps_the_other_one() -> None:
    outcome = simulate([jobs("a", 5, 1), jobs("b", 3)])
    assert [(one.worker, one.part, one.begin, one.end) for one in outcome.done] == [
        (1, 1, 0, 3),
        (1, 0, 3, 4),
        (0, 0, 0, 5),
    ]
    assert (outcome.makespan, outcome.working, outcome.idle) == (5, 9, pytest.approx(0.1))


def test_a_helper_begins_at_the_end_of_a_part() -> None:
    outcome = simulate([jobs("a", 4, 3, 2), []])
    assert [(one.worker, one.job.seconds, one.end) for one in outcome.done] == [(1, 2, 2), (0, 4, 4), (1, 3, 5)]


def test_the_largest_shard_bounds_all() -> None:
    outcome = simulate([jobs("a", 10), jobs("a", 1), jobs("a", 1)])
    assert outcome.makespan == 10
    assert outcome.idle == pytest.approx(1 - 12 / 30)


def test_a_model_is_loaded_when_a_worker_changes_to_it() -> None:
    outcome = simulate([[*jobs("a", 1, 1), *jobs("b", 1)]], Cluster(reading=10), {"a": 20, "b": 30})
    assert (outcome.n_loads, outcome.loading, outcome.makespan) == (2, 5, 8)
    assert (outcome.waiting, outcome.n_downloads) == (0, 0)


def test_the_workers_of_a_node_share_a_download() -> None:
    outcome = simulate([jobs("a", 1), jobs("a", 1)], Cluster(per_node=2, link=10), {"a": 20})
    assert (outcome.makespan, outcome.n_downloads, outcome.downloaded, outcome.waiting) == (3, 1, 20, 4)


def test_nodes_share_the_link() -> None:
    # Both at 5 a second: b is there after 2 s. Then the other 10 of a's 20 come at 10 a second.
    outcome = simulate([jobs("a", 1), jobs("b", 1)], Cluster(per_node=1, link=10), {"a": 20, "b": 10})
    assert [(one.job.model, one.end) for one in outcome.done] == [("b", 3), ("a", 4)]
    assert outcome.waiting == 5


def test_a_node_takes_no_more_than_its_own_link() -> None:
    outcome = simulate([jobs("a", 1)], Cluster(per_node=1, link=10, node_link=4), {"a": 20})
    assert outcome.makespan == 6


def test_a_download_does_not_stop_who_works() -> None:
    outcome = simulate([jobs("a", 1, 1, 1), jobs("b", 1)], Cluster(per_node=2, link=10), {"a": 0, "b": 100})
    assert [one.job.model for one in outcome.done] == ["a", "a", "a", "b"]
    assert outcome.makespan == 11


def test_workers_start_late() -> None:
    assert simulate([jobs("a", 1)], Cluster(start=20)).makespan == 21


def test_there_may_be_nothing_to_do() -> None:
    assert simulate([[], []]).idle == 0


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 100)), max_size=6), min_size=1, max_size=6),
    st.integers(1, 3),
    st.floats(1, 100),
)
def test_each_shard_is_done_once_and_nobody_does_two_at_a_time(
    parts: list[list[tuple[str, float]]], per_node: int, link: float
) -> None:
    given_parts = [
        [Job(model, f"{n}.{m}", some) for m, (model, some) in enumerate(part)] for n, part in enumerate(parts)
    ]
    cluster = Cluster(per_node=per_node, link=link, node_link=20, reading=50)
    outcome = simulate(given_parts, cluster, {"a": 10, "b": 200, "c": 0})
    assert sorted(one.job.task for one in outcome.done) == sorted(job.task for part in given_parts for job in part)
    for worker in range(len(parts)):
        own = sorted((one.begin, one.end) for one in outcome.done if one.worker == worker)
        assert all(end <= begin + 1e-6 for (_, end), (begin, _) in pairwise(own))
    busy = outcome.working + outcome.waiting + outcome.loading
    assert busy <= len(parts) * outcome.makespan + 1e-6
