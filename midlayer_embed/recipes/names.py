"""Templates and transforms by their names, as users write them. Nothing slow is imported."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.ground.checks import check_optional_int

# Where the text goes in a template.
TEXT = "{text}"
# Templates with a name. "eol" asks for the text in one word (Jiang et al., "Scaling Sentence Embeddings with Large
# Language Models", 2023); "echo" says the text twice (Springer et al., "Repetition Improves Language Model Embeddings",
# 2024), so that a causal model has read all of it before it reads it again.
TEMPLATES = {
    "eol": f'This sentence : "{TEXT}" means in one word:"',
    "echo": f"Rewrite the sentence: {TEXT}, rewritten sentence: {TEXT}",
}
# The pooling that the named templates ask for: later tokens, which have seen more of the text, count more.
TEMPLATE_POOLING_MODE = "weightedmean"
# No template, or no transform, as a user may spell it.
NONE = "none"
TRANSFORMS = ("center", "standardize", "remove:k", "whiten:r")
DEFAULT_RIDGE = 10.0


@dataclass(frozen=True)
class Template:
    """A text around every text.

    Attributes:
        name: "eol", "echo", or the template itself.
        parts: What stands before, between and after the places of the text: two parts, or three if the text is there
            twice.

    Example:
        >>> find_template("eol").parts
        ('This sentence : "', '" means in one word:"')
    """

    name: str
    parts: tuple[str, ...]

    @property
    def copies(self) -> int:
        """How often the text is in it: 1 or 2."""
        return len(self.parts) - 1


def find_template(template: str) -> Template:
    """The template of a name, or the one that a user wrote.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a string.
        InputError: (a ValueError) neither a name nor a text with `{text}` in it once or twice.

    Example:
        >>> find_template("query: {text}").copies, find_template("echo").copies
        (1, 2)
    """
    names = ", ".join(TEMPLATES)
    if not isinstance(template, str):
        raise InputTypeError(f"template: expected {names}, or a text with {TEXT} in it, got {template!r}")
    written = TEMPLATES.get(template, template)
    parts = tuple(written.split(TEXT))
    if len(parts) not in (2, 3):
        found = f"it is there {len(parts) - 1} times in " if len(parts) > 1 else ""
        raise InputError(
            f"template: expected {names}, or a text with {TEXT} in it once or twice, got {found}{template!r}"
        )
    if written == TEXT:
        raise InputError(f"template: {TEXT} alone changes nothing; leave it out")
    try:
        written.encode()
    except UnicodeEncodeError:
        raise InputError(f"template: holds half of a surrogate pair, got {template!a}") from None
    return Template(template, parts)


def template_name(template: str | None) -> str | None:
    """A template in names of results: a hash for a user's, which can be long and hold what no file name can.

    Example:
        >>> template_name("echo"), template_name("query: {text}"), template_name(None)
        ('echo', 'text-770f6e4fd890', None)
    """
    if template is None or template in TEMPLATES:
        return template
    return f"text-{hashlib.sha256(template.encode()).hexdigest()[:12]}"


def default_pooling_mode(template: str | None) -> str | None:
    """The pooling that a template asks for; None if it asks for none.

    Example:
        >>> default_pooling_mode("echo"), default_pooling_mode("query: {text}"), default_pooling_mode(None)
        ('weightedmean', None, None)
    """
    return TEMPLATE_POOLING_MODE if template in TEMPLATES else None


def parse_transform(transform: str) -> tuple[str, float, str]:
    """The kind of a transform, its number, and its full name.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a string.
        InputError: (a ValueError) no such transform.

    Example:
        >>> parse_transform("whiten"), parse_transform("remove:2"), parse_transform("center")
        (('whiten', 10.0, 'whiten:10'), ('remove', 2, 'remove:2'), ('center', 0, 'center'))
    """
    if not isinstance(transform, str):
        raise InputTypeError(f"transform: expected one of {', '.join(TRANSFORMS)}, got {transform!r}")
    kind, colon, number = transform.partition(":")
    if kind in ("center", "standardize") and not colon:
        return kind, 0, kind
    if kind == "whiten" and not colon:
        return kind, DEFAULT_RIDGE, f"whiten:{DEFAULT_RIDGE:g}"
    if kind == "remove" and re.fullmatch("[0-9]{1,9}", number) and int(number) > 0:
        return kind, int(number), f"remove:{int(number)}"
    if kind == "whiten":
        try:
            ridge = float(number)
        except ValueError:
            ridge = math.nan
        if 0 < ridge < math.inf:
            short = f"{ridge:g}"
            return kind, ridge, f"whiten:{short if float(short) == ridge else ridge}"
    raise InputError(f"transform: expected one of {', '.join(TRANSFORMS)} (k an int, r above 0), got {transform!r}")


def check_transform(transform: str, dim: int | None = None) -> str:
    """The full name of a transform.

    Raises:
        InputTypeError: (a ValueError and a TypeError) an argument of the wrong type.
        InputError: (a ValueError) an unknown transform, or a `dim` for one that does not order the dimensions.
    """
    kind, _, name = parse_transform(transform)
    if check_optional_int("dim", dim, 1) is not None and kind != "whiten":
        raise InputError(f"dim: only whitening orders the dimensions; {name} keeps all, got {dim}")
    return name


def needs_covariance(transform: str) -> bool:
    """Whether a transform needs the covariance of the dimensions, and not only their variances."""
    return parse_transform(transform)[0] in ("remove", "whiten")


def asked_template(template: str | None) -> str | None:
    """The template that a user asks for; None, or "none", for plain texts.

    Example:
        >>> asked_template("echo"), asked_template("none"), asked_template(None)
        ('echo', None, None)
    """
    return None if template == NONE else template


def asked_transform(transform: str | None) -> str | None:
    """The full name of the transform that a user asks for; None, or "none", for vectors as they are.

    Raises:
        InputError: (a ValueError) no such transform.

    Example:
        >>> asked_transform("whiten"), asked_transform("none"), asked_transform(None)
        ('whiten:10', None, None)
    """
    return None if transform is None or transform == NONE else parse_transform(transform)[2]


def check_templates(templates: Sequence[str | None]) -> tuple[str | None, ...]:
    """The templates, each once; None, or "none", for plain texts.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a list.
        InputError: (a ValueError) empty, or neither a name nor a text with `{text}` in it once or twice.

    Example:
        >>> check_templates(["none", "echo", None])
        (None, 'echo')
    """
    found = [asked_template(template) for template in some_of("templates", templates, '(None, "echo")')]
    for template in found:
        if template is not None:
            find_template(template)
    return tuple(dict.fromkeys(found))


def check_transforms(transforms: Sequence[str | None]) -> tuple[str | None, ...]:
    """The transforms by their full names, each once; None for "none".

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a list.
        InputError: (a ValueError) empty, or no such transform.

    Example:
        >>> check_transforms(["none", "whiten", "whiten:10"])
        (None, 'whiten:10')
    """
    given = some_of("transforms", transforms, '("none", "whiten")')
    return tuple(dict.fromkeys(asked_transform(name) for name in given))


def some_of(name: str, values: Any, example: str) -> list[Any]:
    """The items of a list that must not be empty.

    Args:
        name: Name of the argument, for messages.
        values: What was given.
        example: A list that could be given, for messages.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a list; a string is none.
        InputError: (a ValueError) empty.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InputTypeError(f"{name}: expected a list such as {example}, got {values!r}")
    if not (found := list(values)):
        raise InputError(f"{name}: expected at least one, got none")
    return found
