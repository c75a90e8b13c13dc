"""Templates in a tokenizer: what stands around a text becomes part of the tokens that it adds to every text.

A template stands inside the tokens that the tokenizer adds itself, such as BOS, and around the text; a prompt of
sentence-transformers is part of the text. The parts of the template and the text are tokenised one by one. All of it is
in the post-processor of the tokenizers library, so that a saved tokenizer.json gives the same ids wherever it is read.
"""

import json
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from midlayer_embed.errors import InputError
from midlayer_embed.recipes.names import TEXT, find_template

# The texts in a post-processor.
_TEXT, _SECOND_TEXT = ({"Sequence": {"id": name, "type_id": kind}} for kind, name in enumerate("AB"))
# No post-processor adds what has this name. It tells readers which tokens are a template's, and that there is one.
_WORDS = "[TEMPLATE]"
# A text of some tokens, none of them special, that shows what a tokenizer adds.
_PROBE = "a few words"


def put_template(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Let a tokenizer put a template around every text.

    Pairs of texts, which an embedding model is never given, get no template.

    Args:
        tokenizer: Of the tokenizers library; it is changed.
        template: "eol", "echo", or a text with `{text}` in it once or twice.

    Raises:
        InputError: (a ValueError) no such template, or one without tokens; a tokenizer that is not of the tokenizers
            library, or that puts more than special tokens around a text already.
    """
    found = find_template(template)
    if not tokenizer.is_fast:
        raise InputError(
            f"template: expected a tokenizer of the tokenizers library, got {type(tokenizer).__name__}, a slow one"
        )
    start, end = own_tokens(tokenizer)
    parts = [_ids(tokenizer, part) for part in found.parts]
    if found.copies == 1 and not any(parts):
        raise InputError(f"template: what is around {TEXT} has no tokens, so it changes nothing, got {template!r}")
    single: list[Any] = [*start, *parts[0]]
    for part in parts[1:]:
        single += [_TEXT, *part]
    pair = [*start, _TEXT, *end, _SECOND_TEXT, *end]
    backend: Any = tokenizer.backend_tokenizer
    words = [number for part in parts for number in part]
    backend.post_processor = _post_processor(tokenizer, [*single, *end], pair, words)


def _post_processor(tokenizer: PreTrainedTokenizerBase, single: list[Any], pair: list[Any], words: list[int]) -> Any:
    """A post-processor that adds tokens to a text, and to a pair of texts.

    Each token is added under its own name: transformers.js looks names up in the vocabulary, and nothing else.

    Args:
        tokenizer: The tokenizer, which names tokens.
        single: Ids of tokens, and the text.
        pair: The same for two texts.
        words: Ids of the tokens of the template.
    """

    def piece(of: Any) -> Any:
        if not isinstance(of, int):
            return of
        return {"SpecialToken": {"id": tokenizer.convert_ids_to_tokens(of), "type_id": 0}}

    ids = {of for of in [*single, *pair] if isinstance(of, int)}
    groups = {tokenizer.convert_ids_to_tokens(number): [number] for number in sorted(ids)}
    if words:
        groups[_WORDS] = words
    template = {
        "type": "TemplateProcessing",
        "single": [piece(of) for of in single],
        "pair": [piece(of) for of in pair],
        "special_tokens": {
            name: {"id": name, "ids": group, "tokens": tokenizer.convert_ids_to_tokens(group)}
            for name, group in groups.items()
        },
    }
    # The constructor of TemplateProcessing takes "$" and ":" in a name for marks of its own.
    empty = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}, "post_processor": template}
    return Tokenizer.from_str(json.dumps(empty)).post_processor


def check_room(tokenizer: PreTrainedTokenizerBase, template: str | None, limit: int, whose: str = "got") -> None:
    """Reject a limit that leaves no token of a text.

    Args:
        tokenizer: With the template in it.
        template: The template, or None.
        limit: Number of tokens of a text, its template and both copies included.
        whose: Where the limit comes from, for the message.

    Raises:
        InputError: (a ValueError) the message has the number of tokens that are added.
    """
    added = tokenizer.num_special_tokens_to_add()
    copies = 0 if template is None else find_template(template).copies
    if limit < added + copies:
        adds = "the tokenizer adds" if template is None else "the tokenizer and the template add"
        room = f", which needs {copies}" if copies else ""
        raise InputError(f"max_seq_length: {adds} {added} tokens to every text{room}, {whose} {limit}")


def length_of_one_copy(tokenizer: PreTrainedTokenizerBase, template: str | None, limit: int) -> int:
    """The limit for a tokenizer, which counts a text once even if its template has it twice.

    Args:
        tokenizer: With the template in it.
        template: The template, or None.
        limit: Number of tokens of a text, its template and both copies included.
    """
    if template is None or find_template(template).copies == 1:
        return limit
    added = tokenizer.num_special_tokens_to_add()
    return added + (limit - added) // 2


def length_of_all_copies(tokenizer: PreTrainedTokenizerBase, template: str | None, length: int) -> int:
    """The inverse of `length_of_one_copy`, up to the token by which a limit can be odd."""
    if template is None or find_template(template).copies == 1:
        return length
    added = tokenizer.num_special_tokens_to_add()
    return added + (length - added) * 2


def own_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after every text.

    Args:
        tokenizer: Without a template.

    Raises:
        InputError: (a ValueError) it puts more than special tokens around a text.
    """
    plain = _ids(tokenizer, _PROBE)
    whole = list(tokenizer(_PROBE)["input_ids"])
    special = special_tokens(tokenizer)
    for place in range(len(whole) - len(plain) + 1):
        start, end = whole[:place], whole[place + len(plain) :]
        if whole[place : place + len(plain)] == plain and special.issuperset([*start, *end]):
            return start, end
    raise InputError(
        "template: the tokenizer puts more than special tokens around a text already; expected one without a template"
    )


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of a tokenizer's special tokens, those that it does not use included."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added.union(tokenizer.all_special_ids)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
