"""What can be wrong with the arguments of a command, told before the slow imports: torch, transformers, mteb.

Functions that do the work check the same, for those who call them from Python.
"""

import argparse
from collections.abc import Iterable

from midlayer_embed.cli.glance import n_blocks_at_a_glance
from midlayer_embed.cli.images import check_image_options
from midlayer_embed.cli.parser import model_options
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.layers import layer_number
from midlayer_embed.models.starter import check_location
from midlayer_embed.options import fold
from midlayer_embed.selection.criteria import PROXY
from midlayer_embed.texts.dataset_arguments import check_dataset
from midlayer_embed.texts.names import DEFAULT_SPLIT


def check_model(arguments: argparse.Namespace, layers: Iterable[int | float] = ()) -> None:
    """Check MODEL and its options, and layers of it, as far as they can be told at a glance.

    Args:
        arguments: Those of a command with the options of `add_model_options`.
        layers: Layers and depths.

    Raises:
        InputError: (a ValueError) the message names what is wrong.
    """
    source, recipe = fold(model_options(arguments))
    check_location(arguments.model, source.gguf_file)
    check_layers(layers, n_blocks_at_a_glance(arguments.model, source.gguf_file, source.revision), recipe.site)


def check_layers(layers: Iterable[int | float], n_blocks: int | None, site: str) -> None:
    """Check layers against the number of blocks and a site; if the number is not known, only depths.

    Raises:
        InputError: (a ValueError) a layer is out of range, or lacks the site.
    """
    for layer in layers:
        if n_blocks is not None:
            layer_number(layer, n_blocks, site)
        elif isinstance(layer, float):
            layer_number(layer, 1)


def check_texts(arguments: argparse.Namespace) -> None:
    """Check the options of `add_text_options`, and find the file of texts, or the files of a dataset.

    Raises:
        InputError: (a ValueError) the message names what is wrong.
    """
    check_source(arguments)
    check_image_options(arguments)
    from midlayer_embed.texts.files import describe, errors_about, find_texts
    from midlayer_embed.texts.views import check_rates

    check_optional_int("max_texts", arguments.max_texts, 1)
    check_optional_int("min_tokens", arguments.min_tokens, 1)
    if "rates" in arguments:
        check_rates(arguments.rates)
    if arguments.texts is not None:
        with errors_about("texts", "column"):
            file = find_texts(arguments.texts, arguments.column)
        if file.path.stat().st_size == 0:
            raise InputError(f"texts: {describe(file, 0)}")
    if arguments.dataset is not None:
        of_dataset = {name: getattr(arguments, name) for name in ("config", "split", "column", "data_dir")}
        check_dataset(arguments.dataset, **of_dataset)


def check_source(arguments: argparse.Namespace, criterion: str | None = None) -> None:
    """Reject options of `add_text_options` that say how to read a source of texts which was not given.

    Args:
        arguments: Those of a command with these options.
        criterion: The criterion of a command that has one: "proxy" reads its tasks from --data-dir.

    Raises:
        InputError: (a ValueError) the message names the option.
    """
    if arguments.dataset is not None:
        return
    split = arguments.split if arguments.split != DEFAULT_SPLIT else None
    for name, value in {"config": arguments.config, "split": split}.items():
        if value is not None:
            raise InputError(f"{name}: only --dataset ID has one, and none was given")
    if arguments.data_dir is not None and criterion != PROXY:
        readers = "--dataset ID" + f" and the criterion {PROXY!r}" * (criterion is not None)
        raise InputError(f"data_dir: only {readers} can be read from it, and none was given")
    if arguments.column is not None and arguments.texts is None:
        raise InputError("column: only --texts FILE and --dataset ID have one, and none was given")
