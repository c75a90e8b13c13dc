"""How much faster a middle layer embeds: texts a second of `MidLayerEncoder.encode` against plain SentenceTransformer.

    python benchmarks/encode_at_a_layer.py [--model MODEL] [--layer K] [--texts N]

Texts of 5 to 400 tokens, mostly short, every fifth of them a repeat, as in real files; the same without repeats, too.
Plain is the exported folder, and all blocks. All in one process, with everybody's default arguments, each once; the
vectors of a layer are asserted to be equal.
"""

import tempfile
from functools import partial

import numpy as np
from bench import Row, Timing, cpu_ratio, hand_in, machine, parser, timed
from forward_pass import joined_sentences
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase

from midlayer_embed import MidLayerEncoder

SHORTEST, LONGEST = 5, 400
REPEATED = 0.2


def distinct_texts(n: int, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Sentences of the starter benchmark, joined and cut."""
    rng = np.random.default_rng(0)
    lengths = SHORTEST * (LONGEST / SHORTEST) ** (rng.random(n) ** 1.5)
    token_ids = (
        tokenizer(text, truncation=True, max_length=int(length))["input_ids"]
        for text, length in zip(joined_sentences([LONGEST // 8] * n), lengths, strict=True)
    )
    return [str(tokenizer.decode(ids)) for ids in token_ids]


def main() -> None:
    """Prints the ratios."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--model", default="starter")
    arguments_of.add_argument("--layer", type=int, default=12)
    arguments_of.add_argument("--texts", type=int, default=200)
    arguments = arguments_of.parse_args()
    print(machine())
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
    works = {
        "exported folder, plain": (exported, texts),
        "MidLayerEncoder": (encoder, texts),
        "exported folder, plain, no repeats": (exported, distinct),
        "MidLayerEncoder, no repeats": (encoder, distinct),
        "all blocks, plain": (whole, texts),
    }
    found: dict[str, Timing] = {}
    vectors: dict[str, np.ndarray] = {}
    for model in (exported, encoder, whole):
        model.encode(texts[:32])  # what happens once, happens here
    for name, (model, corpus) in works.items():
        found[name], given = timed(partial(model.encode, corpus))
        vectors[name] = np.asarray(given)
        print(f"{name:>34}: {len(corpus) / found[name].seconds:6.1f} texts/s", flush=True)
    for kind in ("", ", no repeats"):
        np.testing.assert_allclose(
            vectors[f"MidLayerEncoder{kind}"], vectors[f"exported folder, plain{kind}"], atol=1e-4, rtol=1e-4
        )
    rows = []
    for what, name, against, least in (
        ("bulk encode", "MidLayerEncoder", "exported folder, plain", 1.3),
        ("bulk encode, no repeats", "MidLayerEncoder, no repeats", "exported folder, plain, no repeats", 1.0),
        ("bulk encode at a middle layer", "MidLayerEncoder", "all blocks, plain", 2.2),
    ):
        ratio, of_cpu = found[against].over(found[name])
        rows.append(Row(what, against.removesuffix(", no repeats"), ratio, least, beside=cpu_ratio(of_cpu)))
    hand_in(rows, arguments.rows)


if __name__ == "__main__":
    main()
