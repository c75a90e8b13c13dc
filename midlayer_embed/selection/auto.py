"""What "auto" stands for: the criterion that we recommend for a model and its texts, and the reason in words.

The numbers behind it are in docs/concepts/selection-study.md; `benchmarks.selection_study` makes them.
"""

from collections.abc import Iterable, Sequence

from midlayer_embed.errors import InputError
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.selection.criteria import auto_takes
from midlayer_embed.selection.outside import outside_criterion
from midlayer_embed.texts.word_views import halves


def recommended(checkpoint: Checkpoint, texts: Sequence[str] | None, max_texts: int | None = None) -> tuple[str, str]:
    """The criterion to take, and why.

    Args:
        checkpoint: The model.
        texts: Texts like those to embed, or None.
        max_texts: Number of texts that will be measured at most; None for all.

    Example:
        >>> from midlayer_embed.models.checkpoint import find_checkpoint
        >>> recommended(find_checkpoint("starter"), None)                      # doctest: +SKIP
        ('depth:0.8', 'auto: no texts were given, and no scores of this model are known')
    """
    usable = n_usable(texts or [])
    usable = usable if max_texts is None else min(usable, max_texts)
    criterion = auto_takes(
        usable,
        is_sentence_transformer=checkpoint.own.is_sentence_transformer,
        is_published=lambda: _is_published(checkpoint),
    )
    given = "no texts were given" if texts is None else f"{usable} different texts of two words or more are too few"
    said = {
        "last": "a sentence-transformers model, which embeds with its last layer as its author trained it",
        "half-and-drop": f"{usable:,} texts of two words or more, which search for views of each other",
        "published": given,
    }
    return criterion, f"auto: {said.get(criterion, f'{given}, and no scores of this model are known')}"


def n_usable(texts: Iterable[str]) -> int:
    """The number of different texts that "auto" can go by: those of two words or more.

    Example:
        >>> n_usable(["a cat", "a cat", "cat", "two dogs"])
        2
    """
    return len({text for text in texts if halves(text) is not None})


def _is_published(checkpoint: Checkpoint) -> bool:
    try:
        outside_criterion("published")(checkpoint)
    except InputError:
        return False
    return True
