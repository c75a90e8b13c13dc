"""What a model's files say at a glance, so that mistakes are told before the slow imports: torch, transformers, mteb.

What cannot be told at a glance is left to `models.checkpoint`.
"""

import json
from pathlib import Path
from typing import Any

from midlayer_embed.ground.paths import user_path
from midlayer_embed.models.gguf.head import read_head
from midlayer_embed.models.starter import gguf_of

# The entries of a config.json that hold the number of blocks, one for each architecture.
_N_BLOCKS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")


def n_blocks_at_a_glance(model: str, gguf_file: str | None = None, revision: str | None = None) -> int | None:
    """L, the number of blocks of a model; None where its config does not plainly say so, or is not on this machine.

    Args:
        model: A folder, a GGUF file, a Hub id or "starter", as for `check_location`.
        gguf_file: Name of a GGUF file in the folder.
        revision: Revision on the Hub.
    """
    try:
        gguf = gguf_of(model, gguf_file)
        if gguf is not None:
            return read_head(gguf).n_blocks
        return _n_blocks_of_config(_config_file(model, revision))
    except (OSError, ValueError):  # what is wrong with the file is told when it is loaded
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
