"""Texts and their token ids: checked, duplicates removed, under a prompt, tokenised once. No model is needed."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.ground.threads import OneAtATime

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompted(NamedTuple):
    """A text with a prompt in front of it. It differs from the same text under another prompt, or under none."""

    prompt: str
    text: str


Text = str | Prompted


def prompted(prompt: str, text: str) -> Text:
    """The text under the prompt; the text itself if the prompt is empty.

    Example:
        >>> prompted("query: ", "a"), prompted("", "a")
        (Prompted(prompt='query: ', text='a'), 'a')
    """
    return Prompted(prompt, text) if prompt else text


def spelt(text: Text) -> str:
    """What is tokenised."""
    return text if isinstance(text, str) else text.prompt + text.text


def check_texts(texts: Sequence[str], name: str = "texts") -> list[str]:
    """The texts as a list, from a list, tuple, array, column or any other iterable of strings.

    Args:
        texts: The texts.
        name: Name of the argument, for messages.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not an iterable with one dimension and an order, or an item is
            not a string.
        InputError: (a ValueError) a text holds half of a surrogate pair; the message names it.

    Example:
        >>> check_texts(("a", "b"))
        ['a', 'b']
    """
    # A data frame gives the names of its columns, a mapping its keys, a set no order.
    wrong = isinstance(texts, (str, bytes, Mapping, set, frozenset)) or len(getattr(texts, "shape", (0,))) != 1
    if wrong or not isinstance(texts, Iterable):
        raise InputTypeError(f"{name}: expected a list of strings, got {type(texts).__name__}")
    found = list(texts)
    for index, text in enumerate(found):
        check_text(f"{name}[{index}]", text)
    return found


def check_text(name: str, text: Any) -> None:
    r"""Check one text.

    Args:
        name: Name of the text, for messages.
        text: The text.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a string.
        InputError: (a ValueError) half of a surrogate pair, which is no character and has no tokens.

    Example:
        >>> check_text("texts[3]", "a\ud800")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: texts[3]: character 2 is half of a surrogate pair, '\ud800'
    """
    if not isinstance(text, str):
        raise InputTypeError(f"{name}: expected a string, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start].encode("ascii", "backslashreplace").decode()
            raise InputError(f"{name}: character {error.start + 1} is half of a surrogate pair, '{half}'") from None


_Item = TypeVar("_Item", bound=Hashable)


def distinct(texts: Sequence[_Item]) -> tuple[list[_Item], np.ndarray]:
    """Each distinct text or picture once, in order of first appearance, and the index of each among them.

    Returns:
        The distinct texts, and an int array (n_texts,) such that `distinct_texts[where[i]] == texts[i]`.

    Example:
        >>> distinct(["b", "a", "b"])
        (['b', 'a'], array([0, 1, 0]))
    """
    number: dict[_Item, int] = {}
    where = np.fromiter((number.setdefault(text, len(number)) for text in texts), dtype=np.int64, count=len(texts))
    return list(number), where


class Holders:
    """Where distinct items are among all items.

    Args:
        where: From `distinct`.

    Example:
        >>> unique, where = distinct(["b", "a", "b"])
        >>> [part.tolist() for part in Holders(where).of(np.array([1, 0]))]
        [[1, 0, 2], [0, 1, 1]]
    """

    def __init__(self, where: np.ndarray) -> None:
        counts = np.bincount(where, minlength=int(where.max(initial=-1)) + 1)
        self._rows = np.split(np.argsort(where, kind="stable"), np.cumsum(counts)[:-1])

    def of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that hold some distinct items, and for each of them the position of its item in `numbers`."""
        rows = [self._rows[number] for number in numbers]
        return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(some) for some in rows])


# Number of texts per call of a tokenizer: while it runs, it takes 50 times the memory of the ids that are kept.
_TEXTS_AT_ONCE = 4096


