"""Corpora that `--dataset` knows by a name of their own, and a check of what goes with it before anything is read.

Commands import this first: not torch, nor transformers.
"""

from dataclasses import dataclass
from pathlib import Path

from midlayer_embed.errors import InputError

WIKITEXT = "wikitext"
SOTU = "sotu"
# Of paragraphs, as in the paper: shorter ones are captions, remains of lists and forms of address.
PARAGRAPH_MIN_TOKENS = 30
DEFAULT_SPLIT = "test"


@dataclass(frozen=True)
class HubCorpus:
    """A corpus on the Hub.

    Attributes:
        dataset: Hub id of its dataset.
        revision: Commit of the dataset.
        config: Configuration that is read by default.
        files: Patterns of the files that `prefetch` fetches: the default split of that configuration, and what the
            dataset's authors say of it.
    """

    dataset: str
    revision: str
    config: str
    files: tuple[str, ...]


# By name; the paper measures on WikiText-103.
ON_HUB = {
    WIKITEXT: HubCorpus(
        dataset="Salesforce/wikitext",
        revision="b08601e04326c79dfdd32d625aee71d232d685c3",
        config="wikitext-103-raw-v1",
        files=("README.md", "wikitext-103-raw-v1/test-*"),
    )
}
# Corpora of paragraphs.
PARAGRAPHS = (WIKITEXT, SOTU)


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
    from midlayer_embed.texts.dataset_folder import check_datasets, find_folder, find_split
    from midlayer_embed.texts.sotu import find_messages

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
