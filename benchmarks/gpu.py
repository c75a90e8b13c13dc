"""Tokens per second on a device: plain SentenceTransformer, our last layer, all layers; and their share of its peak.

    python -m benchmarks.gpu [--model random:1b|FOLDER] [--dtype bfloat16] [--device cuda] [--texts N]

Takes one command on a machine with a GPU; nothing is downloaded: a random model is made from a config, with a tokenizer
trained on the texts, which are docstrings. On the CPU a tiny model is the default, to try the program.

The plain reference is SentenceTransformer on the same weights, with sdpa attention and its best batch size of several.
The peak is that of matrix products of the same dtype, measured here. The work is 2 operations for each weight of the
blocks and token, plus attention over every pair of tokens of a text; padding is no work.

Checks, before anything is printed:
- the last layer is the plain model's: the cosine distance of each text is at most 1e-3 (1e-5 in float32);
- it is the last of all layers, in the same way;
- in float32, every layer of some texts differs from the CPU's by at most 1e-3 of the vector's length.
"""

import argparse
import platform
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from benchmarks.bench import describe_machine, time_call, time_in_turns
from benchmarks.encoding.forward_pass import build_texts
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.ground.markdown import table
from midlayer_embed.models.weights import dtype_name, resolve_device, resolve_dtype

# Width, blocks, heads, width of the MLP.
RANDOM = {
    "random:tiny": (64, 4, 4, 128),
    "random:135m": (576, 30, 9, 1536),
    "random:1b": (2048, 16, 32, 8192),
    "random:7b": (4096, 32, 32, 11008),
}
BATCH_SIZES = (32, 128, 512)
MOST_SENTENCES = 16
VOCABULARY = 4096
MOST_TOKENS = 512
COMPARED_WITH_CPU = 8
# Cosine distance of vectors that have to be the same, and difference from the CPU's as a share of a vector's length.
FARTHEST = {torch.float32: 1e-5, torch.bfloat16: 1e-3, torch.float16: 1e-3}
FARTHEST_FROM_CPU = 1e-3
SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192, 16384)}


def save_random_model(name: str, folder: Path, texts: Sequence[str], dtype: torch.dtype, device: torch.device) -> None:
    """Save a Llama with random weights and a byte-level tokenizer trained on texts."""
    width, n_blocks, n_heads, mlp = RANDOM[name]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=n_blocks,
        num_attention_heads=n_heads,
        intermediate_size=mlp,
        max_position_embeddings=MOST_TOKENS,
        initializer_range=width**-0.5,
    )
    torch.manual_seed(0)
    with device:
        LlamaModel(config).to(dtype).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=MOST_TOKENS
    )
    fast.save_pretrained(folder)


def peak_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of the best of square products of several sizes."""
    best = 0.0
    for size in SIZES.get(device.type, SIZES["cpu"]):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        n_times = 20 if device.type == "cuda" else 3
        _multiply(left, right, out, n_times)  # warm-up
        timing, _ = time_call(partial(_multiply, left, right, out, n_times))
        best = max(best, n_times * 2 * size**3 / timing.seconds)
    return best


def _multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, n_times: int) -> None:
    for _ in range(n_times):
        torch.mm(left, right, out=out)
    if out.is_cuda:
        torch.cuda.synchronize(out.device)


def flops(encoder: LayerwiseEncoder, lengths: np.ndarray) -> float:
    """Operations of a forward pass over texts: the weights of the blocks, and attention."""
    blocks = list(encoder.backbone.blocks)
    n_weights = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    config: Any = encoder.backbone.model.config
    n_heads = getattr(config, "num_attention_heads", 0)
    width = n_heads * (getattr(config, "head_dim", None) or config.hidden_size // max(1, n_heads))
    return float(2 * n_weights * lengths.sum() + 4 * len(blocks) * width * np.square(lengths, dtype=np.float64).sum())


def cosine_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest of pairs of rows."""
    one, other = np.float64(one), np.float64(other)
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return float((1 - (one * other).sum(axis=-1) / lengths).max())


def check_equal(what: str, one: np.ndarray, other: np.ndarray, dtype: torch.dtype) -> float:
    """The cosine distance of vectors that have to be the same."""
    distance = cosine_distance(one, other)
    if not distance <= FARTHEST[dtype]:
        raise AssertionError(f"{what}: vectors differ by a cosine distance of {distance:.2g}")
    return distance


def check_against_cpu(folder: str, texts: Sequence[str], device: torch.device) -> float:
    """The largest difference of float32 vectors from the CPU's, at every layer, as a share of the vector's length."""
    found, expected = (LayerwiseEncoder(folder, device=where).encode(texts) for where in (device, "cpu"))
    difference = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    if not difference.max() <= FARTHEST_FROM_CPU:
        raise AssertionError(f"all layers in float32: vectors differ from the CPU's by {difference.max():.2g}")
    return float(difference.max())


def plain_model(folder: str, dtype: torch.dtype, device: torch.device) -> SentenceTransformer:
    """The whole model in plain sentence-transformers."""
    kwargs = {"dtype": dtype, "attn_implementation": "sdpa"}
    return SentenceTransformer(folder, model_kwargs=kwargs, device=str(device))


