"""Which implementation Mamba's scan and convolution run in: the CUDA kernels of their packages, or transformers' own.

transformers decides once, as it imports the architecture: it takes the kernels wherever their packages can be imported,
whatever the device. (Kernels from the hub it takes only when told to, and nobody tells it here.) This says which it is.
"""

import logging
import sys

import torch

from midlayer_embed.errors import InputError

logger = logging.getLogger(__name__)

# For each architecture, the modules that its kernels come from, with the names of their packages.
_SCAN = {"mamba_ssm.ops.selective_scan_interface": "mamba-ssm", "causal_conv1d": "causal-conv1d"}
_KERNELS = {
    "falcon_mamba": _SCAN,
    "mamba": _SCAN,
    "mamba2": {"mamba_ssm.ops.triton.ssd_combined": "mamba-ssm", "causal_conv1d": "causal-conv1d"},
}


def log_kernels(model_type: str, device: torch.device) -> None:
    """Logs, for a Mamba, which implementation runs; one line. Call it once transformers has the architecture imported.

    Args:
        model_type: As `config.model_type` spells it. Any but a Mamba's is passed over.
        device: Where the model is to run.

    Raises:
        InputError: (a ValueError) transformers will use CUDA kernels, and the device is none of CUDA's.

    Example:
        >>> log_kernels("llama", torch.device("cpu"))
    """
    if model_type not in _KERNELS:
        return
    used = [package for module, package in _KERNELS[model_type].items() if module in sys.modules]
    if used and device.type != "cuda":
        raise InputError(
            f"device: {device} cannot run this {model_type} model here: transformers uses the kernels of "
            f"{' and '.join(used)} wherever they are installed, and they need CUDA; choose cuda, or uninstall them"
        )
    if len(used) == len(_KERNELS[model_type]):
        logger.info("%s runs in the CUDA kernels of %s", model_type, " and ".join(used))
    elif used:
        logger.info(
            "%s runs in the CUDA kernels of %s and, for the rest, in transformers' own implementation; all kernels are "
            "in midlayer-embed[mamba]",
            model_type,
            used[0],
        )
    else:
        logger.info(
            "%s runs in transformers' own implementation; with CUDA, the kernels of midlayer-embed[mamba] are faster",
            model_type,
        )
