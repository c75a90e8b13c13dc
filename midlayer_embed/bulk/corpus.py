"""A corpus of many files: which files it has, and in which order. All processes find the same."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import followed, user_path
from midlayer_embed.texts.files import format_of

Inputs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Corpus:
    """The files of a corpus, in the order of their names.

    Attributes:
        root: Folder that all of them are in.
        names: Their paths inside of it, with "/" on every system.
        sizes: Their sizes in bytes.
    """

    root: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def path(self, number: int) -> Path:
        """Path of a file."""
        return self.root / self.names[number]


def is_corpus(inputs: Inputs) -> bool:
    """Whether inputs are a corpus: several paths, a folder or a pattern; one file is not.

    Example:
        >>> is_corpus("texts.txt"), is_corpus(["a.txt", "b.txt"]), is_corpus("data/*.parquet")
        (False, True, True)
    """
    paths = _listed(inputs)
    return len(paths) != 1 or _is_pattern(paths[0]) or user_path(paths[0], "input").is_dir()


def find_corpus(inputs: Inputs) -> Corpus:
    """Find the files of a corpus; none is read.

    Args:
        inputs: A file, a folder, a pattern such as "data/*.jsonl.gz" ("**" stands for any folders), or several of
            these. A folder counts with the folders in it; its files are of one format, hidden ones are left out.

    Returns:
        The files in the order of their names, character by character: "10.txt" comes before "2.txt".

    Raises:
        InputError: (a ValueError) there is no such file or no file at all; one is named twice; a folder has files of
            several formats.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.txt", "a.txt", ".hidden.txt"):
        ...     _ = (folder / name).write_text("a text")
        >>> find_corpus(folder).names
        ('a.txt', 'b.txt')
    """
    paths = [path for one in _listed(inputs) for path in _files(one)]
    if not paths:
        raise InputError("input: expected a file, a folder or a pattern, got none")
    for path, times in Counter(paths).items():
        if times > 1:
            raise InputError(f"input: {path} is named {times} times; expected each file once")
    only = user_path(_listed(inputs)[0], "input") if len(_listed(inputs)) == 1 else None
    root = only if only is not None and only.is_dir() else Path(os.path.commonpath([path.parent for path in paths]))
    named = sorted((path.relative_to(root).parts, path) for path in paths)
    sizes = []
    for _, path in named:
        try:
            sizes.append(path.stat().st_size)
        except OSError as error:
            raise InputError(f"input: {path} cannot be read: {error.strerror}") from None
    return Corpus(root, tuple("/".join(parts) for parts, _ in named), tuple(sizes))


def check_apart(inputs: Inputs, corpus: Corpus, folder: Path, written: Sequence[str]) -> None:
    """Reject an output folder whose files would be taken for input by the next run, or be written over input.

    Args:
        inputs: As for `find_corpus`.
        corpus: What was found.
        folder: Path of the output folder.
        written: Names of files that are written into it.

    Raises:
        InputError: (a ValueError) the message says which folder.
    """
    real = followed(folder)
    for one in _listed(inputs):
        if not _is_pattern(one):
            place = followed(user_path(one, "input"))
            if place.is_dir() and (real == place or place in real.parents):
                raise InputError(f"output: expected a folder outside of the input, got {folder}, which is in {one}")
            continue
        pattern = user_path(one, "input").parts
        for path in (place / name for place in (folder, real) for name in written):
            if _matches(path.parts, pattern):
                raise InputError(f"output: expected a folder outside of the input, but {one} stands for {path} as well")
    targets = {real / name for name in written}
    for number in range(len(corpus.names)):
        path = followed(corpus.path(number))
        if path in targets:
            raise InputError(f"output: expected another file than the input, got {path}")


def _listed(inputs: Inputs) -> list[str | Path]:
    return [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)


def _is_pattern(path: str | Path) -> bool:
    return glob.has_magic(os.fspath(path)) and not os.path.lexists(user_path(path, "input"))


def _files(one: str | Path) -> Iterator[Path]:
    path = user_path(one, "input")
    if _is_pattern(one):
        found = [Path(name) for name in glob.glob(str(path), recursive=True) if not os.path.isdir(name)]
        if not found:
            raise InputError(f"input: no file matches {one}")
        for file in found:
            format_of(file)
        yield from found
    elif path.is_dir():
        yield from _files_in(path)
    elif not path.exists():
        raise InputError(f"input: there is no file {path}")
    else:
        format_of(path)
        yield path


def _files_in(root: Path) -> list[Path]:
    """The files of texts in a folder, and in the folders in it. Links to folders are followed, each folder once."""

    def fail(error: OSError) -> None:
        raise InputError(f"input: {error.filename} cannot be read: {error.strerror}")

    found: dict[str, list[Path]] = {}
    entered = set()
    for place, folders, files in os.walk(root, onerror=fail, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        for name in files:
            path = Path(place, name)
            try:
                suffix = format_of(path)
            except InputError:
                continue
            if not name.startswith((".", "_")):
                found.setdefault(suffix, []).append(path)
    if not found:
        raise InputError(f"input: {root} holds no file of texts; expected .txt, .jsonl, .csv, .tsv or .parquet files")
    if len(found) > 1:
        kinds = ", ".join(f"{len(paths)} {suffix}" for suffix, paths in sorted(found.items()))
        suffix = max(found, key=lambda suffix: len(found[suffix]))
        raise InputError(
            f"input: {root} holds files of several formats ({kinds}); name those to embed by a pattern in quotes, "
            f"such as '{root}/**/*{suffix}'"
        )
    return next(iter(found.values()))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern of glob."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
