"""Loads base models: reads and checks the weights, merges adapters, sets the attention. Every encoder loads them here.

Tokenizers and forward passes are elsewhere.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.models.adapters import adapter_configs, merge_adapter
from midlayer_embed.models.bidirectional import ask_for_bidirectional, prove_bidirectional
from midlayer_embed.models.checkpoint import LOADING_ERRORS, Checkpoint
from midlayer_embed.models.files import method_of_quantization
from midlayer_embed.models.kernels import log_kernels
from midlayer_embed.options import wrong_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# Marks an error that our code raised while a library was calling it.
_OURS = "_raised_by_midlayer_embed"
# Weights that no state depends on: heads above the last block (the poolers of BERT and SigLIP), and the token
# that stands for masked patches in training.
_HEADS = ("pooler.", "head.")
_MASK_TOKEN = "embeddings.mask_token"


def resolve_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A floating torch dtype by name.

    Raises:
        InputError: (a ValueError) the dtype does not exist or is not a floating one of 16 bits or more.

    Example:
        >>> resolve_dtype("bfloat16")
        torch.bfloat16
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise wrong_dtype(dtype)
    return found


def dtype_name(dtype: str | torch.dtype) -> str:
    """The name of a floating dtype, however it is given.

    Raises:
        InputError: (a ValueError) as `resolve_dtype`.

    Example:
        >>> dtype_name(torch.bfloat16), dtype_name("half")
        ('bfloat16', 'float16')
    """
    return str(resolve_dtype(dtype)).removeprefix("torch.")


def resolve_device(device: str | torch.device | None) -> torch.device:
    """A torch device by name; None: CUDA, MPS or CPU, the fastest that is available.

    Raises:
        InputError: (a ValueError) the device does not exist or is not available.
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


def load_base_model(
    checkpoint: Checkpoint, config: PretrainedConfig, dtype: torch.dtype, device: torch.device
) -> "PreTrainedModel":
    """Load the base model of a checkpoint, all of it or its first blocks, with the checkpoint's changes applied.

    Adapters are merged in float32 at least, whatever the dtype, so that sums are rounded only once.

    Args:
        checkpoint: From `find_checkpoint`.
        config: The checkpoint's own config, or one with fewer blocks. It becomes the model's.
        dtype: dtype of the weights.
        device: Device that the model is moved to once its weights are checked.

    Returns:
        The model in eval mode, on the device.

    Raises:
        InputError: (a ValueError) weights that are missing, in an unsafe format, or do not fit the architecture; an
            adapter that does not fit; attention that cannot be made bidirectional; a device that cannot run it.
    """
    configs = adapter_configs(checkpoint.adapters)
    original = deepcopy(config)
    if checkpoint.bidirectional:
        ask_for_bidirectional(config)
    if getattr(config, "chunk_size_feed_forward", 0):
        config.chunk_size_feed_forward = 0  # saves memory in training, and takes only lengths that chunks divide
    n_blocks = int(config.get_text_config().num_hidden_layers)
    exact = torch.promote_types(dtype, torch.float32) if configs else dtype
    is_quantised = method_of_quantization(config) is not None
    if is_quantised:  # no device is to compute with the quantised weights
        config.quantization_config = {**config.quantization_config, "dequantize": True}
    # transformers' models take seconds to import, and finished work needs none
    module, _, name = (checkpoint.family.model_class or "AutoModel").rpartition(".")
    model_class = getattr(import_module(module or "transformers"), name)
    with quiet_transformers(), loading_errors(checkpoint):
        model, report = model_class.from_pretrained(
            checkpoint.location,
            config=config,
            dtype=exact,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported by _check_weights, with names
            key_mapping={f"^{re.escape(checkpoint.family.weights)}": ""} if checkpoint.family.weights else None,
            **checkpoint.loading_kwargs(),
        )
    log_kernels(config.model_type, device)
    _check_weights(checkpoint, model, report, n_blocks)
    for adapter, adapter_config in zip(checkpoint.adapters, configs, strict=True):
        merge_adapter(model, adapter, adapter_config, family=checkpoint.family, n_blocks=checkpoint.n_stored_blocks)
    if is_quantised:  # or transformers would quantise the weights again when they are saved
        model._weight_conversions = None
    if exact != dtype:
        model = _rounded(model, dtype)
    try:
        model = model.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise InputError(f"device: {checkpoint.location} does not fit into the memory of {device}") from error
    if checkpoint.bidirectional and n_blocks > 0:  # without a block there is no attention to test
        prove_bidirectional(model, original)
    loaded: PreTrainedModel = model
    return loaded


