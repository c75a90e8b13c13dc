"""Converts a GGUF file to a safetensors folder, once, in the user's cache. All other modules read that folder."""

import json
import logging
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import platformdirs
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file, atomic_folder
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import file_sha256
from midlayer_embed.models.gguf.head import read_head

logger = logging.getLogger(__name__)

GGUF_RECORD = "gguf_source.json"
# Names of the types of tensors, as in the GGUF specification.
_TYPES = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K"},
    **{12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S"},
    **{20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0"},
    **{35: "TQ2_0", 39: "MXFP4"},
}


def cache_folder() -> Path:
    """Cache folder of this package for the current user."""
    return Path(platformdirs.user_cache_dir("midlayer-embed"))


def converted_folder(gguf: Path, sha256: str | None = None) -> Path:
    """The safetensors folder of a GGUF file, converted on first use, with weights in float32.

    The folder is named after the SHA-256 of the file, so changed files are converted again, and records the sizes and
    checksums of its files. If a size does not match, the folder is incomplete or changed, and is rebuilt.

    Args:
        gguf: Path of the GGUF file.
        sha256: Expected checksum of the file, if known.

    Returns:
        A folder for `from_pretrained`.

    Raises:
        InputError: (a ValueError) the packages that read GGUF are not installed, the file cannot be read, or its
            checksum is not the expected one.
    """
    digest = file_sha256(gguf)
    if sha256 not in (None, digest):
        raise InputError(f"{gguf}: expected a file with SHA-256 {sha256}, got {digest}")
    folder = cache_folder() / "gguf" / f"{gguf.stem}-{digest[:12]}"
    if not _is_whole(folder, digest):
        shutil.rmtree(folder, ignore_errors=True)  # incomplete or changed; complete folders are never deleted
        _convert(gguf, digest, folder)
    _record_types(gguf, folder / GGUF_RECORD)
    return folder


def quantization_of(location: str | Path) -> str | None:
    """How the weights of a converted folder were quantised, in words; None for any other model.

    Example:
        >>> quantization_of("no/converted/folder") is None
        True
    """
    try:
        record = json.loads((Path(location) / GGUF_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said_of_types(record.get("weight_types", []))


def _record_types(gguf: Path, path: Path) -> None:
    """Adds the types of the weights to a record; records of older versions lack them."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if "weight_types" not in record:
        with suppress(OSError), atomic_file(path) as partial:  # a cache may be read-only
            partial.write_text(json.dumps({**record, "weight_types": weight_types(gguf)}, indent=2), encoding="utf-8")


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        record = json.loads((folder / GGUF_RECORD).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in record["files"]}
    except (OSError, ValueError, KeyError):
        return False
    return record["gguf_sha256"] == digest and sizes == {name: file["size"] for name, file in record["files"].items()}


@contextmanager
def _alone(gguf: Path) -> Iterator[Path]:
    """A folder that holds the file and nothing else: transformers would also read adapters and configs beside it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            Path(folder, gguf.name).symlink_to(gguf.resolve())
        except OSError:  # not permitted on Windows
            shutil.copy(gguf, folder)
        yield Path(folder)


def _convert(gguf: Path, digest: str, folder: Path) -> None:
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise InputError(f"reading {gguf.name} needs {package}; run: pip install 'midlayer-embed[gguf]'")
    from transformers import AutoModel, AutoTokenizer  # slow to import, and only needed once

    logger.info("converting %s to safetensors once (about a minute), in %s", gguf.name, folder)
    with atomic_folder(folder) as partial, _alone(gguf) as place, quiet_transformers():
        try:
            quantised = AutoModel.from_pretrained(place, gguf_file=gguf.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=gguf.name)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"{gguf} cannot be read as a GGUF model: {str(error).splitlines()[0]}") from error
        # transformers does not save a model that was loaded from GGUF, so copy its weights to one with a plain config.
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


def weight_types(path: Path) -> list[str]:
    """The types of the matrices in a GGUF file, such as ["Q4_1", "Q8_0"], that of the most weights first.

    Returns:
        Names of types; empty if the file cannot be read as GGUF.
    """
    counted: Counter[str] = Counter()
    try:
        tensors = read_head(path).tensors
    except (OSError, InputError):
        return []
    for tensor in tensors:
        if len(tensor.shape) > 1:
            counted[_TYPES.get(tensor.kind, f"type {tensor.kind}")] += math.prod(tensor.shape)
    return [name for name, _ in counted.most_common()]


def said_of_types(types: list[str]) -> str | None:
    """The quantisation in words; None for weights in full precision, or if it is not known.

    Example:
        >>> said_of_types(["Q4_1", "Q8_0"]), said_of_types(["F16"]), said_of_types(["F32"])
        ('4-bit (GGUF Q4_1, parts in Q8_0)', 'GGUF F16', None)
    """
    if not types or set(types) <= {"F32", "F64"}:
        return None
    main, *others = types
    parts = f", parts in {', '.join(others)}" if others else ""
    bits = next((letter for letter in main if letter.isdigit()), "")
    return f"GGUF {main}{parts}" if main.startswith(("F", "BF", "type")) else f"{bits}-bit (GGUF {main}{parts})"
