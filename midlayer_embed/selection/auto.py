"""What "auto" stands for: the criterion that we recommend for a model and its texts, and the reason in words.

The numbers behind it are in docs/concepts/selection-study.md; `benchmarks.selection_study` makes them.
"""

from collections.abc import Sequence

from midlayer_embed.errors import InputError
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe, of_every_layer
from midlayer_embed.selection.outside import outside_criterion
from midlayer_embed.texts.word_views import halves

# Fewer different texts than this do not tell the layers apart.
LEAST_TEXTS = 200
# Without texts: of the fixed depths, the one that loses the least on the models of "Layer by Layer".
DEPTH = "depth:0.8"


def recommended(
    checkpoint: Checkpoint,
    texts: Sequence[str] | None,
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
    if checkpoint.own.is_sentence_transformer:
        return "last", "auto: a sentence-transformers model, which embeds with its last layer as its author trained it"
    usable = len({text for text in texts or [] if halves(text) is not None})
    usable = usable if max_texts is None else min(usable, max_texts)
    if usable >= LEAST_TEXTS:
        return "half-and-drop", f"auto: {usable:,} texts of two words or more, which search for views of each other"
    given = "no texts were given" if texts is None else f"{usable} different texts of two words or more are too few"
    try:
        outside_criterion("published")(checkpoint, layer_zero=layer_zero, **of_every_layer(recipe or Recipe()))
    except InputError as error:
        return DEPTH, f"auto: {given}, and {str(error).partition(': ')[2]}"
    return "published", f"auto: {given}"
