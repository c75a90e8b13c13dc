"""Which transform suits what vectors are used for. Nothing slow is imported."""

from collections.abc import Mapping, Sequence

from midlayer_embed.errors import InputError

# Criteria without labels do not know what vectors are for, so this is no measurement on the user's texts. It is what
# the labels of other tasks say, see docs/guides/choose-a-recipe.md: the best transform first.
_SUITS: Mapping[str, Sequence[str | None]] = {
    "similarity": ("whiten:1", "whiten:10", "standardize", None),
    "classification": ("standardize", None),
    "clustering": ("standardize", None),
}
PURPOSES = tuple(_SUITS)
# Transforms that may be taken, if the user says nothing.
TRANSFORMS = (None, "standardize", "whiten:1")


def check_purpose(purpose: object) -> None:
    """Reject an unknown purpose.

    Raises:
        InputError: (a ValueError) the message lists the purposes.
    """
    if purpose not in PURPOSES:
        raise InputError(f"purpose: expected one of {', '.join(PURPOSES)}, got {purpose!r}")


def transform_for(purpose: str, transforms: Sequence[str | None], n_texts: int, dim: int) -> tuple[str | None, str]:
    """The transform that suits a purpose best, of those that may be taken, and why in words.

    Args:
        purpose: One of `PURPOSES`.
        transforms: Full names of the transforms that may be taken, None for none; of those that nothing is known about,
            the first one is taken.
        n_texts: Number of texts that it will be fitted on.
        dim: Width of a pooled vector.

    Raises:
        InputError: (a ValueError) there are too few texts for each of them, and None may not be taken.

    Example:
        >>> transform_for("similarity", (None, "standardize", "whiten:1"), n_texts=1000, dim=576)
        ('whiten:1', 'it suits similarity')
        >>> transform_for("clustering", (None, "whiten:1"), n_texts=1000, dim=576)[0] is None
        True
    """
    from midlayer_embed.recipes.transform import check_number  # imports numpy

    suits = _SUITS[purpose]
    order = [*(name for name in suits if name in transforms), *(name for name in transforms if name not in suits)]
    passed = ""
    for name in order:
        if name is None:
            return None, passed or f"nothing else was allowed that suits {purpose}"
        try:
            check_number("texts", name, None, n_texts, dim)
        except InputError as error:
            passed = passed or f"no {name}: {str(error).partition(': ')[2]}"
            continue
        return name, passed or (f"it suits {purpose}" if name in suits else "it was asked for")
    raise InputError(f"transforms: {passed or 'expected at least one'}; let None be taken, or pass more texts")
