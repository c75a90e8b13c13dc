"""Extreme prompts, made of token ids: tokens of a prompt repeated in it, tokens at random, prompts that are cut.

The draws for a prompt depend only on its tokens and the seed: one number that decides whether a token is replaced, and
one replacement. So the tokens that are replaced with a probability are also replaced with every higher one.
"""

import hashlib
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from transformers import PreTrainedTokenizerBase

from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int
from midlayer_embed.recipes.template import own_tokens, special_tokens
from midlayer_embed.texts.tokens import TokenIds

# From the ids that may be drawn and numbers from 0 to 1, one for each token of a prompt: the replacements.
_Draw = Callable[[np.ndarray, np.ndarray], np.ndarray]


def fixed_tokens(token_ids: TokenIds, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The tokens that are no part of a prompt: bool (n_tokens,), for `TokenIds.flat`.

    They are the tokens that the tokenizer adds, and special tokens that a text spells out.

    Args:
        token_ids: Prompts, with the tokens that the tokenizer adds.
        tokenizer: Their tokenizer, without a template.

    Raises:
        InputError: (a ValueError) the tokenizer puts more than special tokens around a text.
    """
    start, end = own_tokens(tokenizer)
    fixed = np.isin(token_ids.flat, sorted(special_tokens(tokenizer)))
    for first, last in pairwise(_bounds(token_ids)):
        fixed[first : first + len(start)] = True
        fixed[max(first, last - len(end)) : last] = True
    return fixed


def plain_vocabulary(tokenizer: PreTrainedTokenizerBase, n_tokens: int | None = None) -> np.ndarray:
    """The ids of a tokenizer that are no special tokens, in order: int32 (n_ids,).

    Args:
        tokenizer: The tokenizer.
        n_tokens: Number of ids that the model has embeddings for; higher ids are left out. None: unknown.

    Raises:
        InputError: (a ValueError) none is left.
    """
    ids = set(tokenizer.get_vocab().values()) - special_tokens(tokenizer)
    found = np.array(sorted(number for number in ids if n_tokens is None or number < n_tokens), dtype=np.int32)
    if not len(found):
        raise InputError("model: the tokenizer has no tokens but special ones")
    return found


def repeat_tokens(
    token_ids: TokenIds, p: float, fixed: np.ndarray, *, seed: int = 0, one_token: bool = False
) -> TokenIds:
    """Replace each token with a probability by a token of the same prompt, each of its tokens being as likely.

    Args:
        token_ids: Prompts.
        p: Probability, 0 to 1.
        fixed: bool (n_tokens,), from `fixed_tokens`: tokens that are neither replaced nor drawn.
        seed: Seed of the draws.
        one_token: Whether a prompt has one replacement, which stands for all of its tokens that are replaced, instead
            of one replacement for each.

    Example:
        >>> ids = TokenIds.of([[0, 11, 12, 13, 14, 15]])
        >>> repeat_tokens(ids, 0.5, ids.flat == 0).flat.tolist()
        [0, 14, 12, 14, 13, 14]
        >>> repeat_tokens(ids, 0.5, ids.flat == 0, one_token=True).flat.tolist()
        [0, 14, 14, 14, 14, 14]
    """

    def draw(prompt: np.ndarray, places: np.ndarray) -> np.ndarray:
        return _pick(prompt, np.broadcast_to(places[:1], places.shape) if one_token else places)

    return _replaced(token_ids, p, fixed, seed, draw)


def randomize_tokens(
    token_ids: TokenIds, p: float, fixed: np.ndarray, vocabulary: np.ndarray, *, seed: int = 0
) -> TokenIds:
    """Replace each token with a probability by a token of a vocabulary, each of its tokens being as likely.

    Args:
        token_ids: Prompts.
        p: Probability, 0 to 1.
        fixed: bool (n_tokens,), from `fixed_tokens`: tokens that are not replaced.
        vocabulary: From `plain_vocabulary`.
        seed: Seed of the draws.

    Example:
        >>> ids = TokenIds.of([[0, 11, 12, 13, 14, 15]])
        >>> randomize_tokens(ids, 0.5, ids.flat == 0, np.arange(100, 200)).flat.tolist()
        [0, 161, 137, 167, 147, 165]
    """
    return _replaced(token_ids, p, fixed, seed, lambda _prompt, places: _pick(vocabulary, places))


def cut_tokens(token_ids: TokenIds, length: int, n_end: int = 0) -> TokenIds:
    """Cut prompts to a number of tokens, as a tokenizer truncates them. Shorter prompts stay as they are.

    Args:
        token_ids: Prompts.
        length: Number of tokens, those that the tokenizer adds included.
        n_end: Number of tokens that the tokenizer adds at the end; a prompt keeps them.

    Raises:
        InputError: (a ValueError) the length leaves no token before those at the end.

    Example:
        >>> cut_tokens(TokenIds.of([[1, 5, 6, 7, 2], [1, 5, 2]]), 4, n_end=1).flat.tolist()
        [1, 5, 6, 2, 1, 5, 2]
    """
    if check_int("length", length, 1) <= n_end:
        raise InputError(f"length: expected more than the {n_end} tokens at the end, got {length}")
    kept = np.ones(len(token_ids.flat), dtype=bool)
    for first, last in pairwise(_bounds(token_ids)):
        kept[first + length - n_end : last - n_end] = False
    return TokenIds(token_ids.flat[kept], np.minimum(token_ids.lengths, length))


def _replaced(token_ids: TokenIds, p: float, fixed: np.ndarray, seed: int, draw: _Draw) -> TokenIds:
    seed = check_int("seed", seed, 0)
    flat = token_ids.flat.copy()
    for first, last in pairwise(_bounds(token_ids)):
        free = ~fixed[first:last]
        prompt = flat[first:last][free]
        if len(prompt):
            decides, places = _draws(token_ids.flat[first:last], seed)[:, : len(prompt)]
            flat[first:last][free] = np.where(decides < p, draw(prompt, places), prompt)
    return TokenIds(flat, token_ids.lengths)


def _draws(ids: np.ndarray, seed: int) -> np.ndarray:
    """Numbers of [0, 1) for a prompt, float64 (2, n), that depend only on its ids and the seed."""
    key = hashlib.blake2b(ids.astype("<i4").tobytes(), key=str(seed).encode()).digest()
    # Bits of a generator are the same in every version of numpy; what is made of them may change.
    bits = np.random.PCG64(int.from_bytes(key, "big")).random_raw((2, len(ids)))
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53)


def _pick(ids: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The ids at places from 0 to 1."""
    return np.asarray(ids[(places * len(ids)).astype(np.int64)])


def _bounds(token_ids: TokenIds) -> np.ndarray:
    """Where each prompt starts in `flat`, and its end: (n + 1,)."""
    return np.concatenate([[0], np.cumsum(token_ids.lengths)])
