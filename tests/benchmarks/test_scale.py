"""The figures of docs/scale.md are those of the program, and follow from the costs of shards."""

from pathlib import Path

import pytest
from support.reading.pages import missing_lines

from benchmarks.scale import PAGE, WRITTEN, Run, _lines_of_models, draw, models, report, shown, tasks, worker
from leaderboard.shards.costs import Machine


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(worker())


@pytest.mark.slow
def test_what_is_written_is_what_the_program_prints(run: Run) -> None:
    written = WRITTEN.read_text(encoding="utf-8")
    assert missing_lines(written, report(run), "1%") == []


def test_the_page_has_the_tables_that_are_written() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert shown(page, WRITTEN.read_text(encoding="utf-8")) == page
    assert shown("<!-- benchmarks/SCALE.md; within 1% -->\n```text\nold\n```\n", "```\nnew\n```\n").endswith(
        "\nnew\n```\n"
    )


def test_there_are_fifty_models_below_ten_billion_parameters() -> None:
    assert len({model.name for model in models()}) == 50
    assert all(0 < model.billions < 10 for model in models())
    assert len(tasks()) == 32


def test_parameters_of_blocks_are_those_of_the_widths() -> None:
    for model in models():
        if "mamba" not in model.name:  # 12 d^2 a block, or more or less of it with gates and shared heads
            estimate = 12 * model.size.n_blocks * model.size.width**2
            assert 0.5 < model.size.n_active / estimate < 1.7, model.name


def test_one_worker_takes_the_sum_of_its_shards(run: Run) -> None:
    outcome = run.simulated(1)
    assert len(outcome.done) == run.n_shards == 1600
    others = outcome.waiting + outcome.loading + run.cluster.start
    assert outcome.makespan == pytest.approx(outcome.working + others)
    estimate = sum(sum(run.seconds(model, task)) for model in models() for task in tasks())
    assert outcome.working == pytest.approx(estimate, rel=0.1)  # the errors are as often too low as too high


def test_two_workers_take_half_of_the_time(run: Run) -> None:
    assert run.simulated(2).makespan == pytest.approx(run.simulated(1).makespan / 2, rel=0.05)


def test_requests_are_counted_by_hand(run: Run) -> None:
    outcome = run.simulated(2)
    found = run.requests(outcome)
    assert found["looking what is finished"] == run.n_results
    assert found["signs of life"] == pytest.approx(2 * outcome.makespan / 15 * 3)


def test_vectors_are_every_text_at_every_layer() -> None:
    small = next(model for model in models() if model.name.endswith("MiniLM-L6-v2"))
    vectors = Run(Machine(1e12), some=(small,)).vectors()
    texts = [(sizes.evaluated + sizes.others).number for sizes in tasks().values()]
    assert vectors == [4 * number * 384 * 7 for number in texts]


def test_a_price_adds_a_column(run: Run) -> None:
    free, priced = (list(_lines_of_models(run, price)) for price in (None, 2.0))
    assert priced[0] == f"{free[0]}  dollars each"
    hours = float(free[-1].split()[5])
    assert float(priced[-1].split()[-1]) == pytest.approx(2 * hours, rel=0.01)


def test_a_figure_is_drawn(run: Run, tmp_path: Path) -> None:
    draw([run.simulated(n) for n in (1, 2)], tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
