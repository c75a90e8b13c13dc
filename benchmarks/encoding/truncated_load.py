"""Peak memory and time of loading a middle layer, over loading all blocks and over the exported folder.

    python -m benchmarks.encoding.truncated_load [--layer K] [--stored DTYPE ...] [--loads N]

The model has the size of Pythia-410M and random weights, stored once in float32 and once in float16, which is converted
on loading. Each load runs in its own process and ends with the vector of one text, because float32 weights are memory
mapped and read by the first forward pass. Memory is the peak of the resident set (Linux only), including mapped files,
minus the memory of the libraries. Checks that the vectors are equal.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers.models.gpt_neox.modeling_gpt_neox  # noqa: F401  (imported before memory is measured)
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.bench import Row, build_parser, describe_machine, memory_mb, report_rows, reset_peak_memory, run_in_fork
from midlayer_embed import MidLayerEncoder

PYTHIA_410M = {
    "vocab_size": 50304,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# Relative to the exported folder, the least that loading can take.
TARGET = 1.1
TEXT = " ".join(["which layer embeds best"] * 16)


def save_model(folder: Path, dtype: str) -> None:
    """Save the whole model, with a tokenizer of four words."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt_neox", **PYTHIA_410M)
    auto_model: Any = AutoModelForCausalLM
    auto_model.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(folder)
    words = {word: number for number, word in enumerate(["<eos>", *TEXT.split()[:4]])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)


def export(folder: Path, layer: int, dtype: str, target: Path) -> None:
    """Save one layer in the dtype of the whole model."""
    MidLayerEncoder(folder, layer, dtype=dtype, device="cpu").save_pretrained(str(target))


def measure_load(folder: Path, layer: int | None) -> dict[str, Any]:
    """Load a layer of a model, or an exported folder with plain SentenceTransformer; returns time and memory."""
    before = memory_mb("VmRSS")
    reset_peak_memory()
    start = time.perf_counter()
    if layer is None:
        model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    else:
        model = MidLayerEncoder(folder, layer, device="cpu")
    loaded = time.perf_counter()
    vector = model.encode(TEXT)
    return {
        "peak_mb": memory_mb("VmHWM") - before,
        "load_seconds": loaded - start,
        "seconds": time.perf_counter() - start,
        "weights_mb": sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 2**20,
        "vector": vector.astype(float).tolist(),
    }


def compare(dtype: str, layer: int, n_loads: int, scratch: Path) -> float:
    """Print figures and ratios for one dtype of the stored weights; returns the memory ratio to the exported folder."""
    whole, exported = scratch / f"whole-{dtype}", scratch / f"exported-{dtype}"
    run_in_fork(save_model, whole, dtype)
    run_in_fork(export, whole, layer, dtype, exported)
    every, middle, plain = "all 24 blocks", f"MidLayerEncoder, layer {layer}", "exported folder, plain"
    found: dict[str, dict[str, Any]] = {}
    for name, folder, number in (
        (every, whole, PYTHIA_410M["num_hidden_layers"]),
        (middle, whole, layer),
        (plain, exported, None),
    ):
        runs: list[dict[str, Any]] = [run_in_fork(measure_load, folder, number) for _ in range(n_loads)]
        found[name] = {key: min(run[key] for run in runs) for key in runs[0]}
        print(
            f"{name:>25}: weights {found[name]['weights_mb']:.0f} MB, peak {found[name]['peak_mb']:.0f} MB, "
            f"loaded in {found[name]['load_seconds']:.2f} s, first vector after {found[name]['seconds']:.2f} s",
            flush=True,
        )
    np.testing.assert_allclose(found[middle]["vector"], found[plain]["vector"], atol=1e-5)
    for reference in (every, plain):
        print(
            f"{middle} over {reference}: "
            + ", ".join(
                f"{what} {found[middle][key] / found[reference][key]:.2f}"
                for key, what in (("peak_mb", "peak memory"), ("load_seconds", "load"), ("seconds", "first vector"))
            ),
            flush=True,
        )
    return float(found[middle]["peak_mb"] / found[plain]["peak_mb"])


def main() -> None:
    """Print the ratios."""
    parser = build_parser(__doc__)
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--stored", nargs="+", default=["float32", "float16"], help="dtype of the stored weights")
    parser.add_argument("--loads", type=int, default=1, help="number of loads of each kind; the best is printed")
    arguments = parser.parse_args()
    print(describe_machine())
    print("model of the size of Pythia-410M")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in arguments.stored:
            print(f"stored in {dtype}:")
            ratio = compare(dtype, arguments.layer, arguments.loads, Path(scratch))
            what = f"loading a middle layer of {dtype} weights, peak memory"
            rows.append(Row(what, "exported folder, plain", ratio, TARGET, at_least=False))
    report_rows(rows, arguments.rows)


if __name__ == "__main__":
    main()
