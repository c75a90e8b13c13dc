"""Templates in a tokenizer: what stands around a text becomes part of the tokens that it adds to every text.

A template stands inside the tokens that the tokenizer adds itself, such as BOS, and around the text; a prompt of
sentence-transformers is part of the text. The parts of the template and the text are tokenised one by one. All of it is
in the post-processor of the tokenizers library, so that a saved tokenizer.json gives the same ids wherever it is read.
"""

from typing import Any

from tokenizers import processors
from transformers import PreTrainedTokenizerBase

from midlayer_embed.errors import InputError
from midlayer_embed.recipes.names import TEXT, find_template

# The text in a post-processor, and the names of what is added to it; spelt out in a text they are ordinary letters.
_TEXT, _TEXT_2 = "$A", "$B:1"
_START, _END, _PART = "[OWN_START]", "[OWN_END]", "[TEMPLATE_{}]"
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
    added = {_START: start, _END: end}
    pieces = [_START]
    for number, part in enumerate(found.parts):
        pieces += [_TEXT] * (number > 0) + [_PART.format(number)]
        added[_PART.format(number)] = _ids(tokenizer, part)
    if found.copies == 1 and not any(added[_PART.format(number)] for number in range(len(found.parts))):
        raise InputError(f"template: what is around {TEXT} has no tokens, so it changes nothing, got {template!r}")
    backend: Any = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single=[piece for piece in [*pieces, _END] if added.get(piece, [piece])],
        pair=[piece for piece in [_START, _TEXT, _END, _TEXT_2, _END] if added.get(piece, [piece])],
        special_tokens=[
            {"id": name, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)}
            for name, ids in added.items()
            if ids
        ],
    )


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
