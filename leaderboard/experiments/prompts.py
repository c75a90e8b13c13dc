"""Extreme prompts: repeated tokens, random tokens, prompts of several lengths (the paper's Figure 6 and appendix F)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from leaderboard.experiments.encoders import open_encoder, with_settings
from leaderboard.experiments.figures import layer_curves
from leaderboard.experiments.grids import PROBABILITIES, check_lengths, check_probabilities, reached_lengths
from leaderboard.report.figures import Figure
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.ground.checks import check_bool, check_int
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import takes_options
from midlayer_embed.recipes.template import own_tokens
from midlayer_embed.selection.profile import MAX_TEXTS, draw_texts, profile_tokens
from midlayer_embed.terms import METRIC_TABLE, NORMALIZATIONS, RAW, check_metrics, check_normalizations
from midlayer_embed.texts.prompts import cut_tokens, fixed_tokens, plain_vocabulary, randomize_tokens, repeat_tokens
from midlayer_embed.texts.tokens import TokenIds

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.options import AnyModelOptions

METRICS = ("prompt_entropy", "dataset_entropy")
_SHOWN = (RAW, "maxEntropy")
# The layers of a small table: the thirds of a model.
_PARTS = ("first third", "middle third", "last third")


@takes_options()
def repetition(
    model: str | Path | Checkpoint | LayerwiseEncoder,
    texts: Sequence[str],
    p: Sequence[float] = PROBABILITIES,
    *,
    one_token: bool = False,
    metrics: Sequence[str] = METRICS,
    normalizations: Sequence[str] = NORMALIZATIONS,
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    seed: int = 0,
    first_token: bool = True,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Measure every layer while each token is replaced, with probability p, by another token of the same prompt.

    One forward pass for each p. The tokens that are replaced at a low p are replaced at a higher one, too. Special
    tokens are neither replaced nor drawn. A default prompt of the model is not put in front.

    Args:
        model: A name in `configs/models`, a Hub id, a folder, "starter", or a LayerwiseEncoder.
        texts: The corpus, without labels.
        p: Probabilities, 0 to 1.
        one_token: Whether one token of a prompt stands for all of its replaced tokens, as in the paper's examples,
            instead of one drawn for each, as its text has it.
        metrics: Metrics that need no views.
        normalizations: What entropies are divided by, too; raw values are always included.
        max_texts: Maximum number of texts, drawn by the seed; None for all.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        seed: Seed of the sample of texts, and of the draws, which depend on nothing else but a text's own tokens.
        first_token: Whether the first token of each text counts. Decoders park attention on it, and its large state
            hides the others in the middle layers.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show a bar with an ETA on stderr.
        **options: The fields of `Recipe` and `Source`, as for LayerwiseEncoder, without a template; raw states by
            default.

    Returns:
        Columns model, revision, p, layer, depth, metric, normalization, value, and the settings.

    Raises:
        InputError: (a ValueError) a probability that is none, a metric that needs views, a template, no texts.

    Source: Skean et al. 2025, section 5, Figure 6a and appendix F.1.

    Example:
        >>> table = repetition("starter", texts, p=[0, 0.5])       # doctest: +SKIP
        >>> table.columns[2:5]                                     # doctest: +SKIP
        ['p', 'layer', 'depth']
    """
    grid, same = check_probabilities(p), check_bool("one_token", one_token)
    first_token = check_bool("first_token", first_token)
    wanted = _check(metrics, normalizations, options)
    encoder, token_ids = _prompts(model, texts, max_texts, min_tokens, seed, first_token, options)
    fixed = fixed_tokens(token_ids, encoder.plain_tokenizer)
    made = {value: lambda p: repeat_tokens(token_ids, p, fixed, seed=seed, one_token=same) for value in grid}
    table = _measured(encoder, "p", made, wanted, seed, first_token, batch_tokens, show_progress)
    return table.with_columns(one_token=pl.lit(same))


