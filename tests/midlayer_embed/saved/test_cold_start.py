"""What the reader of a saved folder imports, asked of a fresh process."""

from typing import Any


def test_onnx_runtime_needs_neither_torch_nor_what_is_slow_to_import(fresh_answers: dict[str, Any]) -> None:
    assert fresh_answers["a saved folder, onnx"] == {"shape": [2, 32], "loaded": []}


def test_torch_needs_one_model_of_transformers_and_nothing_that_it_does_not_import_itself(
    fresh_answers: dict[str, Any],
) -> None:
    assert fresh_answers["a saved folder, torch"] == {"shape": [2, 32], "more": [], "loaded": []}
