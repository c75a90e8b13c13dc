"""What a model's files say at a glance, so that mistakes are told before the slow imports: torch, transformers, mteb.

What cannot be told at a glance is left to `models.checkpoint`.
"""

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

from midlayer_embed.ground.paths import user_path
from midlayer_embed.models.starter import STARTER, starter_gguf

# The entries of a config.json that hold the number of blocks, one for each architecture.
_N_BLOCKS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
# In a GGUF file: the number of bytes of each type of value that has a fixed size; strings and lists.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _LIST = 4, 8, 9


def n_blocks_at_a_glance(model: str, gguf_file: str | None = None, revision: str | None = None) -> int | None:
    """L, the number of blocks of a model; None where its config does not plainly say so, or is not on this machine.

    Args:
        model: A folder, a Hub id or "starter", as for `check_location`.
        gguf_file: Name of a GGUF file in the folder.
        revision: Revision on the Hub.
    """
    try:
        if model == STARTER or gguf_file is not None:
            return _n_blocks_of_gguf(starter_gguf() if gguf_file is None else user_path(model, "model") / gguf_file)
        return _n_blocks_of_config(_config_file(model, revision))
    except (OSError, ValueError, struct.error):  # what is wrong with the file is told when it is loaded
        return None


def _config_file(model: str, revision: str | None) -> Path | None:
    folder = user_path(model, "model")
    if folder.is_dir():
        return folder / "config.json"
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json", revision=revision or "main")
    return Path(found) if isinstance(found, str) else None


def _n_blocks_of_config(file: Path | None) -> int | None:
    config: Any = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or "auto_map" in config:  # a config class of its own may read it in any way
        return None
    found = [config[name] for name in _N_BLOCKS if name in config]
    return found[0] if len(found) == 1 and isinstance(found[0], int) else None


def _n_blocks_of_gguf(path: Path) -> int | None:
    """The entry "<architecture>.block_count" of a GGUF file's head."""
    with path.open("rb") as file:
        magic, _version, _n_tensors, n_entries = _unpack(file, "<4sIQQ")
        if magic != b"GGUF":
            return None
        for _ in range(n_entries):
            name = _read_string(file)
            (kind,) = _unpack(file, "<I")
            if name.endswith(b".block_count") and kind == _UINT32:
                return int(_unpack(file, "<I")[0])
            _skip(file, kind)
    return None


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _read_string(file)
    elif kind == _LIST:
        kind, n_items = _unpack(file, "<IQ")
        if kind in _SIZES:
            file.seek(_SIZES[kind] * n_items, 1)
        else:
            for _ in range(n_items):
                _skip(file, kind)
    else:
        if kind not in _SIZES:
            raise ValueError(f"a GGUF file has no type {kind}")
        file.seek(_SIZES[kind], 1)


def _read_string(file: BinaryIO) -> bytes:
    return file.read(_unpack(file, "<Q")[0])


def _unpack(file: BinaryIO, format_: str) -> tuple[Any, ...]:
    return struct.unpack(format_, file.read(struct.calcsize(format_)))
