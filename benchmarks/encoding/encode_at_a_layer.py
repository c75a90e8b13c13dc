"""Throughput of `MidLayerEncoder.encode` at a middle layer, in texts per second, over plain SentenceTransformer.

    python -m benchmarks.encoding.encode_at_a_layer [--model MODEL] [--layer K] [--texts N]

Texts have 5 to 400 tokens, most of them few, and every fifth text is a repeat, as in real files; a second run has no
repeats. The references are the exported folder and all blocks. Each run is timed once, in one process, with default
arguments. Checks that the vectors of the layer are equal.
"""

import tempfile
from functools import partial

import numpy as np
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase

from benchmarks.bench import Row, Timing, build_parser, describe_machine, format_cpu_ratio, report_rows, time_call
from benchmarks.encoding.forward_pass import build_texts
from midlayer_embed import MidLayerEncoder

SHORTEST, LONGEST = 5, 400
REPEATED = 0.2


def distinct_texts(n: int, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Distinct texts from sentences of the starter benchmark, truncated to random lengths."""
    rng = np.random.default_rng(0)
    lengths = SHORTEST * (LONGEST / SHORTEST) ** (rng.random(n) ** 1.5)
    token_ids = (
        tokenizer(text, truncation=True, max_length=int(length))["input_ids"]
        for text, length in zip(build_texts([LONGEST // 8] * n), lengths, strict=True)
    )
    return [str(tokenizer.decode(ids)) for ids in token_ids]


def main() -> None:
    """Print the ratios."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--texts", type=int, default=200)
    arguments = parser.parse_args()
    print(describe_machine())
    encoder = MidLayerEncoder(arguments.model, arguments.layer)
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(f"{folder}/middle")
        MidLayerEncoder(arguments.model, -1).save_pretrained(f"{folder}/whole")
        exported, whole = SentenceTransformer(f"{folder}/middle"), SentenceTransformer(f"{folder}/whole")
    n_repeats = round(REPEATED * arguments.texts)
    distinct = distinct_texts(arguments.texts - n_repeats, encoder.tokenizer)
    rng = np.random.default_rng(1)
    texts = [str(text) for text in rng.permutation([*distinct, *rng.choice(distinct, size=n_repeats)])]
    lengths = [len(ids) for ids in encoder.tokenizer(texts)["input_ids"]]
    print(
        f"model {arguments.model}, layer {encoder.layer} of {encoder.n_layers - 1}, {len(texts)} texts of "
        f"{min(lengths)} to {max(lengths)} tokens ({np.mean(lengths):.0f} on average), {n_repeats} of them repeats",
        flush=True,
    )
    runs = {
        "exported folder, plain": (exported, texts),
        "MidLayerEncoder": (encoder, texts),
        "exported folder, plain, no repeats": (exported, distinct),
        "MidLayerEncoder, no repeats": (encoder, distinct),
        "all blocks, plain": (whole, texts),
    }
    timings: dict[str, Timing] = {}
    vectors: dict[str, np.ndarray] = {}
    for model in (exported, encoder, whole):
        model.encode(texts[:32])  # warm-up
    for name, (model, corpus) in runs.items():
        timings[name], encoded = time_call(partial(model.encode, corpus))
        vectors[name] = np.asarray(encoded)
        print(f"{name:>34}: {len(corpus) / timings[name].seconds:6.1f} texts/s", flush=True)
    for kind in ("", ", no repeats"):
        np.testing.assert_allclose(
            vectors[f"MidLayerEncoder{kind}"], vectors[f"exported folder, plain{kind}"], atol=1e-4, rtol=1e-4
        )
    rows = []
    for what, name, reference, target in (
        ("bulk encode", "MidLayerEncoder", "exported folder, plain", 1.3),
        ("bulk encode, no repeats", "MidLayerEncoder, no repeats", "exported folder, plain, no repeats", 1.0),
        ("bulk encode at a middle layer", "MidLayerEncoder", "all blocks, plain", 2.2),
    ):
        ratio, cpu_ratio = timings[reference].over(timings[name])
        rows.append(Row(what, reference.removesuffix(", no repeats"), ratio, target, note=format_cpu_ratio(cpu_ratio)))
    report_rows(rows, arguments.rows)


if __name__ == "__main__":
    main()
