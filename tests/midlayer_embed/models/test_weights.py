"""Errors while weights are loaded: those of the libraries are the user's folder, those of our own code are defects."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder


def _encoders() -> list[Callable[[Path], Any]]:
    return [LayerwiseEncoder, lambda folder: MidLayerEncoder(folder, 1)]


def _raises(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("make", _encoders(), ids=["every layer", "one layer"])
@pytest.mark.parametrize("kind", [AttributeError, TypeError, KeyError, RuntimeError, AssertionError])
@pytest.mark.parametrize("where", ["_check_weights", "log_kernels"])
def test_a_defect_of_our_own_stays_a_traceback(
    make: Callable[[Path], Any], kind: type[Exception], where: str, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defect = kind("a defect")
    monkeypatch.setattr(f"midlayer_embed.models.weights.{where}", _raises(defect))
    with pytest.raises(kind) as raised:
        make(llama_folder)
    assert raised.value is defect


@pytest.mark.parametrize("make", _encoders(), ids=["every layer", "one layer"])
def test_an_error_of_a_library_is_one_line_and_its_traceback_is_logged_for_debugging(
    make: Callable[[Path], Any], llama_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cause = AttributeError("no such layer type")
    monkeypatch.setattr(AutoModel, "from_pretrained", _raises(cause))
    with (
        caplog.at_level(logging.DEBUG, "midlayer_embed"),
        pytest.raises(ValueError, match=r"^model: the folder .*tiny-llama cannot be loaded: no such layer type$"),
    ):
        make(llama_folder)
    assert cause in [record.exc_info[1] for record in caplog.records if record.exc_info]
