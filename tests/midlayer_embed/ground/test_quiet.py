import logging

import pytest

from midlayer_embed.ground.quiet import log_level


def test_levels_are_restored_after_an_error_too(caplog: pytest.LogCaptureFixture) -> None:
    one, two = logging.getLogger("a.library"), logging.getLogger("another.library")
    one.setLevel(logging.INFO)
    with pytest.raises(RuntimeError), log_level(logging.ERROR, "a.library", "another.library"):
        one.warning("hidden")
        two.error("shown")
        raise RuntimeError
    assert (one.level, two.level) == (logging.INFO, logging.NOTSET)
    assert caplog.messages == ["shown"]
