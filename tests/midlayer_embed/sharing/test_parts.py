"""Parts i/n: what users write, what SLURM and Kubernetes set, and a split that is the same everywhere."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midlayer_embed.errors import InputError
from midlayer_embed.sharing.parts import Part, balanced, own, parse_part, part_of_environment


def _array(*tasks: int, step: int | None = None) -> list[dict[str, str]]:
    """What SLURM sets in each task of an array."""
    names = {"COUNT": len(tasks), "MIN": min(tasks), "MAX": max(tasks), **({"STEP": step} if step else {})}
    common = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}
    return [{**common, "SLURM_ARRAY_TASK_ID": str(task)} for task in tasks]


@pytest.mark.parametrize(("text", "part"), [("1/1", Part(1, 1)), ("2/8", Part(2, 8)), (" 8/8 ", Part(8, 8))])
def test_a_part_is_read_and_written(text: str, part: Part) -> None:
    assert parse_part(text, {"SLURM_ARRAY_TASK_ID": "7"}) == part  # the environment is not asked
    assert str(part) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["", "2", "0/8", "9/8", "-1/8", "1/0", "0/0", "1/-8", "a/8", "1/8/2", "1.0/8", "auto/", "auto/0", "²/8", "2 8"],
)
def test_what_is_no_part_is_told_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r'^shard: expected "i/n" with 1 <= i <= n.*, got ') as told:
        parse_part(text, _array(0, 1)[0])
    assert repr(text) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("text", [None, 3, ("2", "8")])
def test_what_is_no_text_is_told(text: object) -> None:
    with pytest.raises(TypeError, match=r'^shard: expected "i/n"'):
        parse_part(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tasks", "step"), [((0, 1, 2, 3), 1), ((1, 2, 3, 4), 1), ((5, 6, 7), 1), ((0, 4, 8), 4), ((3, 5), None), ((7,), 1)]
)
def test_the_tasks_of_an_array_are_numbered_by_their_place(tasks: tuple[int, ...], step: int | None) -> None:
    found = [part_of_environment(environment) for environment in _array(*tasks, step=step)]
    assert found == [Part(place, len(tasks)) for place in range(1, len(tasks) + 1)]
    assert [parse_part("auto", environment) for environment in _array(*tasks)] == found
    assert parse_part(f"auto/{len(tasks)}", _array(*tasks)[0]) == found[0]


def test_an_array_whose_start_is_not_told_starts_at_0() -> None:
    assert part_of_environment({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}) == Part(3, 3)


@pytest.mark.parametrize("tasks", [(1, 2, 9, 22), (0, 1, 4), (1, 3, 5, 7, 20)])
def test_no_two_tasks_of_an_array_with_gaps_take_the_same_part_and_one_says_so(tasks: tuple[int, ...]) -> None:
    found, told = [], []
    for environment in _array(*tasks):
        try:
            found.append(part_of_environment(environment))
        except InputError as error:
            told.append(str(error))
    assert told and len(set(found)) == len(found)
    assert all(re.match(r"shard: task \d+ has no place in an array of \d+ .* without gaps", line) for line in told)


def test_pods_are_numbered_from_0_and_the_user_says_how_many() -> None:
    pods = [{"JOB_COMPLETION_INDEX": str(number)} for number in range(3)]
    assert [parse_part("auto/3", pod) for pod in pods] == [Part(1, 3), Part(2, 3), Part(3, 3)]
    assert parse_part("auto", {**pods[1], "JOB_COMPLETION_COUNT": "3"}) == Part(2, 3)
    with pytest.raises(InputError, match=r'how many there are; expected the job\'s completions too: "auto/8"'):
        parse_part("auto", pods[1])
    with pytest.raises(InputError, match=r"JOB_COMPLETION_INDEX is 2, expected one from 0 to 1 for 2 parts"):
        parse_part("auto/2", pods[2])


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
        ({"SLURM_ARRAY_TASK_ID": ""}, "neither"),
        ({**_array(0, 1)[0], "JOB_COMPLETION_INDEX": "0"}, "both SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX are set"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "expected a whole number of at least 1 in SLURM_ARRAY_TASK_COUNT, got ''"),
        ({"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "3"}, "in SLURM_ARRAY_TASK_ID, got 'x'"),
        (
            {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "3"},
            "task 3 has no place in an array of 3 tasks from 0",
        ),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "0"}, "in SLURM_ARRAY_TASK_COUNT, got '0'"),
        ({"JOB_COMPLETION_INDEX": "-1"}, "in JOB_COMPLETION_INDEX, got '-1'"),
    ],
)
def test_an_environment_that_does_not_say_which_part_is_told(environment: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as told:
        parse_part("auto/3" if "JOB_COMPLETION_INDEX" in environment else "auto", environment)
    assert "\n" not in str(told.value)


def test_a_count_beside_another_of_slurm_is_told() -> None:
    with pytest.raises(InputError, match=r'this is task 2/2 of a SLURM array, got "auto/8"; expected "auto"'):
        parse_part("auto/8", _array(0, 1)[1])


@given(st.lists(st.integers(0, 10**12)), st.integers(1, 40))
def test_every_thing_is_in_one_part_and_no_part_is_much_larger_than_another(sizes: list[int], count: int) -> None:
    parts = balanced(sizes, count)
    assert sorted(number for part in parts for number in part) == list(range(len(sizes)))
    assert all(part and part == sorted(part) for part in parts) and len(parts) <= count
    loads = [sum(sizes[number] for number in part) for part in parts]
    if len(parts) == count:  # never more than the largest thing apart
        assert max(loads) - min(loads) <= max(sizes)
    assert [own(sizes, Part(index, count)) for index in range(1, count + 1)] == parts + [[]] * (count - len(parts))


def test_more_parts_than_anyone_can_count_cost_nothing() -> None:
    assert own([3, 5], Part(10**12, 10**12)) == []
