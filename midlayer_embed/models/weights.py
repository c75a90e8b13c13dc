"""A base model with its weights: read, checked, adapters merged, attention set. One way, for every encoder.

Which model, and how many of its blocks, others decide; tokenizers and forward passes are elsewhere.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.models.adapters import adapter_configs, merge_adapter
from midlayer_embed.models.bidirectional import ask_for_bidirectional, prove_bidirectional
from midlayer_embed.models.kernels import log_kernels

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from midlayer_embed.models.backbone import Checkpoint


# What transformers and the code of models fail with where a folder is not what it should be.
LOADING_ERRORS = (
    *(OSError, ValueError, TypeError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError),
    *(ImportError, SafetensorError, StrictDataclassError),
)


def load_base_model(
    checkpoint: "Checkpoint", config: PretrainedConfig, dtype: torch.dtype, device: torch.device
) -> "PreTrainedModel":
    """Loads the base model of a checkpoint, all of it or its first blocks, as the checkpoint is to be used.

    Adapters are merged in float32 at least, whatever the dtype: what is added up is rounded once.

    Args:
        checkpoint: From `find_checkpoint`.
        config: The checkpoint's own, or one with fewer blocks. It becomes the model's.
        dtype: Of the weights.
        device: Where the model goes, once its weights are what they should be.

    Returns:
        The model in eval mode, on the device.

    Raises:
        InputError: (a ValueError) weights that are missing, in an unsafe format, or do not fit the architecture; an
            adapter that does not fit; attention that cannot be made bidirectional; a device that cannot run it.
    """
    import transformers  # the models take seconds to import, and what is finished needs none

    configs = adapter_configs(checkpoint.adapters)
    original = deepcopy(config)
    if checkpoint.bidirectional:
        ask_for_bidirectional(config)
    n_blocks = int(config.get_text_config().num_hidden_layers)
    exact = torch.promote_types(dtype, torch.float32) if configs else dtype
    model_class = getattr(transformers, checkpoint.family.model_class or "AutoModel")
    with quiet_transformers(), loading_errors(checkpoint):
        model, report = model_class.from_pretrained(
            checkpoint.location,
            config=config,
            dtype=exact,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # of which we tell ourselves, by name
            **checkpoint.loading_kwargs(),
        )
    log_kernels(config.model_type, device)
    _check_weights(checkpoint, model, report, n_blocks)
    for adapter, adapter_config in zip(checkpoint.adapters, configs, strict=True):
        merge_adapter(model, adapter, adapter_config, family=checkpoint.family, n_blocks=checkpoint.n_blocks)
    if exact != dtype:
        model = _rounded(model, dtype)
    model = model.to(device).eval()
    if checkpoint.bidirectional and n_blocks > 0:  # where nothing attends, nothing shows
        prove_bidirectional(model, original)
    loaded: PreTrainedModel = model
    return loaded


def _rounded(model: "PreTrainedModel", dtype: torch.dtype) -> "PreTrainedModel":
    """The model in a lower precision, but for what transformers keeps in a higher one, such as rotary frequencies."""
    with quiet_transformers():
        rounded: PreTrainedModel = type(model).from_pretrained(
            None, config=model.config, state_dict=model.state_dict(), dtype=dtype
        )
    rounded.name_or_path = model.name_or_path
    return rounded


@contextmanager
def loading_errors(checkpoint: "Checkpoint") -> Iterator[None]:
    """What goes wrong inside while a checkpoint is loaded becomes an InputError that says so."""
    try:
        yield
    except InputError:
        raise
    except LOADING_ERRORS as error:
        where = checkpoint.location
        if Path(where).is_dir():
            raise InputError(f"model: the folder {where} cannot be loaded: {first_line(error)}") from error
        if isinstance(error, OSError) and "safetensors" in str(error):  # and whose advice is to read others
            raise InputError(
                f"model: {where!r} has no weights as safetensors (model.safetensors); other formats can run code when "
                "they are read, so they are not"
            ) from error
        raise InputError(f"model: {where!r} cannot be loaded: {first_line(error)}") from error


def _check_weights(
    checkpoint: "Checkpoint", model: "PreTrainedModel", report: Mapping[str, Iterable[Any]], n_blocks: int
) -> None:
    """Refuses a model some of whose weights are made up, or some of whose checkpoint's weights belong to it unused.

    Weights of blocks above and of heads are meant to be unused.

    Args:
        checkpoint: What was loaded.
        model: The base model, of `n_blocks` blocks.
        report: As `from_pretrained(..., output_loading_info=True)` gives it.
        n_blocks: Blocks that were loaded.

    Raises:
        InputError: (a ValueError) the message names a weight.
    """
    # Heads above the last block (BERT's pooler) play no part here; anything else that is missing would be random.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
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
        # a model that was saved with a head has its base model under a name
        parents = key.removeprefix(f"{model.base_model_prefix}.").split(".")[:-1]
        paths = {".".join(parents[:length]) for length in range(1, len(parents) + 1)}
        return bool(parents) and (".".join(parents) in modules or not paths.isdisjoint(kept))

    unused = sorted(filter(is_inside, report["unexpected_keys"]))
    if unused:
        raise InputError(
            f"model: {checkpoint.location} holds weights inside the model that its config does not ask for, "
            f"such as {unused[0]}"
        )
