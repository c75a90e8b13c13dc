"""PEFT adapters (LoRA and its kin): found without reading their weights, then merged into a base model, in order.

Merging itself is peft's. What is ours: an adapter fits whichever head its base model had when it was trained, one of
the whole model fits the first blocks, and no weight of an adapter is passed over in silence.
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
from midlayer_embed.ground.checksums import file_sha256
from midlayer_embed.models.families import Family

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLE_FILE = "adapter_model.bin"
# Kinds whose weights become part of the model's own, each tested against peft's own merge; and what is in the name of
# each of their weights, but for modules that are replaced as a whole.
_MERGEABLE = {"LORA": "lora_", "LOHA": "hada_", "LOKR": "lokr_", "IA3": "ia3_", "OFT": "oft_"}
# A name that no module has, so that it tells the weights of an adapter from the model's.
_NAME = "midlayer_embed_adapter"
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """Where an adapter's files are.

    Attributes:
        name: As the user named it: a folder or a hub id.
        kind: As peft calls it: "LORA", ...
        config_file: Its adapter_config.json.
        weights_file: Its adapter_model.safetensors.
        fingerprint: A hash of both files.
    """

    name: str
    kind: str
    config_file: Path
    weights_file: Path
    fingerprint: str

    @property
    def label(self) -> str:
        """What to call it elsewhere: the hub id, or the folder's own name."""
        return Path(self.name).resolve().name if Path(self.name).is_dir() else self.name


def find_adapters(adapters: Sequence[str | Path]) -> tuple[Adapter, ...]:
    """Finds adapters without reading their weights.

    Args:
        adapters: Folders or hub ids, in the order they are to be merged.

    Raises:
        InputError: (a ValueError) no such adapter, one that cannot be merged, weights that are no safetensors, or peft
            is not installed.
        InputTypeError: (a ValueError and a TypeError) not a list of folders or hub ids.

    Example:
        >>> find_adapters([])
        ()
    """
    if isinstance(adapters, (str, Path)) or not isinstance(adapters, Sequence):
        raise InputTypeError(f"adapters: expected a list of folders or hub ids, got {adapters!r}")
    for adapter in adapters:
        if not isinstance(adapter, (str, Path)) or not str(adapter):
            raise InputTypeError(f"adapters: expected folders or hub ids, got {adapter!r}")
    if adapters and find_spec("peft") is None:
        raise InputError("adapters: merging them needs the package peft; pip install 'midlayer-embed[peft]'")
    return tuple(_find_adapter(str(adapter)) for adapter in adapters)


def fingerprint_of(adapters: Sequence[Adapter]) -> str:
    """What tells one list of adapters from another, their order included: 12 hexadecimal digits."""
    return hashlib.sha256(" ".join(adapter.fingerprint for adapter in adapters).encode()).hexdigest()[:12]


