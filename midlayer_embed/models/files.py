"""The files of a model's folder: checked before it is loaded, so that problems are reported in one line, and hashed.

Whether weights fit the architecture is checked in `weights`.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig
from transformers.utils.peft_utils import find_adapter_config_file

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import file_sha256, read_json
from midlayer_embed.models.adapters import CONFIG_FILE as ADAPTER_CONFIG_FILE
from midlayer_embed.models.vision.aim_config import is_published_aim

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Formats that can run code when they are loaded, and formats of other libraries.
_PICKLES = ("pytorch_model*.bin", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_OTHERS = ("*.h5", "*.msgpack", "*.onnx")
# Files that training writes next to the weights.
_NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
# The quantisation that transformers undoes on any device, without more packages.
DEQUANTISED = "fp8"
_LFS_POINTER = b"version https://git-lfs"
# What no library reads to embed a text: documents, pictures, records of a training, other formats of the weights. All
# other files count as read, because each class of tokenizers, and each model's own code, has file names of its own.
_NOT_READ = (
    *("README*", "LICENSE*", "LICENCE*", "NOTICE*", "CITATION*", "*.md", "*.rst", "*.html", "*.pdf", "*.ipynb"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.csv", "*.tsv", "*.log", "*.zip", "*.gz"),
    *("generation_config.json", "trainer_state.json", "all_results.json", "train_results.json", "eval_results.json"),
    *(*_OTHERS, "*.gguf", "*.ot", "*.tflite", "*.mlmodel", *(f"{name}*" for name in _NO_WEIGHTS)),
)
_MODULES = "modules.json"
# Folders with the same weights in formats of other backends, which are not used here.
_EXPORTS = ("onnx", "openvino")


def check_config_file(folder: Path) -> None:
    """Check that a folder has the config of a transformers model.

    Raises:
        InputError: (a ValueError) no config.json, or no model_type in it.
    """
    file = folder / "config.json"
    if not file.is_file():
        gguf = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f"; to read {gguf[0]}, pass it as gguf_file (--gguf-file)" if gguf else ""
        raise InputError(f"model: the folder {folder} holds no config.json, so it is not a Hugging Face model{hint}")
    config = read_json(file, "model")
    is_config = isinstance(config, dict) and (isinstance(config.get("model_type"), str) or is_published_aim(config))
    if not is_config:
        raise InputError(f"model: {file} has no model_type, so the architecture is unknown")


def check_no_adapter(location: str, revision: str | None) -> None:
    """Reject a PEFT adapter that is passed as a model. Next to model weights, an adapter would be ignored silently.

    Args:
        location: Folder or Hub id.
        revision: Revision on the Hub.

    Raises:
        InputError: (a ValueError) the location has an adapter; the message names its base model.
    """
    try:
        with quiet_transformers():  # without a network, the Hub's client reports each of its retries
            file = find_adapter_config_file(location, revision=revision)
    except (OSError, ValueError):  # no such repository, for example: loading the config reports that
        return
    if file is None:
        return
    config = read_json(Path(file), "model")
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    raise InputError(
        f"model: {location} is a PEFT adapter ({ADAPTER_CONFIG_FILE}); load its base model ({base!r}) with "
        f"adapters=[{location!r}] (--adapter)"
    )


def check_quantization(location: str, config: PretrainedConfig) -> None:
    """Reject weights that are quantised in a way that is not undone when they are loaded.

    Args:
        location: Folder or Hub id.
        config: The model's config.

    Raises:
        InputError: (a ValueError) the message says how they are quantised.
    """
    method = method_of_quantization(config)
    if method not in (None, DEQUANTISED):
        raise InputError(
            f"model: the weights of {location} are quantised ({method}); expected weights that are not, {DEQUANTISED} "
            "(which is undone), or a GGUF file (gguf_file, --gguf-file)"
        )


def method_of_quantization(config: PretrainedConfig) -> str | None:
    """How the weights of a model are quantised, by its config; None if they are not.

    Example:
        >>> from transformers import LlamaConfig
        >>> method_of_quantization(LlamaConfig(quantization_config={"quant_method": "gptq", "bits": 4}))
        'gptq'
    """
    for part in (config, config.get_text_config()):
        said = getattr(part, "quantization_config", None)
        if said is not None:
            return str(said.get("quant_method", "in a way it does not name"))
    return None


def check_weight_files(folder: Path) -> None:
    """Check that the weights of a folder exist, are safetensors, and are complete. Only headers are read.

    Raises:
        InputError: (a ValueError) they are missing, in another format, truncated or damaged; the message names the
            file.
    """
    for file in _weight_files(folder):
        if not file.is_file():
            raise InputError(
                f"model: the folder {folder} lacks {file.name}, which {_INDEX} lists as part of its weights"
            )
        try:
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            if isinstance(error, PermissionError) or not os.access(file, os.R_OK):
                raise InputError(f"model: {file} cannot be read: Permission denied") from error
            with file.open("rb") as start:
                is_pointer = start.read(len(_LFS_POINTER)) == _LFS_POINTER
            why = "it is a git-lfs pointer to the weights; run git lfs pull" if is_pointer else first_line(error)
            raise InputError(f"model: {file} cannot be read, it is truncated or damaged: {why}") from error


def weights_sha256(folder: Path) -> str:
    """SHA-256 of a folder's weights: of the file if there is one, else of the names and hashes of all files."""
    files = _weight_files(folder)
    if len(files) == 1:
        return file_sha256(files[0])
    lines = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def folder_fingerprint(folder: Path) -> str:
    """Hash of all files of a folder that change its vectors, 12 hexadecimal digits.

    These are the files that transformers, sentence-transformers and the tokenizer read: config, weights and their
    index, the tokenizer's files, own code, and the folders of the modules in modules.json. Symbolic links are followed.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_files_read(folder)):
        digest.update(f"{name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()[:12]


def _files_read(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that change a folder's vectors, by their names relative to it."""
    for path in folder.iterdir():
        if _is_read(path, (*_NOT_READ, *_PICKLES)):
            yield path.name, path
    for module in _module_folders(folder):  # modules after the first may have their weights as pickles
        for parent, folders, names in os.walk(folder / module, followlinks=True):
            if any(os.path.samefile(parent, above) for above in Path(parent).parents):  # a link to a folder above
                folders.clear()
                continue
            folders[:] = [name for name in folders if not name.startswith(".") and name not in _EXPORTS]
            for path in (Path(parent, name) for name in names):
                if _is_read(path, _NOT_READ):
                    yield f"{module}/{path.relative_to(folder / module).as_posix()}", path


