"""What "auto" stands for: the criterion that we recommend for a model and its texts, and the reason in words.

The numbers behind it are in docs/concepts/selection-study.md; `benchmarks.selection_study` makes them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from midlayer_embed.errors import InputError
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe, of_every_layer
from midlayer_embed.selection.criteria import auto_takes
from midlayer_embed.selection.outside import outside_criterion
from midlayer_embed.texts.word_views import halves


def recommended(
    checkpoint: Checkpoint,
    texts: Sequence[Any] | None,
    max_texts: int | None = None,
    *,
    layer_zero: bool = True,
    recipe: Recipe | None = None,
) -> tuple[str, str]:
    """The criterion to take, and why.

    Args:
        checkpoint: The model.
        texts: Texts like those to embed, or None.
        max_texts: Number of texts that will be measured at most; None for all.
        layer_zero: Whether the embeddings are eligible.
        recipe: How a text becomes a vector; None: as the model does it by default.

    Example:
        >>> from midlayer_embed.models.checkpoint import find_checkpoint
        >>> recommended(find_checkpoint("starter"), None)                      # doctest: +SKIP
        ('depth:0.8', "auto: no texts were given, and 'published' knows no scores of starter/SmolLM2-...")
    """
    if checkpoint.family.auto is not None:
        criterion, reason = checkpoint.family.auto
        return criterion, f"auto: {reason}"
    usable = n_usable(texts or [])
    usable = usable if max_texts is None else min(usable, max_texts)
    unknown: list[str] = []

    def is_published() -> bool:
        try:
            outside_criterion("published")(checkpoint, layer_zero=layer_zero, **of_every_layer(recipe or Recipe()))
        except InputError as error:
            unknown.append(str(error).partition(": ")[2])
        return not unknown

    criterion = auto_takes(
        usable, is_sentence_transformer=checkpoint.own.is_sentence_transformer, is_published=is_published
    )
    given = "no texts were given" if texts is None else f"{usable} different texts of two words or more are too few"
    said = {
        "last": "a sentence-transformers model, which embeds with its last layer as its author trained it",
        "half-and-drop": f"{usable:,} texts of two words or more, which search for views of each other",
    }
    return criterion, f"auto: {said.get(criterion) or ', and '.join([given, *unknown])}"


def n_usable(texts: Iterable[str]) -> int:
    """The number of different texts that "auto" can go by: those of two words or more.

    Example:
        >>> n_usable(["a cat", "a cat", "cat", "two dogs"])
        2
    """
    return len({text for text in texts if halves(text) is not None})
