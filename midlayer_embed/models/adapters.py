"""PEFT adapters (LoRA and relatives): find them without reading their weights, then merge them into a base model.

peft does the merging. In addition, this module merges adapters that were trained on a model with a head, merges an
adapter of the whole model into its first blocks, and drops no weight of an adapter silently.
"""

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from midlayer_embed.errors import InputError, InputTypeError, first_line
from midlayer_embed.ground.paths import user_path
from midlayer_embed.ground.whole_files import file_sha256
from midlayer_embed.models.families import Family

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLE_FILE = "adapter_model.bin"
# Adapter types that can be merged, each tested against peft's merge, and the mark in the names of their weights (except
# for modules that are replaced as a whole).
_MERGEABLE = {"LORA": "lora_", "LOHA": "hada_", "LOKR": "lokr_", "IA3": "ia3_", "OFT": "oft_"}
# No module has this name, so it distinguishes the weights of an adapter from those of the model.
_NAME = "midlayer_embed_adapter"
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """An adapter that was found, and its files.

    Attributes:
        name: Folder or Hub id, as given by the user.
        kind: peft's type: "LORA", ...
        config_file: Path of adapter_config.json.
        weights_file: Path of adapter_model.safetensors.
        fingerprint: Hash of both files.
    """

    name: str
    kind: str
    config_file: Path
    weights_file: Path
    fingerprint: str

    @property
    def label(self) -> str:
        """Name without the path: the Hub id, or the name of the folder."""
        return Path(self.name).resolve().name if Path(self.name).is_dir() else self.name


def find_adapters(adapters: Sequence[str | Path]) -> tuple[Adapter, ...]:
    """Find adapters without reading their weights.

    Args:
        adapters: Folders or Hub ids, in the order of merging.

    Raises:
        InputError: (a ValueError) an adapter does not exist, cannot be merged or has no safetensors weights, or peft is
            not installed.
        InputTypeError: (a ValueError and a TypeError) not a list of folders or Hub ids.

    Example:
        >>> find_adapters([])
        ()
    """
    if isinstance(adapters, (str, Path)) or not isinstance(adapters, Sequence):
        raise InputTypeError(f"adapters: expected a list of folders or Hub ids, got {adapters!r}")
    for adapter in adapters:
        if not isinstance(adapter, (str, Path)) or not str(adapter):
            raise InputTypeError(f"adapters: expected folders or Hub ids, got {adapter!r}")
    if adapters and find_spec("peft") is None:
        raise InputError("adapters: merging them needs peft; run: pip install 'midlayer-embed[peft]'")
    return tuple(_find_adapter(str(adapter)) for adapter in adapters)


def fingerprint_of(adapters: Sequence[Adapter]) -> str:
    """Hash of a list of adapters, in order: 12 hexadecimal digits."""
    return hashlib.sha256(" ".join(adapter.fingerprint for adapter in adapters).encode()).hexdigest()[:12]


def adapter_configs(adapters: Sequence[Adapter]) -> list["PeftConfig"]:
    """Read the configs of adapters with peft.

    Raises:
        InputError: (a ValueError) peft cannot read a config.
    """
    configs = []
    for adapter in adapters:
        from peft import PeftConfig

        try:
            config = PeftConfig.from_pretrained(str(adapter.config_file.parent))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"adapters: peft cannot read the config of {adapter.name}: {first_line(error)}") from error
        config.inference_mode = True
        if getattr(config, "megatron_config", None) is not None:
            config.megatron_config = None  # type: ignore[attr-defined]  # peft would import the module named there
        configs.append(config)
    return configs


