"""What the files of a saved folder say, for those who judge how others read them. Nothing heavy is imported."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from midlayer_embed.errors import InputError
from midlayer_embed.ground.whole_files import read_json

Verdict = Literal["right", "with an option", "refused", "other vectors"]
# What a rule of a reader says: a verdict, and words for it.
Finding = tuple[Verdict, str]
OLD_NAMES = "sentence_transformers.models."
# The class of transformers that reads tokenizer.json as it is.
PLAIN_CLASS = "PreTrainedTokenizerFast"
POOLING_FLAGS = {  # in the order of concatenation
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def class_of(type_: str) -> str:
    """The name of a class without its module."""
    return type_.rpartition(".")[2]


@dataclass(frozen=True)
class SavedFolder:
    """The files of a sentence-transformers folder.

    Attributes:
        path: The folder.
        modules: The entries of modules.json.

    Raises:
        InputError: (a ValueError) a file is missing or damaged; the message names it.
    """

    path: Path
    modules: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "SavedFolder":
        """Read a folder.

        Raises:
            InputError: (a ValueError) it is not a sentence-transformers folder.
        """
        if not (path / "modules.json").is_file():
            raise InputError(f"folder: {path} holds no modules.json, so it is not a sentence-transformers folder")
        modules = read_json(path / "modules.json", "folder")
        if not isinstance(modules, list) or not all(
            isinstance(module, dict) and isinstance(module.get("type"), str) and isinstance(module.get("path"), str)
            for module in modules
        ):
            raise InputError(f"folder: {path / 'modules.json'} is not a list of modules, each with a type and a path")
        kinds = [class_of(module["type"]) for module in modules]
        if kinds[:2] != ["Transformer", "Pooling"]:
            raise InputError(f"folder: {path} begins with {kinds[:2]}; expected a Transformer and a Pooling")
        return cls(path, modules)

    @cached_property
    def root(self) -> Path:
        """Where the transformer is."""
        return self.path / str(self.modules[0]["path"])

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json of the model."""
        return self._entries(self.root / "config.json")

    @cached_property
    def transformer(self) -> dict[str, Any]:
        """sentence_bert_config.json."""
        return self._entries(self.root / "sentence_bert_config.json")

    @cached_property
    def whole(self) -> dict[str, Any]:
        """config_sentence_transformers.json."""
        return self._entries(self.path / "config_sentence_transformers.json")

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """tokenizer_config.json."""
        return self._entries(self.root / "tokenizer_config.json")

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """tokenizer.json; empty for a tokenizer without one."""
        return self._entries(self.root / "tokenizer.json")

    @cached_property
    def pooling(self) -> dict[str, Any]:
        """The config of the Pooling."""
        return self.config_of(self.modules[1])

    @cached_property
    def pooling_modes(self) -> list[str]:
        """The pooling modes, in the order of concatenation."""
        said = self.pooling.get("pooling_mode")
        if said is None:
            said = [mode for mode, flag in POOLING_FLAGS.items() if self.pooling.get(flag)] or ["mean"]
        return [said] if isinstance(said, str) else list(said)

    @property
    def pooling_flags(self) -> list[str]:
        """The pooling modes that the older flags name."""
        return [mode for mode, flag in POOLING_FLAGS.items() if self.pooling.get(flag)]

    @cached_property
    def after_pooling(self) -> list[str]:
        """The classes of the modules after pooling; without Dropout, which does nothing here."""
        kinds = [class_of(module["type"]) for module in self.modules[2:]]
        return [kind for kind in kinds if kind != "Dropout"]

    @property
    def has_old_names(self) -> bool:
        """Whether every module has its older name."""
        return all(module["type"] == OLD_NAMES + class_of(module["type"]) for module in self.modules)

    @property
    def is_of_last_states(self) -> bool:
        """Whether the model's last states are pooled, which is what most readers do whatever is said."""
        text = (self.transformer.get("modality_config") or {}).get("text", {})
        return text.get("method_output_name", "last_hidden_state") in ("last_hidden_state", ["last_hidden_state"])

    @property
    def is_made_bidirectional(self) -> bool:
        """Whether a causal architecture is asked to attend in both directions."""
        return self.config.get("is_causal") is False or bool(self.config.get("use_bidirectional_attention"))

    @property
    def default_prompt(self) -> str:
        """Name of the prompt that is used by default; empty if it adds nothing."""
        name = self.whole.get("default_prompt_name") or ""
        return name if (self.whole.get("prompts") or {}).get(name) else ""

    @cached_property
    def n_texts_in_template(self) -> int:
        """How often the tokenizer writes the text."""
        return sum("Sequence" in piece for piece in self._template)

    @cached_property
    def has_template(self) -> bool:
        """Whether the tokenizer writes words around the text, not only special tokens by their own names."""
        special = self._post_processor.get("special_tokens") or {}
        words = (token.get("tokens") != [name] for name, token in special.items())
        return self.n_texts_in_template > 1 or any(words)

    @cached_property
    def ends_with_added_tokens(self) -> bool:
        """Whether the tokenizer writes anything behind the text: the end of a template, or a special token."""
        steps = [self.tokenizer.get("post_processor") or {}]
        steps = steps[0].get("processors", steps)
        pairs = any(step.get("type") in ("BertProcessing", "RobertaProcessing") for step in steps)
        return pairs or (bool(self._template) and "Sequence" not in self._template[-1])

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether the tokenizer is a byte-level BPE or a WordPiece, which llama.cpp tells by its token ids."""
        return '"ByteLevel"' in json.dumps(self.tokenizer.get("pre_tokenizer")) or self._kind == "WordPiece"

    def config_of(self, module: dict[str, Any]) -> dict[str, Any]:
        """The config of a module; empty if it has none."""
        return self._entries(self.path / str(module["path"]) / "config.json")

    @property
    def _kind(self) -> str:
        return str((self.tokenizer.get("model") or {}).get("type"))

    @cached_property
    def _post_processor(self) -> dict[str, Any]:
        found = self.tokenizer.get("post_processor") or {}
        steps = found.get("processors", [found])
        return next((step for step in steps if step.get("type") == "TemplateProcessing"), {})

    @property
    def _template(self) -> list[dict[str, Any]]:
        return self._post_processor.get("single") or []

    def _entries(self, file: Path) -> dict[str, Any]:
        found = read_json(file, "folder") if file.is_file() else {}
        if not isinstance(found, dict):
            raise InputError(f"folder: {file} does not hold a JSON object")
        return found


def without_prompts(saved: SavedFolder, option: str) -> Iterator[Finding]:
    """Of readers that do not add the default prompt by themselves."""
    name = saved.default_prompt
    if name and saved.pooling.get("include_prompt", True) is False:
        yield "other vectors", "it pools the prompt with the text"
    if name:
        by_hand = f"write the prompt {name!r} before each text"
        yield "with an option", option.format(name) if option else by_hand
