"""What can be wrong with a wish for ONNX graphs, told before anything slow is imported."""

from pathlib import Path

from midlayer_embed.encoder.onnx.names import FOLDER, MODEL_FILE, QUANTIZED_FILE
from midlayer_embed.encoder.serve.folder import SavedFolder
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.paths import user_path

# By these torch writes a graph, and onnxruntime quantises and runs it.
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages() -> None:
    """Reject graphs where a package is missing that writes them.

    Raises:
        InputError: (a ValueError) the message has the command that installs it.
    """
    for package in _PACKAGES:
        check_installed(package, "onnx", "onnx")


def check_saved_folder(folder: str | Path, *, overwrite: bool) -> Path:
    """The path of a saved folder that gets graphs.

    Args:
        folder: The folder.
        overwrite: Whether graphs that are in it may be replaced.

    Raises:
        InputError: (a ValueError) it is no sentence-transformers folder, or holds graphs and `overwrite` is not set.
    """
    path = user_path(folder, "folder")
    if not path.is_dir():
        raise InputError(f"folder: there is no folder {str(folder)!r} that was saved before; to save a layer, name OUT")
    SavedFolder.read(path)
    for name in (MODEL_FILE, QUANTIZED_FILE):
        if (path / FOLDER / name).exists() and not overwrite:
            raise InputError(f"onnx: {folder}/{FOLDER}/{name} is there; overwrite (--overwrite) replaces the graphs")
    return path
