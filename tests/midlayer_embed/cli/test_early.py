from typing import Any

import pytest
from support.fresh import MISTAKES


@pytest.mark.parametrize("command", MISTAKES["midlayer_embed"])
def test_a_mistake_is_told_before_anything_slow_is_imported(command: str, fresh_answers: dict[str, Any]) -> None:
    answer = fresh_answers["mistakes of midlayer_embed"][command]
    assert answer["code"] == 2
    assert MISTAKES["midlayer_embed"][command] in answer["said"]
    assert len(answer["said"].splitlines()) == 1
    assert answer["loaded"] == []
    assert answer["left"] == []
