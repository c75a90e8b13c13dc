"""The layer that a criterion chooses for an export."""

import argparse
from typing import TYPE_CHECKING, Any

from midlayer_embed.cli.options import measuring_options, read_texts_for
from midlayer_embed.options import OF_ONE_LAYER
from midlayer_embed.selection.criteria import PROXY, LayerSelection, is_raw

if TYPE_CHECKING:
    from midlayer_embed.models.checkpoint import Checkpoint


def chosen_layer(
    arguments: argparse.Namespace, criterion: str, checkpoint: "Checkpoint", options: dict[str, Any]
) -> LayerSelection:
    """Measure every layer of a model over the texts of a command, choose one, and print the choice.

    Args:
        arguments: Those of a command with the options of `add_text_options`.
        criterion: The criterion.
        checkpoint: The model.
        options: The values of the model options, as `model_options` gives them.
    """
    from midlayer_embed.selection.criteria import selection_summary
    from midlayer_embed.selection.select import select_layer

    of_every_layer = {name: value for name, value in options.items() if name not in OF_ONE_LAYER}
    if is_raw(criterion):
        of_every_layer["final_norm"] = None
    chosen = select_layer(
        checkpoint,
        read_texts_for(criterion, arguments),
        criterion=criterion,
        data_dir=arguments.data_dir if criterion == PROXY else None,
        **measuring_options(arguments),
        **of_every_layer,
    )
    print("\n".join(selection_summary(chosen)))
    return chosen
