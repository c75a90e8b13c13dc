"""Markdown for cards and reports: escaping of names from outside, and tables."""

import html
import re
from collections.abc import Sequence


def escaped(text: str) -> str:
    r"""Escape a name so that it shows as written: no HTML, no Markdown, one line, also in a table cell.

    Example:
        >>> escaped("a|b <script> [c](d) *e*")
        'a\\|b &lt;script&gt; \\[c\\](d) \\*e\\*'
    """
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\|`*\[\]])", r"\\\1", one_line)


def table(rows: Sequence[Sequence[str]], *, right: bool = False, bold: int | None = None) -> str:
    r"""Build a Markdown table from cells that are escaped already.

    Args:
        rows: Rows of cells; the first row is the header.
        right: Whether to align the columns to the right, for numbers.
        bold: Index of the row in bold; the header is row 0.

    Example:
        >>> table([["layer", "mean"], ["0", "53.0"], ["7", "63.2"]], right=True, bold=2)
        '| layer | mean |\n| ---: | ---: |\n| 0 | 53.0 |\n| **7** | **63.2** |'
    """
    lines = [" | ".join(f"**{cell}**" if number == bold else cell for cell in row) for number, row in enumerate(rows)]
    lines.insert(1, " | ".join(["---:" if right else "---"] * len(rows[0])))
    return "\n".join(f"| {line} |" for line in lines)


def summary_markdown(lines: Sequence[str]) -> str:
    r"""Build a bold line, and a list of the others under it, from plain text.

    Args:
        lines: The lines, not escaped.

    Example:
        >>> summary_markdown(["layer 7", "a *guess*"])
        '**layer 7**\n\n- a \\*guess\\*'
    """
    first, *others = map(escaped, lines)
    return "\n".join([f"**{first}**", *([""] if others else []), *(f"- {line}" for line in others)])
