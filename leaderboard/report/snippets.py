"""How to get an encoder of a layer: the lines of Python and the command, for whoever reads of its scores."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from midlayer_embed.cli.parser import model_arguments


def encoder_snippet(model: str, layer: int, settings: Mapping[str, Any]) -> str:
    """Lines of Python that make the encoder.

    Args:
        model: A hub id, a folder or "starter".
        layer: The layer.
        settings: Keywords of `MidLayerEncoder`, those that are not its defaults.

    Example:
        >>> print(encoder_snippet("org/model", 7, {"final_norm": False}))
        from midlayer_embed import MidLayerEncoder
        <BLANKLINE>
        encoder = MidLayerEncoder("org/model", layer=7, final_norm=False)
    """
    arguments = [_literal(model), f"layer={layer}", *(f"{key}={_literal(value)}" for key, value in settings.items())]
    return f"from midlayer_embed import MidLayerEncoder\n\nencoder = MidLayerEncoder({', '.join(arguments)})"


def _literal(value: Any) -> str:
    """As people write it, strings in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)


def export_command(model: str, folder: str, layer: int, settings: Mapping[str, Any]) -> str:
    """The command that saves the encoder as a folder; arguments as in `encoder_snippet`.

    Example:
        >>> export_command("org/model", "model-layer-7", 7, {"final_norm": False})
        'midlayer-embed export org/model model-layer-7 --layer 7 --raw'
    """
    arguments = [model, folder, "--layer", str(layer), *model_arguments(settings)]
    # One line, whatever a folder is called: what is quoted may hold a line break.
    return " ".join(shlex.join(["midlayer-embed", "export", *arguments]).split())


def folder_name(model: str, layer: int) -> str:
    """What the folder of a saved encoder may be called.

    Example:
        >>> folder_name("org/Model-410m", 7)
        'model-410m-layer-7'
    """
    return f"{model.rpartition('/')[2].lower()}-layer-{layer}"
