"""The blocks of a page of the documentation: what a reader copies, what the page shows, and what it says of them.

- ```sh and ```python are copied. A first line `# needs the Hub` tells the reader what a block cannot do without.
- ```text is shown. A comment above it says who printed it, and how close a run has to come:
  `<!-- make leaderboard; within 0.3 -->`.
- `<!-- figures of SOURCE: ... -->` quotes lines of SOURCE. Their first number is on the page, rounded as it is there.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
_NEEDS = re.compile(r"# needs (?P<what>.+)")
_ORIGIN = re.compile(r"<!-- (?P<source>[^\n]+?)(?:; within (?P<within>[\d.]+%?))? -->\s*\Z")
_FIGURES = re.compile(r"<!-- figures of (?P<source>[^\n:]+):(?P<quotes>.*?)-->", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?(?=x\b|\W|$)")
NEEDS = ("the Hub", "the network", "a GPU", "a bucket", "a cluster", "Optimum", "minutes", "hours")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Path of its page inside the repository.
        line: Line of the page on which it starts.
        language: "sh", "python" or "text".
        text: What is between the fences.
        needs: Some of `NEEDS`.
        source: What printed it, if the page says so.
        within: How far its numbers may be from those of a run: "0.3", or "2%" of the number.
    """

    page: str
    line: int
    language: str
    text: str
    needs: tuple[str, ...] = ()
    source: str = ""
    within: str = "0"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, one for each that a shell would read."""
        found, command = [], ""
        for line in self.text.splitlines():
            command += line + "\n"
            if not line.endswith("\\"):
                found.append(command.strip())
                command = ""
        return [command for command in found if command and not command.startswith("#")]


@dataclass(frozen=True)
class Figures:
    """Quotes behind the numbers of a page.

    Attributes:
        source: A file of the repository.
        quotes: Parts of its lines.
    """

    source: str
    quotes: tuple[str, ...]


def blocks(path: Path, root: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    page, found = path.read_text(encoding="utf-8"), []
    for fence in _FENCE.finditer(page):
        text = "\n".join(line.removeprefix(fence["indent"]) for line in fence["text"].split("\n"))
        needs = _NEEDS.match(text)
        origin = _ORIGIN.search(page[: fence.start()])
        found.append(
            Block(
                path.relative_to(root).as_posix(),
                page.count("\n", 0, fence.start()) + 1,
                fence["language"],
                text,
                tuple(needs["what"].split(" and ")) if needs else (),
                origin["source"] if origin else "",
                (origin["within"] or "0") if origin else "0",
            )
        )
    return found


def figures(path: Path) -> list[Figures]:
    """The comments of a page that quote where its numbers are from."""
    return [
        Figures(found["source"].strip(), tuple(filter(None, map(str.strip, found["quotes"].split("\n")))))
        for found in _FIGURES.finditer(path.read_text(encoding="utf-8"))
    ]


def visible(path: Path) -> str:
    """What a page shows: all but its comments."""
    return re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def numbers(text: str) -> list[str]:
    return [number.replace(",", "") for number in _NUMBER.findall(text)]


def _is_near(shown: str, printed: str, within: str) -> bool:
    if "." not in shown + printed and not within.endswith("%"):
        return float(shown) == float(printed)
    difference = abs(float(shown) - float(printed))
    allowed = float(within[:-1]) / 100 * abs(float(printed)) if within.endswith("%") else float(within)
    return difference <= allowed + 1e-9


def _shape(line: str) -> str:
    """A line without its numbers, and without widths that depend on them."""
    line = _NUMBER.sub("#", line)
    line = re.sub(r"[█─━▏▎▍▌▋▊▉]+", "|", line)
    return " ".join(line.split())


def is_like(shown: str, printed: str, within: str) -> bool:
    """Whether a line of a page is what was printed, up to spaces and the tolerance of its numbers."""
    if _shape(shown) != _shape(printed):
        return False
    pairs = zip(numbers(shown), numbers(printed), strict=True)
    return all(_is_near(a, b, within) for a, b in pairs)


def missing_lines(shown: str, printed: str, within: str) -> list[str]:
    """The lines of a page that were not printed. Those that were are in the same order; others may be between them."""
    left, missing = printed.splitlines(), []
    for line in filter(str.strip, shown.splitlines()):
        at = next((n for n, candidate in enumerate(left) if is_like(line, candidate, within)), None)
        if at is None:
            missing.append(line)
        else:
            left = left[at + 1 :]
    return missing


def is_rounded_on(page: str, quote: str) -> bool:
    """Whether a page has the first number of a quote, rounded to as many digits as the page gives."""
    exact = float(numbers(quote)[0])
    for number in numbers(page):
        digits = len(number.partition(".")[2])
        tells = digits > 0 or abs(exact) >= 10 or exact == int(exact)  # 1 is no way to say 1.4
        if tells and abs(abs(float(number)) - abs(exact)) <= 0.5 * 10**-digits + 1e-9:
            return True
    return False


def shown_values(code: str) -> dict[int, str]:
    """What the comments of a Python block say that its expressions give: `2 + 2  # -> 4`, by line."""
    lines = code.splitlines()
    ends = {node.end_lineno for node in ast.parse(code).body if isinstance(node, ast.Expr)}
    said = {number: lines[number - 1].partition("  # -> ")[2] for number in ends if number}
    return {number: value.strip() for number, value in said.items() if value}
