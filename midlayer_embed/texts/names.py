"""Corpora that `--dataset` knows by a name of their own."""

from dataclasses import dataclass

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