def best_batch_size(model: SentenceTransformer, texts: Sequence[str]) -> int:
    """The batch size with which the plain model is fastest on some texts; sizes that do not fit are passed over."""
    speeds = {}
    for size in BATCH_SIZES:
        try:
            model.encode(list(texts[:size]), batch_size=size)  # warm-up
            speeds[size] = time_call(partial(model.encode, list(texts), batch_size=size))[0].seconds
        except torch.OutOfMemoryError:
            break
    return min(speeds, key=speeds.__getitem__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help=f"a folder, a Hub id, or {', '.join(RANDOM)} (default: 1b on CUDA, else tiny)")
    parser.add_argument(
        "--dtype",
        choices=[dtype_name(one) for one in FARTHEST],
        help="bfloat16 (default on CUDA), float16 or float32 (default elsewhere)",
    )
    parser.add_argument("--device")
    parser.add_argument("--texts", type=int, help="default: 4,096 on CUDA, else 64")
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    device = resolve_device(options.device)
    on_cuda = device.type == "cuda"
    dtype = resolve_dtype(options.dtype or ("bfloat16" if on_cuda else "float32"))
    name = options.model or ("random:1b" if on_cuda else "random:tiny")
    n_texts = options.texts or (4096 if on_cuda else 64)
    sizes = np.random.default_rng(options.seed).integers(1, MOST_SENTENCES, size=n_texts)
    # the longest first, which is how both libraries batch them; the same text is not encoded twice
    texts = sorted(dict.fromkeys(build_texts(sizes.tolist())), key=len, reverse=True)
    with ExitStack() as stack:
        folder = name
        if name in RANDOM:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            save_random_model(name, Path(folder), texts, dtype, device)
        run(name, folder, texts, dtype, device, options)


def run(
    name: str, folder: str, texts: list[str], dtype: torch.dtype, device: torch.device, options: argparse.Namespace
) -> None:
    """Measure and print."""
    some = texts[:: max(1, len(texts) // COMPARED_WITH_CPU)][:COMPARED_WITH_CPU]
    from_cpu = check_against_cpu(folder, some, device)
    encoder = LayerwiseEncoder(folder, dtype=dtype, device=device)
    lengths = encoder.tokenized(texts).lengths
    plain = plain_model(folder, dtype, device)
    plain.max_seq_length = encoder.max_seq_length
    size = best_batch_size(plain, texts[::4])
    passes: dict[str, Callable[[], Any]] = {
        f"plain SentenceTransformer, batch size {size}": partial(plain.encode, texts, batch_size=size),
        "last layer": partial(encoder.encode, texts, [-1], batch_tokens=options.batch_tokens),
        f"all {encoder.n_layers} layers": partial(encoder.encode, texts, batch_tokens=options.batch_tokens),
    }
    for encode in passes.values():
        encode()  # warm-up: kernels are chosen for each shape, and memory is reserved
    peak = peak_flops(dtype, device)
    timed = time_in_turns(options.rounds, passes)
    of_plain, of_last, of_all = (np.asarray(vectors) for _, vectors in timed.values())
    distances = [
        check_equal("last layer and plain SentenceTransformer", of_last[:, 0], of_plain, dtype),
        check_equal("all layers and the last layer", of_all[:, -1], of_last[:, 0], dtype),
    ]
    peak = max(peak, peak_flops(dtype, device))  # before and after, as clocks differ
    work = flops(encoder, lengths)
    reference = next(iter(timed.values()))[0].seconds
    rows = [["pass", "tokens/s", "texts/s", "over plain", "TFLOP/s", "share of peak"]]
    for what, (timing, _) in timed.items():
        speed = work / timing.seconds
        rows.append(
            [
                what,
                f"{lengths.sum() / timing.seconds:,.0f}",
                f"{len(texts) / timing.seconds:,.0f}",
                f"{reference / timing.seconds:.2f}",
                f"{speed / 1e12:.3g}",
                f"{speed / peak:.1%}",
            ]
        )
    print(describe_machine())
    print(f"device {describe_device(device)}, {dtype_name(dtype)}, peak of matrix products {peak / 1e12:.3g} TFLOP/s")
    n_weights = sum(parameter.numel() for parameter in encoder.backbone.model.parameters())
    print(
        f"model {name}, {n_weights / 1e6:,.0f}M weights, {len(texts):,} texts of {lengths.min()} to {lengths.max()} "
        f"tokens, {lengths.sum():,} in all"
    )
    print(f"\n{table(rows, right=True)}\n")
    print(f"vectors: cosine distance at most {max(distances):.2g}; float32 from the CPU's at most {from_cpu:.2g}")
    if device.type == "cuda":
        most = encoder._room.most_tokens
        limit = "all batches fitted" if most is None else f"batches of more than {most:,} tokens did not fit"
        print(f"memory: {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB at most; {limit}")


def describe_device(device: torch.device) -> str:
    """Its name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type


if __name__ == "__main__":
    main()
