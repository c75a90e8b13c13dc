"""Does what a page says that needs no more than an installation, and compares what comes out."""

from pathlib import Path

from support.reading.pages import blocks, is_like, shown_values
from support.reading.reader import Reader


class Wrong(Exception):
    """What is wrong, for people."""


def follow(page: Path, root: Path, reader: Reader) -> int:
    """Runs the blocks of a page, from its first to its last, but those that need something.

    Args:
        page: A page inside the repository.
        root: The repository.
        reader: Who does it.

    Returns:
        The number of blocks that ran.

    Raises:
        Wrong: a command or a block fails, or gives something other than the page says.
    """
    n_done = 0
    for block in blocks(page, root):
        if block.needs or block.language not in ("sh", "python"):
            continue
        for code in block.commands if block.language == "sh" else [block.text]:
            done = reader.command(code) if block.language == "sh" else reader.python(code)
            if done.code:
                raise Wrong(f"{block}: {code}\n{done.stdout}\n{done.stderr}")
        for line, said in shown_values(block.text).items() if block.language == "python" else ():
            if not is_like(said, done.values[line], "1%"):
                raise Wrong(f"{block}, line {line}: the page says {said}, it gives {done.values[line]}")
        n_done += 1
    return n_done
