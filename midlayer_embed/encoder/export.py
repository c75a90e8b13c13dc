"""Saves a MidLayerEncoder as a folder: written under a temporary name, checked in a fresh process, moved into place.

The fresh process cannot import this package: it loads the folder as any user will.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
from midlayer_embed.encoder.serve.plain_tokenizer import PROBES
from midlayer_embed.encoder.target import ExportFailed, check_target
from midlayer_embed.ground.atomic import atomic_folder
from midlayer_embed.ground.workers import absolute_python_path

# How far vectors may differ, relative to their size. In half precision, batches of other shapes round otherwise: by up
# to one epsilon of the dtype in models tried, where the layer below differs by 40 or more.
_TOLERANCE = 1e-5
_HALF_TOLERANCE_IN_EPSILONS = 8
# A transform magnifies what rounds otherwise in batches of other shapes; texts that are encoded alone round alike.
_SLACK_OF_A_TRANSFORM = 100

_LOAD = """
import json, sys
sys.modules["midlayer_embed"] = None
import numpy as np
from sentence_transformers import SentenceTransformer
folder, probes, vectors, device = sys.argv[1:]
model = SentenceTransformer(folder, device=device)
found = [model.encode(json.loads(probes), batch_size=size).astype("float32") for size in (1, 32)]
np.save(vectors, np.stack(found), allow_pickle=False)
"""


def export_encoder(
    encoder: MidLayerEncoder,
    folder: str | Path,
    *,
    overwrite: bool = False,
    complete: Callable[[Path], object] | None = None,
) -> float:
    """Save an encoder and check that plain sentence-transformers returns the same vectors.

    Args:
        encoder: The encoder to save.
        folder: Target folder; it appears complete, or not at all.
        overwrite: Replace the contents of a folder that is not empty.
        complete: Function that adds files to the folder, such as ONNX graphs, before it appears.

    Returns:
        The largest difference between the vectors before and after saving, over some probe texts.

    Raises:
        InputError: (a ValueError) the folder is not empty and `overwrite` is not set, or the encoder cannot be saved.
        ExportFailed: (a RuntimeError) plain sentence-transformers cannot load the folder or returns other vectors;
            nothing is saved.

    Example:
        >>> export_encoder(MidLayerEncoder("starter", 12), "smollm2-layer-12")           # doctest: +SKIP
        0.0
    """
    checkpoint = encoder.checkpoint
    needed = (checkpoint.root, *(adapter.name for adapter in checkpoint.adapters))
    target = check_target(folder, overwrite=overwrite, needed=needed)
    with atomic_folder(target, replace=True) as partial:
        encoder.save_pretrained(str(partial))
        difference = _difference_after_loading(encoder, partial)
        if complete is not None:
            complete(partial)
    return difference


def _difference_after_loading(encoder: MidLayerEncoder, folder: Path) -> float:
    # One text at a time, and in a batch, where short texts are padded.
    expected = np.stack([encoder.encode(list(PROBES), batch_size=size).astype(np.float32) for size in (1, 32)])
    with tempfile.TemporaryDirectory() as scratch:
        vectors = Path(scratch) / "vectors.npy"
        command = [sys.executable, "-c", _LOAD, str(folder), json.dumps(PROBES), str(vectors), str(encoder.device)]
        # The folder must be sufficient: nothing may come from the Hub.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": absolute_python_path()}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=scratch)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportFailed(f"export: plain SentenceTransformer cannot load the saved folder: {last}")
        found = np.load(vectors, allow_pickle=False)
    if not np.isfinite(expected).all():
        name = str(_roundest(encoder)).removeprefix("torch.")
        raise ExportFailed(f"export: the vectors are not finite in {name}; expected a dtype that holds them (--dtype)")
    difference = float(np.abs(found - expected).max())
    slack = 1 if encoder.transform is None else _SLACK_OF_A_TRANSFORM
    alone, together = (_are_same(found[i], expected[i], _roundest(encoder), (1, slack)[i]) for i in (0, 1))
    if not (alone and together):
        raise ExportFailed(f"export: plain SentenceTransformer returns vectors that differ by up to {difference:.2g}")
    return difference


def _roundest(encoder: MidLayerEncoder) -> torch.dtype:
    """The dtype of the weights that rounds most; transformers keeps some in float32."""
    return max((weight.dtype for weight in encoder.parameters()), key=lambda dtype: torch.finfo(dtype).eps)


def _are_same(found: np.ndarray, expected: np.ndarray, dtype: torch.dtype, slack: float = 1) -> bool:
    """Whether vectors (n, dim) are the same but for the rounding of a dtype.

    The largest difference alone would hide another layer where a few huge dimensions set the scale, as in raw states of
    decoders; so each text's median difference counts as well.
    """
    tolerance = slack * max(_TOLERANCE, _HALF_TOLERANCE_IN_EPSILONS * torch.finfo(dtype).eps)
    differences, sizes = np.abs(found - expected), np.abs(expected)
    largest = differences.max() <= tolerance * max(1.0, sizes.max())
    typical = (np.median(differences, axis=1) <= tolerance * max(np.median(sizes), tolerance)).all()
    return bool(largest and typical)