@takes_options()
def randomness(
    model: str | Path | Checkpoint | LayerwiseEncoder,
    texts: Sequence[str],
    p: Sequence[float] = PROBABILITIES,
    *,
    metrics: Sequence[str] = METRICS,
    normalizations: Sequence[str] = NORMALIZATIONS,
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    seed: int = 0,
    first_token: bool = True,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Measure every layer while each token is replaced, with probability p, by any token of the vocabulary.

    Takes the arguments of `repetition`, except `one_token`. Each token of the vocabulary is as likely; special tokens,
    and tokens that the model has no embeddings for, are not drawn.

    Returns:
        As `repetition`.

    Raises:
        InputError: (a ValueError) as `repetition`.

    Source: Skean et al. 2025, section 5, Figure 6b and appendix F.2.

    Example:
        >>> table = randomness("starter", texts, p=[0, 0.5])       # doctest: +SKIP
    """
    grid, first_token = check_probabilities(p), check_bool("first_token", first_token)
    wanted = _check(metrics, normalizations, options)
    encoder, token_ids = _prompts(model, texts, max_texts, min_tokens, seed, first_token, options)
    fixed = fixed_tokens(token_ids, encoder.plain_tokenizer)
    words = plain_vocabulary(encoder.plain_tokenizer, encoder.checkpoint.n_tokens)
    made = {value: lambda p: randomize_tokens(token_ids, p, fixed, words, seed=seed) for value in grid}
    return _measured(encoder, "p", made, wanted, seed, first_token, batch_tokens, show_progress)


@takes_options()
def prompt_length(
    model: str | Path | Checkpoint | LayerwiseEncoder,
    texts: Sequence[str],
    lengths: Sequence[int] | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    normalizations: Sequence[str] = NORMALIZATIONS,
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    seed: int = 0,
    first_token: bool = True,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Measure every layer over texts that are cut to several lengths, all of them on the same texts.

    One forward pass for each length. Of the texts that are drawn, those count that are as long as the longest length.

    Args:
        model: As for `repetition`.
        texts: The corpus, without labels.
        lengths: Numbers of tokens, special ones included, at least 2. None: powers of two, from 4 up to the largest
            that a quarter of the texts reach.
        metrics: Metrics that need no views.
        normalizations: What entropies are divided by, too; raw values are always included.
        max_texts: Maximum number of texts, drawn by the seed; None for all.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        seed: Seed of the sample of texts.
        first_token: As for `repetition`. Without it, a length is at least 3.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show a bar with an ETA on stderr.
        **options: As for `repetition`.

    Returns:
        Columns model, revision, length, layer, depth, metric, normalization, value, and the settings.

    Raises:
        InputError: (a ValueError) a length that no text reaches, a metric that needs views, a template, no texts.

    Source: Skean et al. 2025, section 5, Figure 6c.

    Example:
        >>> table = prompt_length("starter", texts, lengths=[8, 32])       # doctest: +SKIP
    """
    first_token = check_bool("first_token", first_token)
    asked, wanted = check_lengths(lengths, first_token), _check(metrics, normalizations, options)
    encoder, token_ids = _prompts(model, texts, max_texts, min_tokens, seed, first_token, options)
    found, rows = reached_lengths(asked, token_ids.lengths)
    n_end = len(own_tokens(encoder.plain_tokenizer)[1])
    kept = TokenIds.of([token_ids[row].tolist() for row in rows])
    made = {length: lambda length: cut_tokens(kept, length, n_end) for length in found}
    return _measured(encoder, "length", made, wanted, seed, first_token, batch_tokens, show_progress)


def no_template(encoder_or_options: Any) -> None:
    """Reject a template: prompts are changed token by token, and what is around them would be, too.

    Raises:
        InputError: (a ValueError) there is one.
    """
    template = (
        encoder_or_options.recipe.template
        if isinstance(encoder_or_options, LayerwiseEncoder)
        else encoder_or_options.get("template")
    )
    if template is not None:
        raise InputError(f"template: the tokens of plain texts are changed; expected no template, got {template!r}")


def _check(metrics: Sequence[str], normalizations: Sequence[str], options: Any) -> tuple[list[str], list[str]]:
    wanted = check_metrics(metrics)
    for metric in wanted:
        if METRIC_TABLE[metric].n_views:
            raise InputError(f"metrics: {metric} needs views of the texts; expected metrics that need none")
    no_template(options)
    return wanted, check_normalizations(normalizations)


def _prompts(
    model: str | Path | Checkpoint | LayerwiseEncoder,
    texts: Sequence[str],
    max_texts: int | None,
    min_tokens: int,
    seed: int,
    first_token: bool,
    options: Any,
) -> tuple[LayerwiseEncoder, TokenIds]:
    """The model, and the token ids of the texts that are drawn."""
    check_int("seed", seed, 0)
    encoder = open_encoder(model, options)
    no_template(encoder)
    sample = draw_texts(encoder, texts, max_texts, min_tokens=min_tokens, seed=seed, first_token=first_token)
    return encoder, encoder.tokenized(sample)


def _measured(
    encoder: LayerwiseEncoder,
    column: str,
    made: dict[Any, Callable[[Any], TokenIds]],
    wanted: tuple[list[str], list[str]],
    seed: int,
    first_token: bool,
    batch_tokens: int | None,
    show_progress: bool,
) -> pl.DataFrame:
    """The metrics for each value of a column, from prompts that a function makes of it."""
    metrics, normalizations = wanted
    tables, n_texts = [], 0
    for value, make in made.items():
        profile = profile_tokens(
            encoder,
            make(value),
            metrics,
            normalizations=normalizations,
            first_token=first_token,
            batch_tokens=batch_tokens,
            show_progress=show_progress,
            description=f"{column} {value:g}",
        )
        n_texts = profile.n_texts
        tables.append(
            profile.to_frame().select(pl.lit(value, pl.Float64 if column == "p" else pl.Int64).alias(column), pl.all())
        )
    table = with_settings(pl.concat(tables), encoder, n_texts=n_texts, seed=seed)
    return table.with_columns(first_token=pl.lit(first_token))


def draw_repetition(table: pl.DataFrame) -> Figure:
    """Curves over depth, one for each p; a chart for each metric."""
    return layer_curves(table, "p", scale="linear", columns="model")


draw_randomness = draw_repetition


def draw_prompt_length(table: pl.DataFrame) -> Figure:
    """Curves over depth, one for each length; a row of charts for each metric, raw and divided by its maximum."""
    shown = table.filter(pl.col("normalization").is_in(_SHOWN)).rename({"normalization": "divided by"})
    return layer_curves(shown, "length", scale="log", columns="divided by", title="tokens")


def summary_repetition(table: pl.DataFrame) -> pl.DataFrame:
    """How much each third of the layers changes from the lowest p to the highest, in raw values.

    Returns:
        Columns model, metric, layers, low, high (the mean values at both), change (of the mean, as a share of low), and
        most_at, the layer of the third that changes most.
    """
    return _changes(table, "p")


summary_randomness = summary_repetition


def summary_prompt_length(table: pl.DataFrame) -> pl.DataFrame:
    """As `summary_repetition`, from the shortest length to the longest."""
    return _changes(table, "length")


def _changes(table: pl.DataFrame, column: str) -> pl.DataFrame:
    raw = table.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
    ends = (raw.filter(pl.col(column) == value) for value in (raw[column].min(), raw[column].max()))
    low, high = (end.select("model", "metric", "layer", "depth", "value") for end in ends)
    both = low.join(high, on=["model", "metric", "layer", "depth"], suffix="_high", maintain_order="left")
    rows = []
    for (model, metric), curves in both.group_by("model", "metric", maintain_order=True):
        parts = np.minimum((curves["depth"].to_numpy() * len(_PARTS)).astype(int), len(_PARTS) - 1)
        for number, part in enumerate(_PARTS):
            some = curves.filter(pl.Series(parts == number))
            if some.is_empty():
                continue
            before, after = some["value"].to_numpy(), some["value_high"].to_numpy()
            change = float(after.mean() / before.mean() - 1) if before.mean() else None
            most = int(some["layer"][int(np.abs(after - before).argmax())])
            values = {"low": float(before.mean()), "high": float(after.mean()), "change": change, "most_at": most}
            rows.append({"model": model, "metric": metric, "layers": part, **values})
    return pl.DataFrame(rows)
