"""Which transform suits what vectors are used for. Nothing slow is imported."""

from collections.abc import Mapping, Sequence

from midlayer_embed.errors import InputError

# Criteria without labels are misled by transformed vectors, so this is no measurement on the user's texts. It is what
# the labels of other tasks say: the best transform first, by template where one differs.
_OTHERS = ""
_SUITS: Mapping[str, Mapping[str, Sequence[str | None]]] = {
    "similarity": {_OTHERS: ("whiten:10", "standardize", None)},
    "classification": {_OTHERS: ("standardize", None)},
    "clustering": {_OTHERS: ("standardize", None), "eol": (None, "standardize")},
}
PURPOSES = tuple(_SUITS)


def check_purpose(purpose: object) -> None:
    """Reject an unknown purpose.

    Raises:
        InputError: (a ValueError) the message lists the purposes.
    """
    if purpose not in PURPOSES:
        raise InputError(f"purpose: expected one of {', '.join(PURPOSES)}, got {purpose!r}")


def transform_for(
    purpose: str, template: str | None, transforms: Sequence[str | None], n_texts: int, dim: int
) -> tuple[str | None, str]:
    """The transform that suits a purpose best, of those that may be taken, and why in words.

    Args:
        purpose: One of `PURPOSES`.
        template: The template of the recipe.
        transforms: Full names of the transforms that may be taken, None for none; of those that nothing is known about,
            the first one is taken.
        n_texts: Number of texts that it will be fitted on.
        dim: Width of a pooled vector.

    Raises:
        InputError: (a ValueError) there are too few texts for each of them, and None may not be taken.

    Example:
        >>> transform_for("similarity", "echo", (None, "standardize", "whiten:10"), n_texts=1000, dim=576)
        ('whiten:10', 'whiten:10 suits similarity')
        >>> transform_for("clustering", "eol", (None, "standardize"), n_texts=1000, dim=576)[0] is None
        True
    """
    from midlayer_embed.recipes.transform import check_number  # imports numpy

    suits = _SUITS[purpose].get(template or _OTHERS, _SUITS[purpose][_OTHERS])
    order = [*(name for name in suits if name in transforms), *(name for name in transforms if name not in suits)]
    passed = ""
    for name in order:
        if name is None:
            under = f" under {template}" if template in _SUITS[purpose] else ""
            return None, passed or f"no transform suits {purpose}{under}"
        try:
            check_number("texts", name, None, n_texts, dim)
        except InputError as error:
            passed = passed or f"no {name}: {str(error).partition(': ')[2]}"
            continue
        return name, passed or (f"{name} suits {purpose}" if name in suits else f"{name} was asked for")
    raise InputError(f"transforms: {passed or 'expected at least one'}; let None be taken, or pass more texts")