@dataclass(frozen=True)
class TokenIds:
    """The token ids of many texts, unpadded, four bytes each.

    Attributes:
        flat: int32 (n_tokens,), the ids of one text after the other.
        lengths: int64 (n_texts,).

    Example:
        >>> ids = TokenIds.of([[5, 6], [], [7]])
        >>> ids.flat.tolist(), ids.lengths.tolist(), ids[0].tolist()
        ([5, 6, 7], [2, 0, 1], [5, 6])
    """

    flat: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> "TokenIds":
        """The ids of lists, one list per text."""
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        return cls(np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(lengths.sum())), lengths)

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:
        end = int(self._ends[row])
        return self.flat[end - int(self.lengths[row]) : end]


# A tokenizer keeps the padding and truncation of its last call, which another thread may change before the next one.
TOKENIZING = OneAtATime()


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[Text], max_length: int) -> TokenIds:
    """Token ids of each text, special tokens included, truncated to `max_length` tokens."""
    parts = [TokenIds.of([])]
    for start in range(0, len(texts), _TEXTS_AT_ONCE):  # some tokenizers fail on an empty list
        with TOKENIZING:
            encoded = tokenizer(
                list(map(spelt, texts[start : start + _TEXTS_AT_ONCE])),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
        parts.append(TokenIds.of(encoded["input_ids"]))
    return TokenIds(np.concatenate([part.flat for part in parts]), np.concatenate([part.lengths for part in parts]))


def prompt_lengths(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[Text], max_length: int) -> np.ndarray:
    """The number of tokens of each text's prompt, int64 (n_texts,), without a special token at its end."""

    @cache
    def length(prompt: str) -> int:
        with TOKENIZING:
            (ids,) = tokenizer([prompt], truncation=True, max_length=max_length)["input_ids"]
        return len(ids) - bool(ids and ids[-1] in tokenizer.all_special_ids)

    lengths = (0 if isinstance(text, str) else length(text.prompt) for text in texts)
    return np.fromiter(lengths, dtype=np.int64, count=len(texts))


def check_token_ids(tokenizer: "PreTrainedTokenizerBase", highest: int, n_tokens: int | None) -> None:
    """Reject texts that spell out a special token that the model has no embedding for, such as one for images.

    Args:
        tokenizer: The tokenizer.
        highest: Highest token id of the texts.
        n_tokens: Number of tokens that the model has embeddings for; None if unknown.

    Raises:
        InputError: (a ValueError) the message names the token.
    """
    if n_tokens is not None and highest >= n_tokens:
        token = tokenizer.convert_ids_to_tokens(highest)
        raise InputError(
            f"texts: a text holds the token {token!r}, number {highest}, but the model has embeddings for {n_tokens} "
            "tokens"
        )


# Number of characters to read per token when tokens are only counted.
_CHARACTERS_A_TOKEN = 16


def token_counts(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[Text], max_length: int, *, prompt: str = ""
) -> np.ndarray:
    """The approximate number of tokens of each text in a forward pass, for `row_batches`.

    Only the token ids of a few texts are held at a time, and of a long text only the start is tokenised, which is
    expected to fill `max_length`.

    Args:
        tokenizer: The tokenizer.
        texts: Any number of texts.
        max_length: Number of tokens to which a text is truncated.
        prompt: Text to put in front of each text.

    Returns:
        int64 (n_texts,), special tokens included; 0 for a text without tokens, and for no other.
    """
    counts = np.zeros(len(texts), dtype=np.int64)
    reach = _CHARACTERS_A_TOKEN * max_length
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        stop = start + _TEXTS_AT_ONCE
        some = [spelt(text) for text in texts[start:stop]]
        token_ids = tokenize(tokenizer, [prompt + text[:reach] for text in some], max_length)
        # A text that is blank as far as it was read may still have a token.
        counts[start:stop] = np.maximum(token_ids.lengths, [len(text) > reach for text in some])
    return counts
