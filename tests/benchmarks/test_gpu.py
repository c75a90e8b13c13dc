"""The benchmark of a GPU, on the CPU and a tiny model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu
from midlayer_embed import LayerwiseEncoder


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_it_prints_three_passes_of_a_random_model(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--device", "cpu", "--texts", "12", "--rounds", "1", "--dtype", dtype])
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [row[0].split(",")[0] for row in rows[2:]] == ["plain SentenceTransformer", "last layer", "all 5 layers"]
    assert rows[2][3] == "1.00"
    assert all(0 < float(row[5].rstrip("%")) <= 100 for row in rows[2:])
    assert f"device {gpu.describe_device(torch.device('cpu'))}, {dtype}, peak" in "\n".join(lines)


def test_the_work_is_that_of_the_matrix_products(llama_folder: Path, sentences: list[str]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    texts = sentences[:1] * 2 + sentences[1:2]
    encoder = LayerwiseEncoder(llama_folder)
    encoder.backbone.model.set_attn_implementation("eager")  # fused attention is not counted on the CPU
    lengths = encoder.tokenized(texts).lengths
    with FlopCounterMode(display=False) as counted:
        for text in texts:
            encoder.encode(text, [-1])
    pooled = 2 * 32 * lengths.sum()
    assert gpu.flops(encoder, lengths) == pytest.approx(counted.get_total_flops() - pooled, rel=0.02)


def test_vectors_that_differ_stop_it() -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 8))
    assert gpu.check_equal("them", vectors, 2 * vectors, torch.float32) < 1e-12
    with pytest.raises(AssertionError, match="them: vectors differ by a cosine distance of"):
        gpu.check_equal("them", vectors, vectors[::-1], torch.bfloat16)
    with pytest.raises(AssertionError, match="distance of nan"):
        gpu.check_equal("them", vectors, np.full_like(vectors, np.nan), torch.bfloat16)
