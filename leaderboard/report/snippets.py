"""Code that loads the encoder of a layer: lines of Python and a shell command."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from leaderboard.analysis.variants import CORPUS, TASK
from leaderboard.models.origin import Origin
from midlayer_embed.cli.parser import model_arguments

_TRANSFORM = "transform"
_TEXTS = "a list of unlabelled texts like those that you will encode"


def layer_snippet(origin: Origin, layer: int, fitted_on: str | None = None) -> str:
    """Python code that loads a layer of a model of texts or of images.

    Args:
        origin: The model.
        layer: Layer index.
        fitted_on: What the transform was fitted on for the scores, as in the tables.
    """
    snippet = images_snippet if origin.modality == "image" else encoder_snippet
    return snippet(origin.loaded_from, layer, origin.settings, fitted_on)


def images_snippet(model: str, layer: int, settings: Mapping[str, Any], fitted_on: str | None = None) -> str:
    """As `encoder_snippet`, for an image encoder.

    Example:
        >>> print(images_snippet("org/vit", 7, {"pooling_mode": "cls"}))
        from midlayer_embed import ImageLayerwiseEncoder
        <BLANKLINE>
        encoder = ImageLayerwiseEncoder("org/vit", pooling_mode="cls")
        vectors = encoder.encode(images, layers=[7])[:, 0]
        >>> print(images_snippet("org/vit", 7, {"transform": "whiten:10"}, "train").splitlines()[-1])
        vectors = encoder.fit_transform(others, "whiten:10", layers=[7])(encoder.encode(images, layers=[7]))[:, 0]
    """
    keywords = {key: value for key, value in settings.items() if key != _TRANSFORM}
    arguments = [_literal(model), *(f"{key}={_literal(value)}" for key, value in keywords.items())]
    vectors, comment = f"encoder.encode(images, layers=[{layer}])", ""
    if _TRANSFORM in settings:
        comment = f"# others: a list of unlabelled images like yours. For these scores: {said_of_fitted(fitted_on)}.\n"
        vectors = f"encoder.fit_transform(others, {_literal(settings[_TRANSFORM])}, layers=[{layer}])({vectors})"
    call = f"encoder = ImageLayerwiseEncoder({', '.join(arguments)})"
    return f"from midlayer_embed import ImageLayerwiseEncoder\n\n{comment}{call}\nvectors = {vectors}[:, 0]"


def encoder_snippet(model: str, layer: int, settings: Mapping[str, Any], fitted_on: str | None = None) -> str:
    """Python code that creates the encoder.

    Args:
        model: Hub id, folder or "starter".
        layer: Layer index.
        settings: Keyword arguments of `MidLayerEncoder` that differ from its defaults.
        fitted_on: What the transform was fitted on for the scores, as in the tables.

    Example:
        >>> print(encoder_snippet("org/model", 7, {"final_norm": False}))
        from midlayer_embed import MidLayerEncoder
        <BLANKLINE>
        encoder = MidLayerEncoder("org/model", layer=7, final_norm=False)
        >>> print(encoder_snippet("org/model", 7, {"transform": "whiten:10"}, "train").splitlines()[2])
        # texts: a list of unlabelled texts like those that you will encode. For these scores: the task's other split.
    """
    keywords = {"layer": layer, **settings}
    arguments = [_literal(model), *(f"{key}={_literal(value)}" for key, value in keywords.items())]
    comment = ""
    if _TRANSFORM in settings:
        arguments.append("transform_texts=texts")
        comment = f"# texts: {_TEXTS}. For these scores: {said_of_fitted(fitted_on)}.\n"
    call = f"encoder = MidLayerEncoder({', '.join(arguments)})"
    return f"from midlayer_embed import MidLayerEncoder\n\n{comment}{call}"


def said_of_fitted(fitted_on: str | None) -> str:
    """What a transform was fitted on, in words.

    Example:
        >>> said_of_fitted("train"), said_of_fitted("corpus:wiki.txt")
        ("the task's other split", 'the corpus wiki.txt')
    """
    corpus = (fitted_on or "").removeprefix(CORPUS)
    known = {"train": "the task's other split", TASK: "the evaluated texts themselves (transductive)", None: "unknown"}
    return known.get(fitted_on) or f"the corpus {' '.join(corpus.split())}"


def _literal(value: Any) -> str:
    """Python literal with double-quoted strings."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)


def encode_command(model: str, layer: int, settings: Mapping[str, Any]) -> str:
    """Command that embeds a file of texts. Takes the arguments of `encoder_snippet`.

    Example:
        >>> encode_command("org/model", 7, {"site": "mlp_out"})
        'midlayer-embed encode org/model --layer 7 --site mlp_out --input texts.txt --output vectors.npy'
    """
    return _command("encode", [model], layer, settings, ["--input", "texts.txt", "--output", "vectors.npy"])


def images_command(model: str, layer: int, settings: Mapping[str, Any]) -> str:
    """Command that embeds a folder of images. Takes the arguments of `images_snippet`.

    Example:
        >>> images_command("org/vit", 7, {"pooling_mode": "cls"})
        'midlayer-embed encode org/vit --layer 7 --pooling cls --images photos --output vectors.npy'
    """
    kept = {key: value for key, value in settings.items() if key != _TRANSFORM}
    return _command("encode", [model], layer, kept, ["--images", "photos", "--output", "vectors.npy"])


def export_command(model: str, folder: str, layer: int, settings: Mapping[str, Any]) -> str:
    """Command that saves the encoder to a folder. Takes the arguments of `encoder_snippet`, and the folder.

    Example:
        >>> export_command("org/model", "model-layer-7", 7, {"final_norm": False})
        'midlayer-embed export org/model model-layer-7 --layer 7 --raw'
        >>> export_command("org/model", "m", 7, {"template": "echo", "transform": "whiten:10"})
        'midlayer-embed export org/model m --layer 7 --template echo --transform whiten:10 --transform-texts texts.txt'
    """
    return _command("export", [model, folder], layer, settings, [])


def _command(name: str, places: list[str], layer: int, settings: Mapping[str, Any], files: list[str]) -> str:
    arguments = [*places, "--layer", str(layer), *model_arguments(settings)]
    arguments += ["--transform-texts", "texts.txt"] if _TRANSFORM in settings else []
    return " ".join(map(_quoted, ["midlayer-embed", name, *arguments, *files]))


def _quoted(argument: str) -> str:
    """The argument for a shell, on one line even if a folder or a template contains a line break."""
    if argument.isprintable():
        return shlex.quote(argument)
    return "$'" + argument.encode("unicode_escape").decode().replace("'", "\\'") + "'"


def folder_name(model: str, layer: int) -> str:
    """Suggested folder name for a saved encoder.

    Example:
        >>> folder_name("org/Model-410m", 7)
        'model-410m-layer-7'
    """
    name = model.rpartition("/")[2].lower().lstrip("-")  # a command would take a leading dash for an option
    return f"{name or 'model'}-layer-{layer}"
