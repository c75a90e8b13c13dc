"""The tokens of texts by the tokenizer.json of a folder, with the tokenizers library alone."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from tokenizers import Tokenizer

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.saved.parts import Parts, check_tokenizer
from midlayer_embed.texts.tokens import TokenIds

# While it runs, a tokenizer takes far more memory than the ids that are kept.
_TEXTS_AT_ONCE = 4096
_NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


class FolderTokenizer:
    """The tokenizer of a saved folder. It may be used by several threads.

    Args:
        parts: Of the folder.

    Attributes:
        pad_id: The token that pads short texts.

    Raises:
        InputError: (a ValueError) a tokenizer that is more than its tokenizer.json, or damaged.
    """

    def __init__(self, parts: Parts) -> None:
        folder = parts.folder
        check_tokenizer(folder)
        config, file = folder.tokenizer_config, folder.root / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more specific
            raise InputError(f"folder: {file} cannot be read: {first_line(error)}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = bool(config.get("split_special_tokens", False))
        if parts.max_seq_length is not None:
            side = config.get("truncation_side", "right")
            self._tokenizer.enable_truncation(parts.max_seq_length, direction=side)
        named = [
            *(config[name] for name in _NAMED if config.get(name)),
            *(config.get("additional_special_tokens") or ()),
        ]
        numbers = {self._id(token) for token in named}
        self._special = {number for number in numbers if number is not None}
        pad = self._id(config["pad_token"]) if config.get("pad_token") else None
        if pad is None:
            raise InputError(f"folder: {folder.root} has a tokenizer without a token for padding")
        self.pad_id = pad
        self._limit = parts.max_seq_length
        if "token_type_ids" in config.get("model_input_names", ()) and any(self._tokenizer.encode("a b").type_ids):
            raise InputError(
                f"folder: the tokenizer of {folder.root} gives types of tokens, which this reader leaves out"
            )
        self.prompt_length = cache(self._prompt_length)

    def _id(self, token: object) -> int | None:
        content = token["content"] if isinstance(token, dict) else token
        found: int | None = self._tokenizer.token_to_id(str(content))
        return found

    def tokenize(self, texts: Sequence[str], prompt: str = "") -> TokenIds:
        """The ids of texts under a prompt, cut to the limit."""
        parts = [TokenIds.of([])]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            some = [prompt + text for text in texts[start : start + _TEXTS_AT_ONCE]]
            parts.append(TokenIds.of([encoding.ids for encoding in self._tokenizer.encode_batch_fast(some)]))
        return TokenIds(np.concatenate([part.flat for part in parts]), np.concatenate([part.lengths for part in parts]))

    def _prompt_length(self, prompt: str) -> int:
        """The number of tokens of a prompt, without a special token at its end."""
        ids = self._tokenizer.encode(prompt).ids if prompt else []
        return len(ids) - bool(ids and ids[-1] in self._special)
