"""midlayer-leaderboard: registers the commands. Each command is a module of this package."""

from collections.abc import Sequence

from leaderboard.cli.card import add_card
from leaderboard.cli.experiment import add_experiment
from leaderboard.cli.merge import add_merge
from leaderboard.cli.options import PROGRAM
from leaderboard.cli.prefetch import add_prefetch
from leaderboard.cli.probe import add_probe
from leaderboard.cli.regret import add_regret
from leaderboard.cli.report import add_report
from leaderboard.cli.run import add_run
from leaderboard.cli.status import add_status
from leaderboard.cli.submit import add_submit
from leaderboard.cli.tasks import add_tasks
from midlayer_embed.cli.parser import Parser, program, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: Arguments to parse instead of `sys.argv`.

    Returns:
        The exit code.
    """
    return run(_parser(), arguments)


def _parser() -> Parser:
    description = "MTEB scores of every layer of a language model, with one forward pass per task."
    return program(
        PROGRAM,
        description,
        (
            add_run,
            add_submit,
            add_status,
            add_merge,
            add_tasks,
            add_prefetch,
            add_card,
            add_report,
            add_regret,
            add_experiment,
            add_probe,
        ),
    )
