"""The tokenizer's files of a saved folder: read as they are by every version of transformers, and by servers.

Servers and sentence-transformers alike take tokenizer.json. A class that builds the tokenizer anew from its vocabulary
would lose what was added to that file, such as a template.
"""

import inspect
from copy import deepcopy
from pathlib import Path
from typing import Any

from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from midlayer_embed.encoder.serve.folder import PLAIN_CLASS
from midlayer_embed.errors import InputError
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import read_json, write_json

# Short and long, plain and odd texts, which exercise padding, truncation and edge cases of the tokenizer.
PROBES = (
    "The weather is lovely today.",
    "A",
    "Ünïcödé, 数学 and emoji 🙂 come back the same.",
    "def f(x):\n\treturn x ** 2  # code, with a tab",
    "Which layer embeds best is a question that the last layer rarely answers. " * 40,
)
_FILE, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_TOKENS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_KEPT = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "split_special_tokens")
_SIDES = ("padding_side", "truncation_side")
_ALWAYS = ("input_ids", "attention_mask")
# What transformers noted of the machine that saved the folder.
OF_THE_MACHINE = (
    *("is_local", "local_files_only", "tokenizer_file", "vocab_file"),
    *("name_or_path", "_name_or_path", "_model_name_or_path"),
)


def write_plain_tokenizer(folder: Path, transformer: Transformer) -> bool:
    """Let a folder's tokenizer be read from tokenizer.json as it is, if that file is all there is to it.

    Args:
        folder: A saved folder; its files are rewritten.
        transformer: The module that was saved there.

    Returns:
        Whether it is so. If not, the class of the tokenizer does something of its own and is kept.

    Raises:
        InputError: (a ValueError) a class that is kept builds another tokenizer from the folder.
    """
    tokenizer: Any = deepcopy(transformer.tokenizer)  # some change when they meet their own special tokens
    config = read_json(folder / _CONFIG, "save")
    # transformers saves the sides that it loaded, not those that were set since
    config |= {side: now for side in _SIDES if (now := getattr(tokenizer, side)) != config.get(side, "right")}
    if not (folder / _FILE).is_file() or not _is_all(folder / _FILE, tokenizer):
        write_json(folder / _CONFIG, {key: value for key, value in config.items() if key not in OF_THE_MACHINE})
        _check_kept(folder, transformer.tokenizer)
        return False
    # Older versions give every model token types, unless told otherwise: GPT-2 would add an embedding for them.
    taken = inspect.signature(transformer.model.forward).parameters
    plain = {
        "tokenizer_class": PLAIN_CLASS,
        **{key: config[key] for key in _KEPT if key in config},
        **{key: _content(config[key]) for key in _TOKENS if config.get(key) is not None},
        "model_input_names": [name for name in tokenizer.model_input_names if name in (*_ALWAYS, *taken)],
    }
    more = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    if more:
        named = more.values() if isinstance(more, dict) else more
        plain["additional_special_tokens"] = [_content(token) for token in named]
    write_json(folder / _CONFIG, plain)
    return True


def _is_all(file: Path, tokenizer: Any) -> bool:
    """Whether a tokenizer.json alone gives the token ids of a tokenizer. What it notes of the last call is removed."""
    backend = Tokenizer.from_file(str(file))
    backend.no_truncation()
    backend.no_padding()
    texts = [*PROBES, *(f"a {token} b" for token in tokenizer.all_special_tokens)]
    if any(backend.encode(text).ids != tokenizer(text, verbose=False)["input_ids"] for text in texts):
        return False
    backend.save(str(file))
    return True


def _check_kept(folder: Path, tokenizer: Any) -> None:
    """Reject a class of tokenizers that leaves out, when it is loaded, what was added, such as a template."""
    with quiet_transformers():
        loaded: Any = AutoTokenizer.from_pretrained(folder)
    if any(loaded(text, verbose=False)["input_ids"] != tokenizer(text, verbose=False)["input_ids"] for text in PROBES):
        name = type(tokenizer).__name__
        raise InputError(f"save: {name} would load another tokenizer than the encoder has; SentenceTransformer, too")


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
