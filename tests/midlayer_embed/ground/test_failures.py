import logging

import pytest

from midlayer_embed.errors import InputError
from midlayer_embed.ground.failures import report_failures

_LOGGER = logging.getLogger("tests.failures")


def test_a_failure_is_recorded_and_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    failures: dict[str, Exception] = {}
    with caplog.at_level(logging.DEBUG, logger="tests.failures"):
        for item, error in (("a", ZeroDivisionError("by nothing\nat all")), ("b", InputError("its data are missing"))):
            with report_failures(item, failures, _LOGGER):
                raise error
        with report_failures("c", failures, _LOGGER):
            pass
        with report_failures("d", failures, _LOGGER, reason=lambda error: "gated"):
            raise OSError("403")
    assert list(failures) == ["a", "b", "d"]
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == ["a failed: ZeroDivisionError: by nothing", "b failed: its data are missing", "d failed: gated"]
    assert [record.exc_info is not None for record in caplog.records] == [False, True] * 3


def test_what_would_fail_every_item_is_raised() -> None:
    failures: dict[str, Exception] = {}
    with (
        pytest.raises(OSError, match="full"),
        report_failures("a", failures, _LOGGER, stops_all=lambda error: isinstance(error, OSError)),
    ):
        raise OSError("full")
    with pytest.raises(KeyboardInterrupt), report_failures("a", failures, _LOGGER):
        raise KeyboardInterrupt
    assert failures == {}


def test_a_recorded_error_holds_no_variables() -> None:
    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

    def work() -> None:
        large = Large()
        assert large
        raise ValueError("no")

    failures: dict[str, Exception] = {}
    with report_failures("a", failures, _LOGGER):
        work()
    assert failures["a"].__traceback__ is not None
    assert Large.alive == 0
