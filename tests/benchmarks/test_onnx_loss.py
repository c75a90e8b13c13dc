"""The table of docs/guides/onnx.md is what the benchmark measures: one row of it, on the real model."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.process
def test_the_loss_of_the_starter_model_is_that_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.serving.onnx_loss import rows
    from midlayer_embed import MidLayerEncoder

    guide = (ROOT / "docs/guides/onnx.md").read_text(encoding="utf-8")
    row = re.search(r"^\| SmolLM2-135M, layer 2 \|(.*)\|$", guide, re.MULTILINE)
    assert row is not None
    written = [float(cell.strip().removesuffix(" MB")) for cell in row[1].split("|")]
    ((_, *cells),) = rows(MidLayerEncoder("starter", 2, device="cpu"), {"": {}})
    found = [float(cell.removesuffix(" MB")) for cell in cells]
    # Processors round products of 8 bits differently.
    for here, there, within in zip(found, written, (1, 1, 0.003, 0.01, 0.1, 1), strict=True):
        assert here == pytest.approx(there, abs=within)