def adapter_configs(adapters: Sequence[Adapter]) -> list["PeftConfig"]:
    """The adapters' configs as peft reads them.

    Raises:
        InputError: (a ValueError) peft cannot read one.
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
            config.megatron_config = None  # type: ignore[attr-defined]  # it would import a module that the file names
        configs.append(config)
    return configs


def merge_adapter(
    model: "PreTrainedModel", adapter: Adapter, config: "PeftConfig", *, family: Family, n_blocks: int
) -> None:
    """Merges an adapter's weights into those of a base model, in place. No peft module stays behind.

    Weights of blocks that are not loaded are left out, and so are those of a head, which no layer depends on (these
    are logged).

    Args:
        model: The base model; maybe its first blocks only. In float32, or the sums are rounded on the way.
        adapter: From `find_adapters`.
        config: From `adapter_configs`; used up.
        family: Where the model's blocks are.
        n_blocks: Blocks of the whole model, that is, of the adapter's.

    Raises:
        InputError: (a ValueError) a weight of the adapter has no place in the model, does not fit it, or is missing;
            the message names the adapter and the first such weight.
    """
    from peft import PeftModel, set_peft_model_state_dict

    model_type = model.config.model_type
    weights = _Weights(adapter, model, family, n_blocks)
    kept = weights.kept()
    if not kept:
        return
    root = model if not weights.head else _Headed(weights.head, model)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    mark = _MERGEABLE[adapter.kind]
    _fit_config(config, kept, mark)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what has no place and what is missing we tell ourselves
            wrapped = PeftModel(root, config, _NAME)
            loaded: Any = set_peft_model_state_dict(wrapped, weights.read(kept), adapter_name=_NAME)
    except (ValueError, RuntimeError, LookupError, AttributeError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"adapters: {adapter.name} does not fit this {model_type} model; its first weight is {kept[0]}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    without_place = sorted(loaded.unexpected_keys)
    if without_place:
        raise InputError(f"adapters: {adapter.name}: {without_place[0]} has no place in this {model_type} model")
    asked = (key.replace(f".{_NAME}", "") for key in loaded.missing_keys if _NAME in key.split(".") and mark in key)
    # Heads above the last block (BERT's pooler) play no part here, and not every model has one.
    missing = sorted(key for key in asked if not _inner_path(key, weights.head).startswith("pooler."))
    if missing:
        name = missing[0]
        raise InputError(f"adapters: {adapter.name} lacks weights that its {CONFIG_FILE} asks for, such as {name}")
    try:
        wrapped.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    except ValueError as error:  # weights that are not finite
        raise InputError(f"adapters: {adapter.name} cannot be merged: {first_line(error)}") from error
    for name, parameter in model.named_parameters():  # peft freezes what it wraps
        parameter.requires_grad_(name not in frozen)


class _Headed(nn.Module):
    """A base model under the name that a model with a head has it under.

    Adapters that were trained on such a model say in their configs, by names and patterns of names, what is whose.
    """

    def __init__(self, name: str, model: "PreTrainedModel") -> None:
        super().__init__()
        self.config = model.config  # these two are what peft looks at in a model of transformers
        self.base_model_prefix = name
        self.add_module(name, model)


class _Weights:
    """The weights of an adapter, seen from the model they are to go into.

    Attributes:
        head: What the model with a head that the adapter was trained on calls its base model; "" without a head.
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

    def kept(self) -> list[str]:
        """The names of the weights that belong to what is loaded, in order."""
        kept: list[str] = []
        aside: list[str] = []
        for key in self._keys:
            if self._is_above(key):
                continue
            (kept if self._is_inside(key, self.head) else aside).append(key)
        # A head, or the decoder of an encoder-decoder, is known to play no part in any layer; nothing else is.
        if aside and not self.head and self._family.model_class is None:
            raise InputError(
                f"adapters: {self._adapter.name}: {aside[0]} has no place in this {self._model.config.model_type} model"
            )
        if aside:
            logger.info(
                "adapter %s: %d weights outside the base model, which no layer depends on, are left out, such as %s",
                self._adapter.name,
                len(aside),
                aside[0],
            )
        return kept

    def read(self, keys: list[str]) -> dict[str, torch.Tensor]:
        """The weights of these names, floating ones in float32 at least."""
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
        """Whether a weight is the base model's, by the first name of its path."""
        if not key.startswith(f"{_PEFT_PREFIX}{head}." if head else _PEFT_PREFIX):
            return False
        return _inner_path(key, head).split(".")[0] in dict(self._model.named_children())

    def _is_above(self, key: str) -> bool:
        """Whether a weight is that of a block of the whole model that is not loaded."""
        if self._family.calls is not None:  # blocks that share weights are all there
            return False
        found = re.match(re.escape(self._family.blocks) + r"\.(\d+)\.", _inner_path(key, self.head))
        if found is None:
            return False
        blocks = self._model.get_submodule(self._family.blocks)
        return len(blocks) <= int(found[1]) < self._n_blocks  # type: ignore[arg-type]


def _inner_path(key: str, head: str) -> str:
    """The path of a weight from the base model."""
    return key.removeprefix(_PEFT_PREFIX).removeprefix(f"{head}." if head else "")


def _fit_config(config: Any, kept: list[str], mark: str) -> None:
    """Makes a config ask for no more than there is: peft takes a module that is not found for a mistake."""
    from peft.utils.constants import DUMMY_TARGET_MODULES

    whole = getattr(config, "modules_to_save", None)  # replaced as they are: embeddings, a head
    if whole:
        config.modules_to_save = [name for name in whole if any(f".{name}." in key for key in kept)] or None
    if not any(mark in key for key in kept):  # all of them in blocks above
        config.target_modules = DUMMY_TARGET_MODULES


def _find_adapter(name: str) -> Adapter:
    if Path(name).is_dir():
        config_file, weights_file = Path(name) / CONFIG_FILE, Path(name) / _WEIGHTS_FILE
        if not config_file.is_file():
            raise InputError(f"adapters: the folder {name} holds no {CONFIG_FILE}, so it is no PEFT adapter")
        if not weights_file.is_file() and (Path(name) / _PICKLE_FILE).is_file():
            raise InputError(
                f"adapters: the folder {name} holds {_PICKLE_FILE} and no {_WEIGHTS_FILE}; a pickle can run code when "
                "it is read, so only safetensors are: have whoever trusts it convert it"
            )
        if not weights_file.is_file():
            raise InputError(f"adapters: the folder {name} holds no {_WEIGHTS_FILE}")
    elif Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(f"adapters: {name!r} is neither a folder nor a hub id such as 'org/name'")
    else:
        config_file, weights_file = (_from_hub(name, file) for file in (CONFIG_FILE, _WEIGHTS_FILE))
    kind = _kind_of(name, config_file)
    digest = hashlib.sha256(f"{file_sha256(config_file)} {file_sha256(weights_file)}".encode())
    return Adapter(name, kind, config_file, weights_file, digest.hexdigest())


def _from_hub(name: str, file: str) -> Path:
    try:
        return Path(hf_hub_download(name, file))
    except (OSError, HFValidationError) as error:
        raise InputError(
            f"adapters: {name!r} is neither a folder nor a repository with {file} in it that the hub has or the cache "
            "holds (other formats than safetensors are not read)"
        ) from error


def _kind_of(name: str, config_file: Path) -> str:
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        kind = config["peft_type"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"adapters: {config_file} is no config of a PEFT adapter") from error
    if not isinstance(kind, str) or kind not in _MERGEABLE:
        raise InputError(
            f"adapters: {name} is of the kind {kind!r}; those that can be merged are {', '.join(_MERGEABLE)}"
        )
    return kind
