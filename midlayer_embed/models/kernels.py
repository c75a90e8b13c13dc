"""Reports whether Mamba runs in CUDA kernels or in transformers' own implementation.

transformers chooses when it imports the architecture: it uses the kernels if their packages can be imported, whatever
the device. (Kernels from the Hub are opt-in, and this package does not opt in.)
"""

import logging
import sys

import torch

from midlayer_embed.errors import InputError

logger = logging.getLogger(__name__)

# Modules of the kernels of each architecture, with the names of their packages.
_SCAN = {"mamba_ssm.ops.selective_scan_interface": "mamba-ssm", "causal_conv1d": "causal-conv1d"}
_KERNELS = {
    "falcon_mamba": _SCAN,
    "mamba": _SCAN,
    "mamba2": {"mamba_ssm.ops.triton.ssd_combined": "mamba-ssm", "causal_conv1d": "causal-conv1d"},
}


def log_kernels(model_type: str, device: torch.device) -> None:
    """Log which implementation a Mamba model uses, in one line. Call this after transformers imported the architecture.

    Args:
        model_type: `config.model_type` of the model. Other architectures are ignored.
        device: Device of the model.

    Raises:
        InputError: (a ValueError) transformers uses CUDA kernels, and the device is not a CUDA device.

    Example:
        >>> log_kernels("llama", torch.device("cpu"))
    """
    if model_type not in _KERNELS:
        return
    used = [package for module, package in _KERNELS[model_type].items() if module in sys.modules]
    if used and device.type != "cuda":
        raise InputError(
            f"device: expected cuda for this {model_type} model, got {device}: transformers uses the kernels of "
            f"{' and '.join(used)} because they are installed, and they need CUDA; use cuda or uninstall them"
        )
    if len(used) == len(_KERNELS[model_type]):
        logger.info("%s runs in the CUDA kernels of %s", model_type, " and ".join(used))
    elif used:
        logger.info(
            "%s runs partly in the CUDA kernels of %s, partly in transformers' own implementation; "
            "midlayer-embed[mamba] installs all kernels",
            model_type,
            used[0],
        )
    else:
        logger.info(
            "%s runs in transformers' own implementation; with CUDA, the kernels of midlayer-embed[mamba] are faster",
            model_type,
        )
