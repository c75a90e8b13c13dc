"""Reads two settings of a sentence-transformers model: its token limit, and whether it normalises its embeddings.

Only its config files are read. Dense and other modules are ignored.
"""

import json
from pathlib import Path
from typing import Any

_MODULES = "modules.json"
# Tokenizers without a limit have 1e30.
_NO_LIMIT = 10**9


def own_limit(location: str, revision: str | None) -> int | None:
    """Token limit of a sentence-transformers model; None for other models, or if it sets no limit.

    Args:
        location: Folder or Hub id.
        revision: Revision on the Hub.
    """
    if _read(location, _MODULES, revision) is None:
        return None
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        limit = (_read(location, name, revision) or {}).get(key)
        if limit is not None and limit < _NO_LIMIT:
            return int(limit)
    return None


def normalizes(location: str, revision: str | None) -> bool:
    """Whether a model is a sentence-transformers model that normalises its embeddings.

    Args:
        location: Folder or Hub id.
        revision: Revision on the Hub.
    """
    modules = _read(location, _MODULES, revision) or []
    return any(str(module.get("type", "")).rpartition(".")[2] == "Normalize" for module in modules)


def _read(location: str, name: str, revision: str | None) -> Any:
    if Path(location).is_dir():
        path = Path(location, name)
        file = str(path) if path.exists() else None
    else:
        from sentence_transformers.util import load_file_path  # slow to import, and not needed for folders

        file = load_file_path(location, name, revision=revision)
    return None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