def merge_adapter(
    model: "PreTrainedModel", adapter: Adapter, config: "PeftConfig", *, family: Family, n_blocks: int
) -> None:
    """Merge an adapter into a base model, in place. No peft module remains.

    Weights of blocks that are not loaded are skipped. So are weights of a head, which no layer depends on; these are
    logged.

    Args:
        model: Base model, complete or its first blocks only. In float32; in lower precision, sums are rounded.
        adapter: Adapter from `find_adapters`.
        config: Config of the adapter from `adapter_configs`; it is modified.
        family: Family of the model.
        n_blocks: Number of blocks of the complete model, which the adapter was trained on.

    Raises:
        InputError: (a ValueError) a weight of the adapter has no place in the model, does not fit it, or is missing;
            the message names the adapter and the first such weight.
    """
    from peft import PeftModel, set_peft_model_state_dict

    model_type = model.config.model_type
    weights = _AdapterWeights(adapter, model, family, n_blocks)
    kept = weights.find_loaded()
    if not kept:
        return
    root = model if not weights.head else _WithHead(weights.head, model)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    mark = _MERGEABLE[adapter.kind]
    _fit_config(config, kept, mark)
    state = weights.read(kept)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # misplaced and missing weights are reported below
            wrapped = PeftModel(root, config, _NAME)
            loaded: Any = set_peft_model_state_dict(wrapped, state, adapter_name=_NAME)
    except (ValueError, RuntimeError, LookupError, AttributeError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"adapters: {adapter.name} does not fit this {model_type} model; its first weight is {kept[0]}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    misplaced = sorted(loaded.unexpected_keys)
    if misplaced:
        raise InputError(f"adapters: {adapter.name}: {misplaced[0]} has no place in this {model_type} model")
    expected = (key.replace(f".{_NAME}", "") for key in loaded.missing_keys if _NAME in key.split(".") and mark in key)
    # Heads above the last block (BERT's pooler) affect no layer, and not every model has one.
    missing = sorted(key for key in expected if not _inner_path(key, weights.head).startswith("pooler."))
    if missing:
        name = missing[0]
        raise InputError(f"adapters: {adapter.name} lacks weights that its {CONFIG_FILE} requires, such as {name}")
    try:
        wrapped.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    except ValueError as error:  # weights that are not finite
        raise InputError(f"adapters: {adapter.name} cannot be merged: {first_line(error)}") from error
    for name, parameter in model.named_parameters():  # peft freezes what it wraps
        parameter.requires_grad_(name not in frozen)


class _WithHead(nn.Module):
    """A base model under the attribute name that it has in a model with a head.

    The configs of adapters that were trained on such a model refer to modules by names and patterns with that prefix.
    """

    def __init__(self, name: str, model: "PreTrainedModel") -> None:
        super().__init__()
        self.config = model.config  # peft reads these two attributes of a transformers model
        self.base_model_prefix = name
        self.add_module(name, model)


class _AdapterWeights:
    """The weights of an adapter, and where they belong in a model.

    Attributes:
        head: Name of the base model in the model with a head that the adapter was trained on; "" without a head.
    """

    def __init__(self, adapter: Adapter, model: "PreTrainedModel", family: Family, n_blocks: int) -> None:
        self._adapter = adapter
        self._model = model
        self._family = family
        self._n_blocks = n_blocks
        try:
            with safe_open(adapter.weights_file, framework="pt") as file:
                self._keys = sorted(file.keys())
        except (SafetensorError, OSError) as error:
            raise InputError(f"adapters: {adapter.weights_file} cannot be read: {first_line(error)}") from error
        if not self._keys:
            raise InputError(f"adapters: {adapter.weights_file} holds no weights")
        self.head = self._find_head()

    def find_loaded(self) -> list[str]:
        """Sorted names of the weights that belong to the loaded part of the model."""
        inside: list[str] = []
        outside: list[str] = []
        for key in self._keys:
            if self._is_above(key):
                continue
            (inside if self._is_inside(key, self.head) else outside).append(key)
        # Weights outside the base model are accepted for a head or the decoder of an encoder-decoder, which affect no
        # layer, and rejected otherwise.
        if outside and not self.head and self._family.model_class is None:
            raise InputError(
                f"adapters: {self._adapter.name}: {outside[0]} has no place in this {self._model.config.model_type} "
                "model"
            )
        if outside:
            logger.info(
                "adapter %s: skipping %d weights outside the base model, which no layer depends on, such as %s",
                self._adapter.name,
                len(outside),
                outside[0],
            )
        return inside

    def read(self, keys: list[str]) -> dict[str, torch.Tensor]:
        """Read weights by name; half precision is converted to float32."""
        with safe_open(self._adapter.weights_file, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in keys}
        return {
            key: weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
            for key, weight in weights.items()
        }

    def _find_head(self) -> str:
        for head in ("", self._model.base_model_prefix):
            if any(self._is_inside(key, head) for key in self._keys):
                return head
        raise InputError(
            f"adapters: {self._adapter.name}: {self._keys[0]} has no place in this {self._model.config.model_type} "
            "model"
        )

    def _is_inside(self, key: str, head: str) -> bool:
        """Whether a weight belongs to the base model, judged by the first name of its path."""
        if not key.startswith(f"{_PEFT_PREFIX}{head}." if head else _PEFT_PREFIX):
            return False
        return _inner_path(key, head).split(".")[0] in dict(self._model.named_children())

    def _is_above(self, key: str) -> bool:
        """Whether a weight belongs to a block of the complete model that is not loaded."""
        if self._family.calls is not None:  # blocks that share weights are always loaded
            return False
        found = re.match(re.escape(self._family.blocks) + r"\.(\d+)\.", _inner_path(key, self.head))
        if found is None:
            return False
        blocks = self._model.get_submodule(self._family.blocks)
        return len(blocks) <= int(found[1]) < self._n_blocks  # type: ignore[arg-type]


def _inner_path(key: str, head: str) -> str:
    """Path of a weight, relative to the base model."""
    return key.removeprefix(_PEFT_PREFIX).removeprefix(f"{head}." if head else "")


def _fit_config(config: Any, kept: list[str], mark: str) -> None:
    """Restrict a config to the modules that are loaded: peft raises an error for modules that it does not find."""
    from peft.utils.constants import DUMMY_TARGET_MODULES

    whole = getattr(config, "modules_to_save", None)  # modules that are replaced as a whole: embeddings, a head
    if whole:
        config.modules_to_save = [name for name in whole if any(f".{name}." in key for key in kept)] or None
    if not any(mark in key for key in kept):  # all targets are in blocks that are not loaded
        config.target_modules = DUMMY_TARGET_MODULES


def _find_adapter(name: str) -> Adapter:
    folder = user_path(name, "adapters")
    if folder.is_dir():
        name = str(folder)
        config_file, weights_file = folder / CONFIG_FILE, folder / _WEIGHTS_FILE
        if not config_file.is_file():
            raise InputError(f"adapters: the folder {name} holds no {CONFIG_FILE}, so it is not a PEFT adapter")
        if not weights_file.is_file() and (folder / _PICKLE_FILE).is_file():
            raise InputError(
                f"adapters: the folder {name} holds {_PICKLE_FILE} and no {_WEIGHTS_FILE}; a pickle can run code when "
                "it is loaded, so only safetensors are read: if you trust the file, convert it"
            )
        if not weights_file.is_file():
            raise InputError(f"adapters: the folder {name} holds no {_WEIGHTS_FILE}")
    elif folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(f"adapters: {name!r} is neither a folder nor a Hub id such as 'org/name'")
    else:
        config_file, weights_file = (_download_file(name, file) for file in (CONFIG_FILE, _WEIGHTS_FILE))
    kind = _read_kind(name, config_file)
    digest = hashlib.sha256(f"{file_sha256(config_file)} {file_sha256(weights_file)}".encode())
    return Adapter(name, kind, config_file, weights_file, digest.hexdigest())


def _download_file(name: str, file: str) -> Path:
    try:
        return Path(hf_hub_download(name, file))
    except (OSError, HFValidationError) as error:
        raise InputError(
            f"adapters: {name!r} is neither a folder nor a repository with {file} on the Hub or in its cache (formats "
            "other than safetensors are not read)"
        ) from error


def _read_kind(name: str, config_file: Path) -> str:
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        kind = config["peft_type"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"adapters: {config_file} is not the config of a PEFT adapter") from error
    if not isinstance(kind, str) or kind not in _MERGEABLE:
        raise InputError(f"adapters: {name}: expected an adapter of type {', '.join(_MERGEABLE)}, got {kind!r}")
    return kind
