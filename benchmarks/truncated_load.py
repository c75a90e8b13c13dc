"""What a middle layer takes to load: peak memory and seconds, against all blocks and against the exported folder.

    python benchmarks/truncated_load.py [--layer K] [--stored DTYPE ...] [--loads N]

The model has the size of Pythia-410M and random weights, which cost what trained ones do, once as they are stored in
float32 and once in float16, which is converted on the way. Each load runs in a process of its own and ends with the
vector of one text: float32 weights are mapped and come in with the first forward pass. Memory is the highest resident
set that the kernel counted (Linux only), less what the libraries took before; files that are mapped count. The vectors
are asserted to be equal.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers.models.gpt_neox.modeling_gpt_neox  # noqa: F401  (a library, like the others)
from bench import Row, forget_peak, hand_in, in_a_process_of_its_own, machine, memory_mb, parser
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from midlayer_embed import MidLayerEncoder

PYTHIA_410M = {
    "vocab_size": 50304,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# Above the exported folder, which is what loading could cost at best.
REACH = 1.1
TEXT = " ".join(["which layer embeds best"] * 16)


def save_model(folder: Path, dtype: str) -> None:
    """The whole model, and a tokenizer of four words."""
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
    """Saves one layer, stored as the whole model is."""
    MidLayerEncoder(folder, layer, dtype=dtype, device="cpu").save_pretrained(str(target))


def one_load(folder: Path, layer: int | None) -> dict[str, Any]:
    """Loads a layer of a model, or an exported folder as anybody would, and says what it took."""
    before = memory_mb("VmRSS")
    forget_peak()
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
    """Prints the figures and ratios of one way to store the weights; the memory ratio to the exported folder."""
    whole, exported = scratch / f"whole-{dtype}", scratch / f"exported-{dtype}"
    in_a_process_of_its_own(save_model, whole, dtype)
    in_a_process_of_its_own(export, whole, layer, dtype, exported)
    every, middle, plain = "all 24 blocks", f"MidLayerEncoder, layer {layer}", "exported folder, plain"
    found: dict[str, dict[str, Any]] = {}
    for name, folder, number in (
        (every, whole, PYTHIA_410M["num_hidden_layers"]),
        (middle, whole, layer),
        (plain, exported, None),
    ):
        runs: list[dict[str, Any]] = [in_a_process_of_its_own(one_load, folder, number) for _ in range(n_loads)]
        found[name] = {key: min(run[key] for run in runs) for key in runs[0]}
        print(
            f"{name:>25}: weights {found[name]['weights_mb']:.0f} MB, peak {found[name]['peak_mb']:.0f} MB, "
            f"loaded in {found[name]['load_seconds']:.2f} s, first vector after {found[name]['seconds']:.2f} s",
            flush=True,
        )
    np.testing.assert_allclose(found[middle]["vector"], found[plain]["vector"], atol=1e-5)
    for against in (every, plain):
        print(
            f"{middle} over {against}: "
            + ", ".join(
                f"{what} {found[middle][key] / found[against][key]:.2f}"
                for key, what in (("peak_mb", "peak memory"), ("load_seconds", "load"), ("seconds", "first vector"))
            ),
            flush=True,
        )
    return float(found[middle]["peak_mb"] / found[plain]["peak_mb"])


def main() -> None:
    """Prints the ratios."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--layer", type=int, default=12)
    arguments_of.add_argument("--stored", nargs="+", default=["float32", "float16"], help="how the weights are stored")
    arguments_of.add_argument("--loads", type=int, default=1, help="of each kind; the best is printed")
    arguments = arguments_of.parse_args()
    print(machine())
    print("the size of Pythia-410M")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in arguments.stored:
            print(f"stored in {dtype}:")
            ratio = compare(dtype, arguments.layer, arguments.loads, Path(scratch))
            what = f"loading a middle layer of {dtype} weights, peak memory"
            rows.append(Row(what, "exported folder, plain", ratio, REACH, at_least=False))
    hand_in(rows, arguments.rows)


if __name__ == "__main__":
    main()
