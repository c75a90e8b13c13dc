"""How much faster a middle layer embeds: texts a second of `MidLayerEncoder.encode` against plain SentenceTransformer.

    python benchmarks/encode_at_a_layer.py [--model MODEL] [--layer K] [--texts N]

Texts of 5 to 400 tokens, mostly short, every fifth of them a repeat, as in real files; the same without repeats, too.
Plain is the exported folder, and all blocks. All in one process, with everybody's default arguments; the vectors of a
layer are asserted to be equal. Beside each ratio stands the same of CPU seconds, which a busy machine disturbs less.
"""

import argparse
import platform
import tempfile
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase

from midlayer_embed import MidLayerEncoder
from midlayer_embed.export import export_encoder

SHORTEST, LONGEST = 5, 400
REPEATED = 0.2


def distinct_texts(n: int, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Sentences of the starter benchmark, joined and cut."""
    from midlayer_embed.starter_corpus import read_corpus

    found = [item.text for item in read_corpus()]
    rng = np.random.default_rng(0)
    lengths = SHORTEST * (LONGEST / SHORTEST) ** (rng.random(n) ** 1.5)
    texts = []
    for length in lengths:
        text = " ".join(rng.choice(found, size=LONGEST // 8))
        texts.append(tokenizer.decode(tokenizer(text, truncation=True, max_length=int(length))["input_ids"]))
    return texts


def main() -> None:
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--texts", type=int, default=200)
    arguments = parser.parse_args()
    encoder = MidLayerEncoder(arguments.model, arguments.layer)
    with tempfile.TemporaryDirectory() as folder:
        export_encoder(encoder, f"{folder}/middle")
        export_encoder(MidLayerEncoder(arguments.model, -1), f"{folder}/whole")
        exported, whole = SentenceTransformer(f"{folder}/middle"), SentenceTransformer(f"{folder}/whole")
    n_repeats = round(REPEATED * arguments.texts)
    distinct = distinct_texts(arguments.texts - n_repeats, encoder.tokenizer)
    rng = np.random.default_rng(1)
    texts = [str(text) for text in rng.permutation([*distinct, *rng.choice(distinct, size=n_repeats)])]
    lengths = [len(ids) for ids in encoder.tokenizer(texts)["input_ids"]]
    print(
        f"model {arguments.model}, layer {encoder.layer} of {encoder.n_layers - 1}, {len(texts)} texts of "
        f"{min(lengths)} to {max(lengths)} tokens ({np.mean(lengths):.0f} on average), {n_repeats} of them repeats, "
        f"{torch.get_num_threads()} threads, {platform.machine()}",
        flush=True,
    )
    vectors, seconds, cpu_seconds = {}, {}, {}
    for name, model, corpus in (
        ("exported folder, plain", exported, texts),
        ("MidLayerEncoder", encoder, texts),
        ("exported folder, plain, no repeats", exported, distinct),
        ("MidLayerEncoder, no repeats", encoder, distinct),
        ("all blocks, plain", whole, texts),
    ):
        model.encode(corpus[:32])
        start, cpu_start = time.perf_counter(), time.process_time()
        vectors[name] = model.encode(corpus)
        seconds[name], cpu_seconds[name] = time.perf_counter() - start, time.process_time() - cpu_start
        print(f"{name:>34}: {len(corpus) / seconds[name]:6.1f} texts/s", flush=True)
    for kind in ("", ", no repeats"):
        np.testing.assert_allclose(
            vectors[f"MidLayerEncoder{kind}"], vectors[f"exported folder, plain{kind}"], atol=1e-4, rtol=1e-4
        )
    for name, against, least in (
        ("MidLayerEncoder", "all blocks, plain", " (at least 2.2)"),
        ("MidLayerEncoder", "exported folder, plain", " (at least 1.0; hoped for: 1.3)"),
        ("MidLayerEncoder, no repeats", "exported folder, plain, no repeats", ""),
    ):
        ratio, cpu_ratio = seconds[against] / seconds[name], cpu_seconds[against] / cpu_seconds[name]
        print(f"{name} over {against}: {ratio:.2f}{least}; of CPU seconds: {cpu_ratio:.2f}")


if __name__ == "__main__":
    main()
