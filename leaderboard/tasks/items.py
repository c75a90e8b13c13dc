"""What a task gives to an encoder: texts, under a prompt or none, or pictures. As JSON, and by content."""

from typing import Any

from leaderboard.tasks.images.pictures import Shelf, picture_to_json
from midlayer_embed.images.pictures import Picture
from midlayer_embed.texts.tokens import Prompted, Text, spelt

Item = Text | Picture


def content_of(item: Item) -> str:
    """What an item is told apart by: a text as it is tokenised, or the key of a picture.

    Example:
        >>> content_of(Prompted("query: ", "a")), content_of(Picture("0af3", "one.png", b""))
        ('query: a', '0af3')
    """
    return item.key if isinstance(item, Picture) else spelt(item)


def item_to_json(item: Item) -> Any:
    """An item as JSON: a text, a prompt and a text, or what a picture is found by in the data of its task."""
    return picture_to_json(item) if isinstance(item, Picture) else item


def identity_of(item: Item) -> Any:
    """An item as JSON, for looking it up only: of a picture its key.

    Example:
        >>> identity_of(Prompted("query: ", "a")), identity_of(Picture("0af3", "one.png", b""))
        (Prompted(prompt='query: ', text='a'), {'image': '0af3'})
    """
    return item.to_json() if isinstance(item, Picture) else item


def item_from_json(loaded: Any, shelf: Shelf) -> Item:
    """The item that was written as JSON.

    Example:
        >>> item_from_json("a", Shelf({})), item_from_json(["query: ", "a"], Shelf({}))
        ('a', Prompted(prompt='query: ', text='a'))
    """
    if isinstance(loaded, str):
        return loaded
    return shelf.picture(loaded) if isinstance(loaded, dict) else Prompted(*loaded)
