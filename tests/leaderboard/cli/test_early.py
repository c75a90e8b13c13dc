from typing import Any

import pytest
from support.fresh import MISTAKES


@pytest.mark.parametrize("command", MISTAKES["leaderboard"])
def test_a_mistake_is_told_before_anything_slow_is_imported(command: str, fresh_answers: dict[str, Any]) -> None:
    answer = fresh_answers["mistakes of leaderboard"][command]
    assert answer["code"] == 2
    assert MISTAKES["leaderboard"][command] in answer["said"]
    assert len(answer["said"].splitlines()) == 1
    assert answer["loaded"] == []
    assert answer["left"] == []
