"""Markdown for cards and tables: names from outside, which may hold anything, and tables. What is told is not ours."""

import html
import re
from collections.abc import Sequence


def escaped(text: str) -> str:
    r"""A name as it reads, whatever it holds: no HTML, no Markdown, one line, also within a table.

    Example:
        >>> escaped("a|b <script> [c](d) *e*")
        'a\\|b &lt;script&gt; \\[c\\](d) \\*e\\*'
    """
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\|`*\[\]])", r"\\\1", one_line)


def table(rows: Sequence[Sequence[str]], *, right: bool = False, bold: int | None = None) -> str:
    r"""A Markdown table out of cells that are escaped already.

    Args:
        rows: The first is the header.
        right: Whether columns are aligned right, as numbers are.
        bold: The number of a row, the header's being 0, that stands out.

    Example:
        >>> table([["layer", "mean"], ["0", "53.0"], ["7", "63.2"]], right=True, bold=2)
        '| layer | mean |\n| ---: | ---: |\n| 0 | 53.0 |\n| **7** | **63.2** |'
    """
    lines = [" | ".join(f"**{cell}**" if number == bold else cell for cell in row) for number, row in enumerate(rows)]
    lines.insert(1, " | ".join(["---:" if right else "---"] * len(rows[0])))
    return "\n".join(f"| {line} |" for line in lines)
