"""Code that loads the encoder of a layer: lines of Python and a shell command."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from midlayer_embed.cli.parser import model_arguments


def encoder_snippet(model: str, layer: int, settings: Mapping[str, Any]) -> str:
    """Python code that creates the encoder.

    Args:
        model: Hub id, folder or "starter".
        layer: Layer index.
        settings: Keyword arguments of `MidLayerEncoder` that differ from its defaults.

    Example:
        >>> print(encoder_snippet("org/model", 7, {"final_norm": False}))
        from midlayer_embed import MidLayerEncoder
        <BLANKLINE>
        encoder = MidLayerEncoder("org/model", layer=7, final_norm=False)
    """
    arguments = [_literal(model), f"layer={layer}", *(f"{key}={_literal(value)}" for key, value in settings.items())]
    return f"from midlayer_embed import MidLayerEncoder\n\nencoder = MidLayerEncoder({', '.join(arguments)})"


def _literal(value: Any) -> str:
    """Python literal with double-quoted strings."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)


def export_command(model: str, folder: str, layer: int, settings: Mapping[str, Any]) -> str:
    """Command that saves the encoder to a folder. Takes the arguments of `encoder_snippet`, and the folder.

    Example:
        >>> export_command("org/model", "model-layer-7", 7, {"final_norm": False})
        'midlayer-embed export org/model model-layer-7 --layer 7 --raw'
    """
    arguments = [model, folder, "--layer", str(layer), *model_arguments(settings)]
    # Keep it on one line even if the name of a folder contains a line break.
    return " ".join(shlex.join(["midlayer-embed", "export", *arguments]).split())


def folder_name(model: str, layer: int) -> str:
    """Suggested folder name for a saved encoder.

    Example:
        >>> folder_name("org/Model-410m", 7)
        'model-410m-layer-7'
    """
    name = model.rpartition("/")[2].lower().lstrip("-")  # a command would take a leading dash for an option
    return f"{name or 'model'}-layer-{layer}"
