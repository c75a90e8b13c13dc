"""Time of the experiments with prompts, over one all-layers pass over the same tokens with the same metrics.

    python -m benchmarks.experiments.prompt_grid [--model MODEL] [--texts N]

A grid of ten probabilities of repetition has to take ten passes and little else; the entropy of all prefixes of the
texts has to take one. Checks that p = 0 is the profile of the texts, and that the longest prefix is the text.
"""

import numpy as np

from benchmarks.bench import Row, build_parser, describe_machine, format_cpu_ratio, report_rows, time_in_turns
from leaderboard.experiments.prefixes import sequence_length
from leaderboard.experiments.prompts import METRICS, repetition
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.selection.profile import profile_tokens
from midlayer_embed.texts.corpora import sample_texts, starter_texts
from midlayer_embed.texts.prompts import cut_tokens
from midlayer_embed.texts.tokens import TokenIds

GRID = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
LENGTHS = [4, 8, 16, 32]
ROUNDS = 2
TARGETS = {"grid": len(GRID) + 0.5, "prefixes": 1.5}


def main() -> None:
    """Print both ratios."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--texts", type=int, default=48)
    arguments = parser.parse_args()
    print(describe_machine())
    encoder = LayerwiseEncoder(arguments.model, final_norm=False, device="cpu")
    texts = sample_texts(
        starter_texts(), arguments.texts, tokenizer=encoder.plain_tokenizer, min_tokens=LENGTHS[-1], max_length=512
    )
    whole = encoder.tokenized(texts)
    cut = cut_tokens(whole, LENGTHS[-1])
    profile_tokens(encoder, TokenIds.of([whole[0].tolist()]), METRICS)  # warm-up
    timed = time_in_turns(
        ROUNDS,
        {
            "pass": lambda: profile_tokens(encoder, whole, METRICS),
            "grid": lambda: repetition(encoder, texts, GRID, max_texts=None),
            "cut": lambda: profile_tokens(encoder, cut, METRICS[:1]),
            "prefixes": lambda: sequence_length(encoder, texts, LENGTHS, max_texts=None),
        },
    )
    print(f"model {encoder.checkpoint.name}, {len(texts)} texts, {len(whole.flat)} tokens, {len(cut.flat)} when cut")
    rows = []
    for of, over, column, value, what in (
        ("grid", "pass", "p", 0.0, f"repetition, {len(GRID)} probabilities"),
        ("prefixes", "cut", "length", LENGTHS[-1], f"sequence length, {len(LENGTHS)} lengths"),
    ):
        table, profile = timed[of][1], timed[over][1]
        for metric, curve in profile.values.items():  # type: ignore[attr-defined]
            found = table.filter(metric=metric, normalization="raw", **{column: value})["value"]  # type: ignore[attr-defined]
            np.testing.assert_allclose(found, curve, rtol=1e-4, err_msg=f"{what}: {metric}")
        for name in (over, of):
            print(f"{name:>9}: {timed[name][0].seconds:.2f} s, {timed[name][0].cpu_seconds:.2f} CPU s")
        ratio, cpu_ratio = timed[of][0].over(timed[over][0])
        note = format_cpu_ratio(cpu_ratio)
        rows.append(Row(what, "one pass of all layers", ratio, TARGETS[of], at_least=False, note=note))
    report_rows(rows, arguments.rows)


if __name__ == "__main__":
    main()