def _rounded(model: "PreTrainedModel", dtype: torch.dtype) -> "PreTrainedModel":
    """The model in a lower precision, except what transformers keeps in a higher one, such as rotary frequencies."""
    with quiet_transformers():
        rounded: PreTrainedModel = type(model).from_pretrained(
            None, config=model.config, state_dict=model.state_dict(), dtype=dtype
        )
    rounded.name_or_path = model.name_or_path
    return rounded


@contextmanager
def loading_errors(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn errors of a library that loads a checkpoint into an InputError.

    Wrap only the library's call: an error in our own code is a bug and must stay a traceback. Code of ours that the
    library calls goes into `own_code`.
    """
    try:
        yield
    except LOADING_ERRORS as error:
        if isinstance(error, InputError) or getattr(error, _OURS, False):
            raise
        logger.debug("%s cannot be loaded", checkpoint.location, exc_info=error)
        where = checkpoint.location
        if Path(where).is_dir():
            raise InputError(f"model: the folder {where} cannot be loaded: {first_line(error)}") from error
        if isinstance(error, OSError) and "safetensors" in str(error):  # its advice is to read other formats
            raise InputError(
                f"model: {where!r} has no weights as safetensors (model.safetensors); other formats can run code when "
                "they are read, so only safetensors are read"
            ) from error
        raise InputError(f"model: {where!r} cannot be loaded: {first_line(error)}") from error


@contextmanager
def own_code() -> Iterator[None]:
    """Within `loading_errors`, let the errors of our own code through as they are."""
    try:
        yield
    except Exception as error:
        setattr(error, _OURS, True)
        raise


def _parent_of(key: str) -> str:
    return key.rpartition(".")[0]


def _paths_to(path: str) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts) + 1)}


def _is_unused(key: str) -> bool:
    return key.startswith(_HEADS) or key.endswith(_MASK_TOKEN)


def _check_weights(
    checkpoint: Checkpoint, model: "PreTrainedModel", report: Mapping[str, Iterable[Any]], n_blocks: int
) -> None:
    """Reject a model with weights that are missing from the checkpoint, or a checkpoint with weights that it ignores.

    The weights of higher blocks and of heads may be ignored.

    Args:
        checkpoint: The checkpoint.
        model: The base model of `n_blocks` blocks that was loaded from it.
        report: The loading info of `from_pretrained(..., output_loading_info=True)`.
        n_blocks: Number of blocks that were loaded.

    Raises:
        InputError: (a ValueError) the message names a weight.
    """
    # What is not used may be missing, anything else would be random. BEiT's pooler holds its final norm.
    norm = f"{checkpoint.family.final_norm}."
    missing = sorted(key for key in report["missing_keys"] if key.startswith(norm) or not _is_unused(key))
    if missing:
        raise InputError(f"model: {checkpoint.location} lacks weights that its config asks for, such as {missing[0]}")
    mismatched = sorted((name, tuple(found), tuple(expected)) for name, found, expected in report["mismatched_keys"])
    if mismatched:
        name, found, expected = mismatched[0]
        raise InputError(
            f"model: {checkpoint.location} holds weights of other shapes than its config asks for, such as {name}: "
            f"{found} instead of {expected}"
        )
    modules = dict(model.named_modules())
    kept = {f"{checkpoint.family.blocks}.{number}" for number in range(n_blocks)}

    def is_inside(key: str) -> bool:
        # a model that was saved with a head holds its base model under a prefix
        names = (key, key.removeprefix(f"{model.base_model_prefix}."))
        return any(parent in modules or _paths_to(parent) & kept for parent in map(_parent_of, names) if parent)

    unused = sorted(key for key in report["unexpected_keys"] if is_inside(key) and not key.endswith(_MASK_TOKEN))
    if unused:
        raise InputError(
            f"model: {checkpoint.location} holds weights inside the model that its config does not ask for, "
            f"such as {unused[0]}"
        )
