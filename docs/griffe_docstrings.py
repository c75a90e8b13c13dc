"""Prepares docstrings for the reference: examples become code, and placeholders are not taken for HTML.

Google style allows "Example:"; Griffe parses only "Examples:" as a section of code.
"""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"^Example:$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"<(?=\w+>)")


class Docstrings(griffe.Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute that Griffe has read."""
        if obj.docstring is not None:
            parts = _SECTION.sub("Examples:", obj.docstring.value).split("`")
            parts[::2] = [
                _PLACEHOLDER.sub("&lt;", part) for part in parts[::2]
            ]  # text between backticks is code already
            obj.docstring.value = "`".join(parts)
