"""What a sentence-transformers model says of itself: how long a text may be, and whether its vectors are normalised.

Its files are read, no module is loaded; Dense and other modules of its own are left out.
"""

import json
from pathlib import Path
from typing import Any

_MODULES = "modules.json"
# Tokenizers without a limit say 1e30.
_NO_LIMIT = 10**9


def own_limit(location: str, revision: str | None) -> int | None:
    """Tokens a text is cut at by a sentence-transformers model; None for any other, or where it does not say.

    Args:
        location: A folder or a hub id.
        revision: On the hub.
    """
    if _read(location, _MODULES, revision) is None:
        return None
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        limit = (_read(location, name, revision) or {}).get(key)
        if limit is not None and limit < _NO_LIMIT:
            return int(limit)
    return None


def normalizes(location: str, revision: str | None) -> bool:
    """Whether a model is a sentence-transformers model whose vectors are of length 1.

    Args:
        location: A folder or a hub id.
        revision: On the hub.
    """
    modules = _read(location, _MODULES, revision) or []
    return any(str(module.get("type", "")).rpartition(".")[2] == "Normalize" for module in modules)


def _read(location: str, name: str, revision: str | None) -> Any:
    if Path(location).is_dir():
        here = Path(location, name)
        file = str(here) if here.exists() else None
    else:
        from sentence_transformers.util import load_file_path  # slow to import, and a folder is read without it

        file = load_file_path(location, name, revision=revision)
    return None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