def _is_read(path: Path, others: tuple[str, ...]) -> bool:
    return path.is_file() and not path.name.startswith(".") and not any(path.match(pattern) for pattern in others)


def _module_folders(folder: Path) -> set[str]:
    """The folders of a sentence-transformers model's modules; without its own, where the first one is."""
    try:
        modules = json.loads((folder / _MODULES).read_text(encoding="utf-8"))
        paths = {Path(str(module.get("path") or "")).as_posix() for module in modules}
    except (OSError, ValueError, AttributeError, TypeError):
        return set()
    return paths - {"."}


def _weight_files(folder: Path) -> list[Path]:
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if (folder / _INDEX).is_file():
        index = read_json(folder / _INDEX, "model")
        parts = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(parts, dict) or not parts or not all(isinstance(part, str) for part in parts.values()):
            raise InputError(f"model: {folder / _INDEX} does not say which files hold the weights")
        return [folder / part for part in sorted(set(parts.values()))]
    if pickles := _find_names(folder, _PICKLES):
        raise InputError(
            f"model: the folder {folder} holds its weights as {pickles[0]}, a pickle, which can run code when it is "
            "loaded; only safetensors are read. If you trust it, convert it: "
            "transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)"
        )
    others = _find_names(folder, _OTHERS)
    instead = f" (there is {others[0]}, which is not supported)" if others else ""
    raise InputError(f"model: the folder {folder} holds no weights: neither {_WEIGHTS} nor {_INDEX}{instead}")


def _find_names(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    names = [path.name for pattern in patterns for path in sorted(folder.glob(pattern))]
    return [name for name in names if not name.startswith(_NO_WEIGHTS)]
