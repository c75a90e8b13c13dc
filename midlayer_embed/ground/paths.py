"""Paths that users give, in Python and on the command line: one meaning everywhere.

`~` is the home folder (shells leave it alone in `--out=~/x`), links are followed when something is written, and a
relative path is relative to the working directory at the time of the call.
"""

import errno
import os
import re
import stat
from pathlib import Path

from midlayer_embed.errors import InputError, InputTypeError

_SEPARATORS = tuple(separator for separator in (os.sep, os.altsep) if separator)
# What a URL begins with: more than one letter, or it would be a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:/")
# The standard streams by name: the open file itself is written to, or a redirected one would be replaced.
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
# What the system says of a path where nothing is, or a link that leads nowhere: this may be as it should be.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def user_path(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """The absolute path that a user means. Links and `..` stay as they are.

    Args:
        path: A path as given by the user.
        argument: Name of the argument, for messages.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a path.
        InputError: (a ValueError) an empty path, one that no system can have, or one in a folder that this user may
            not enter.

    Example:
        >>> user_path("~/models").parent == Path.home()
        True
        >>> user_path("", "out")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: out: expected a path, got an empty string
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise InputTypeError(f"{argument}: expected a path, got {path!r}")
    if not text:
        raise InputError(f"{argument}: expected a path, got an empty string")
    if "\0" in text:
        raise InputError(f"{argument}: a path has no null character, got {text!r}")
    expanded = Path(os.path.expanduser(text))  # unlike Path.expanduser, leaves a name alone that is no user's
    try:
        found = expanded.absolute()
    except FileNotFoundError:
        raise InputError(f"{argument}: {text} is relative to the working directory, which does not exist") from None
    try:
        found.stat()
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise InputError(f"{argument}: {text} cannot be reached: {error.strerror}") from None
    return found


def target_file(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """`user_path` of a file to write, checked before any work is done.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a path.
        InputError: (a ValueError) a folder, a URL, or a file that cannot be written; the message says why.

    Example:
        >>> target_file("page/", "html")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: html: page/ cannot be written: expected a file, got a folder
    """
    found = _target(path, argument)
    if os.fspath(path).endswith(_SEPARATORS) or found.is_dir():
        raise InputError(f"{argument}: {path} cannot be written: expected a file, got a folder")
    _check_writable(found, argument)
    return found


def target_folder(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """`user_path` of a folder to write, checked before any work is done.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a path.
        InputError: (a ValueError) a file, a URL, or a folder that cannot be written; the message says why.
    """
    found = _target(path, argument)
    if found.exists() and not found.is_dir():
        raise InputError(f"{argument}: {path} cannot be written: it is a file; expected a folder")
    _check_writable(found, argument)
    return found


def _target(path: str | os.PathLike[str], argument: str) -> Path:
    found = user_path(path, argument)
    if is_url(path):  # or a folder named "s3:" would be made here
        raise InputError(f"{argument}: {path} cannot be written: it is a URL; expected a path on this machine")
    return found


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL, or a Path of one, which has lost a slash.

    Example:
        >>> is_url("s3://bucket/results"), is_url(Path("s3://bucket/results")), is_url("results"), is_url("C:/results")
        (True, True, False, False)
    """
    return _URL.match(os.fspath(path)) is not None


def followed(path: Path) -> Path:
    """Where a path leads, all links followed; nothing need be there. Links that lead to themselves stay."""
    return Path(os.path.realpath(path))


def is_special(path: Path) -> bool:
    """Whether a path is neither a file nor a folder, nor free: a device, a pipe, or a stream of this process."""
    if stream_number(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def stream_number(path: Path) -> int | None:
    """The number of the open file that a path such as /dev/stdout is about."""
    text = os.path.normpath(path)
    found = re.fullmatch(r"(?:/dev|/proc/self)/fd/(\d+)", text)
    return int(found[1]) if found else _STREAMS.get(text)


def _check_writable(path: Path, argument: str) -> None:
    if is_special(path):
        return
    real = followed(path)
    place = next(place for place in (real, *real.parents) if os.path.lexists(place))
    if place.is_symlink():
        raise InputError(f"{argument}: {path} cannot be written: {place} is a link that leads to itself")
    if place != real and not place.is_dir():
        raise InputError(f"{argument}: {path} cannot be written: {place} is not a folder")
    # a new file is made in the folder, and moved to the place of the old one
    needed = {place, real.parent} if place == real and not real.is_dir() else {place}
    for where in sorted(needed):
        if not os.access(where, os.W_OK):
            raise InputError(f"{argument}: {path} cannot be written: {where} is read-only")
