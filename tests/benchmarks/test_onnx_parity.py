"""The table of parity of ONNX graphs."""

import re

import pytest

from benchmarks.serving.onnx_parity import main


@pytest.mark.slow
@pytest.mark.model
def test_it_prints_a_row_for_each_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--architectures", "gpt2", "llama", "--layers", "1"])
    rows = capsys.readouterr().out.strip().splitlines()[-2:]
    for name, row in zip(("gpt2", "llama"), rows, strict=True):
        found = re.fullmatch(rf"\| {name} \| 2 \| (\S+) \|", row)
        assert found is not None
        assert 0 < float(found[1]) < 1e-5
