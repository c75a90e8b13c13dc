"""Lets the reference show the examples of docstrings as code.

Google's style writes "Example:"; Griffe takes only "Examples:" for a section of code.
"""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"^Example:$", re.MULTILINE)


class Examples(griffe.Extension):
    """Renames the section before the docstring is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute that Griffe has read."""
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub("Examples:", obj.docstring.value)
