"""Checks of an encoder's arguments that need no model."""

from collections.abc import Mapping, Sequence

from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.recipes.names import check_transform
from midlayer_embed.recipes.transform import Transform
from midlayer_embed.texts.tokens import check_text, check_texts


def check_transform_options(
    transform: str | Transform | None, texts: Sequence[str] | None, dim: int | None
) -> tuple[list[str] | None, str | None]:
    """The texts to fit a transform on, and its full name; None for what there is not. Nothing is loaded.

    Raises:
        InputError: (a ValueError) the message names the argument.
    """
    if transform is None or isinstance(transform, Transform):
        for name, value in (("transform_texts", texts), ("dim", dim)):
            if value is not None:
                why = "there is no transform" if transform is None else f"{transform.name} is fitted already"
                raise InputError(f"{name}: expected None, because {why}")
        return None, None if transform is None else check_transform(transform.name)
    name = check_transform(transform, dim)
    if texts is None:
        raise InputError(f"transform_texts: {name} needs texts like those that will be embedded, got None")
    return check_texts(texts, "transform_texts"), name


def check_prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    """Prompts by name.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a mapping of strings.
    """
    if not isinstance(prompts or {}, Mapping):
        raise InputTypeError(f"prompts: expected texts by name, got {prompts!r}")
    for name, prompt in (prompts or {}).items():
        check_text(f"prompts[{name!r}]", prompt)
    return dict(prompts or {})
