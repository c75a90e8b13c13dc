"""What goes with the name of a dataset, checked before it is read: without torch and transformers."""

from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.texts.dataset_folder import check_datasets, find_folder, find_split
from midlayer_embed.texts.names import DEFAULT_SPLIT, ON_HUB, SOTU
from midlayer_embed.texts.sotu import find_messages


def check_dataset(
    dataset: str,
    *,
    config: str | None = None,
    split: str = DEFAULT_SPLIT,
    column: str | None = None,
    data_dir: str | Path | None = None,
) -> None:
    """Check the arguments of `corpora.dataset_texts` as far as that goes without the Hub. Nothing is read.

    Raises:
        InputError: (a ValueError) the message names what is missing, or does not belong together.

    Example:
        >>> check_dataset("sotu", split="train")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: split: 'sotu' has no splits, got 'train'
    """
    if dataset == SOTU:
        given = {"config": config, "split": split if split != DEFAULT_SPLIT else None, "column": column}
        for name, value in given.items():
            if value is not None:
                raise InputError(f"{name}: {SOTU!r} has no {name}s, got {value!r}")
        if data_dir is not None:
            raise InputError(f"data_dir: {SOTU!r} is read from an installed package, got {str(data_dir)!r}")
        find_messages()
        return
    check_datasets()
    known = ON_HUB.get(dataset)
    folder = find_folder(known.dataset if known else dataset, data_dir)
    if folder is not None:
        find_split(folder, known.config if known and config is None else config, split)
