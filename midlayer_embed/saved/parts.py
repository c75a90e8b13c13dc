"""What a saved folder is made of, as this reader reads it. What it does not know is refused, never read otherwise.

The rules are those of sentence-transformers 6. Nothing heavy is imported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midlayer_embed.encoder.onnx.names import FOLDER, MODEL_FILE, QUANTIZED_FILE
from midlayer_embed.encoder.serve.folder import PLAIN_CLASS, POOLING_FLAGS, SavedFolder, class_of
from midlayer_embed.errors import InputError

# Entries of the configs that are read, or that change nothing here.
_TRANSFORMER_KEYS = {
    *("max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"),
    *("model_args", "model_kwargs"),
}
_POOLING_KEYS = {
    "embedding_dimension",
    "word_embedding_dimension",
    "pooling_mode",
    "include_prompt",
    *POOLING_FLAGS.values(),
}
_AFTER_KEYS = {
    "Dense": {"in_features", "out_features", "bias", "activation_function", "use_residual"},
    "LayerNorm": {"dimension"},
    "Normalize": set[str](),
    "Dropout": {"dropout"},
}
_OF_EACH = {"module_input_name", "module_output_name"}
_VECTOR = "sentence_embedding"
_CLASSES_OF_TOKENIZERS = (PLAIN_CLASS, "TokenizersBackend")
# sentence-transformers always has these two, whether the folder names them or not.
_PROMPTS = {"query": "", "document": ""}
# transformers writes 1e30 for a tokenizer without a limit.
_NO_LIMIT = 10**20


@dataclass(frozen=True)
class After:
    """A module after pooling.

    Attributes:
        kind: "Dense", "LayerNorm" or "Normalize".
        path: Its folder, with its weights if it has any.
        config: Its entries.
    """

    kind: str
    path: Path
    config: dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """What a saved folder is made of.

    Attributes:
        folder: Its files.
        states: The path into the output of the model, such as `("last_hidden_state",)` or `("hidden_states", 3)`.
        attention: Name of the implementation of attention that the folder asks for, or None.
        max_seq_length: Number of tokens to which a text is cut; None: no limit.
        width: Number of dimensions of a token state.
        modes: The poolings, whose results are joined.
        include_prompt: Whether the tokens of a prompt are pooled with those of the text.
        after: The modules after pooling that do something.
        prompts: Prompts by name.
        default_prompt_name: Name of the prompt that is used by default, or None.
        truncate_dim: Number of dimensions that are kept in the end; None: all.
    """

    folder: SavedFolder
    states: tuple[str | int, ...]
    attention: str | None
    max_seq_length: int | None
    width: int
    modes: tuple[str, ...]
    include_prompt: bool
    after: tuple[After, ...]
    prompts: dict[str, str]
    default_prompt_name: str | None
    truncate_dim: int | None

    @classmethod
    def of(cls, folder: SavedFolder) -> "Parts":
        """Read the configs of a folder.

        Raises:
            InputError: (a ValueError) something that this reader does not know; the message names the file.
        """
        _check_modules(folder)
        pooling, whole = folder.pooling, folder.whole
        _check_entries(
            folder, "1_Pooling" if len(folder.modules) < 2 else folder.modules[1]["path"], pooling, _POOLING_KEYS
        )
        modes = tuple(folder.pooling_modes)
        if not modes or not set(modes) <= POOLING_FLAGS.keys():
            raise InputError(f"folder: {folder.path} pools by {', '.join(map(str, modes))}, {_unknown()}")
        prompts = {**_PROMPTS, **{name: text or "" for name, text in (whole.get("prompts") or {}).items()}}
        default = whole.get("default_prompt_name")
        if default is not None and default not in prompts:
            raise InputError(f"folder: {folder.path} has the default prompt {default!r}, and no prompt of that name")
        width = pooling.get("embedding_dimension", pooling.get("word_embedding_dimension"))
        return cls(
            folder=folder,
            states=_states(folder),
            attention=_attention(folder),
            max_seq_length=_limit(folder),
            width=int(width or 0),
            modes=modes,
            include_prompt=bool(pooling.get("include_prompt", True)),
            after=_after(folder),
            prompts=prompts,
            default_prompt_name=default,
            truncate_dim=whole.get("truncate_dim"),
        )

    @property
    def dim(self) -> int:
        """Number of dimensions of a vector."""
        dim = self.width * len(self.modes)
        for module in self.after:
            dim = int(module.config.get("out_features", dim))
        return dim if self.truncate_dim is None else min(dim, self.truncate_dim)

    def graph(self, *, int8: bool = False) -> Path:
        """Where an ONNX graph of the folder is, if it has one."""
        return self.folder.root / FOLDER / (QUANTIZED_FILE if int8 else MODEL_FILE)


def _unknown() -> str:
    return "which this reader does not know; sentence-transformers may load it"


def _check_modules(folder: SavedFolder) -> None:
    for module in folder.modules:
        type_, kind = module["type"], class_of(module["type"])
        known = kind in ("Transformer", "Pooling") or kind in _AFTER_KEYS
        if not type_.startswith("sentence_transformers.") or not known or module.get("kwargs"):
            raise InputError(f"folder: {folder.path} has a module {type_}, {_unknown()}")
    if (folder.root / "adapter_config.json").is_file():
        raise InputError(f"folder: {folder.root} holds an adapter, {_unknown()}; save the merged model")


def _check_entries(folder: SavedFolder, where: str, config: dict[str, Any], known: set[str]) -> None:
    for name, value in config.items():
        if name not in known and value is not None:
            raise InputError(f"folder: {folder.path / where} says {name} = {value!r:.60}, {_unknown()}")


def _states(folder: SavedFolder) -> tuple[str | int, ...]:
    """The path to the token states in the output of the model."""
    said = folder.transformer
    _check_entries(folder, "sentence_bert_config.json", said, _TRANSFORMER_KEYS)
    modalities = said.get("modality_config") or {"text": {}}
    text = modalities.get("text", {})
    plain = (
        modalities.keys() == {"text"}
        and text.get("method", "forward") == "forward"
        and said.get("transformer_task", "feature-extraction") == "feature-extraction"
        and said.get("module_output_name", "token_embeddings") == "token_embeddings"
    )
    path = text.get("method_output_name", "last_hidden_state")
    path = (path,) if isinstance(path, str) else tuple(path or ())
    if not plain or path[:1] not in (("last_hidden_state",), ("hidden_states",)):
        raise InputError(f"folder: {folder.path} takes something else than the states of tokens, {_unknown()}")
    return path


def _attention(folder: SavedFolder) -> str | None:
    arguments = folder.transformer.get("model_kwargs") or folder.transformer.get("model_args") or {}
    for name, value in arguments.items():
        if name != "attn_implementation":
            raise InputError(f"folder: {folder.path} loads its model with {name} = {value!r:.60}, {_unknown()}")
    found: str | None = arguments.get("attn_implementation")
    return found


def _limit(folder: SavedFolder) -> int | None:
    """The number of tokens of a text, as sentence-transformers finds it."""
    config = folder.tokenizer_config
    said = folder.transformer.get("max_seq_length")
    if said is None:
        longest = folder.config.get("max_position_embeddings", -1)
        limits = [config.get("model_max_length") or _NO_LIMIT, _NO_LIMIT if longest in (-1, None) else longest]
        said = min(limits)
    return None if said >= _NO_LIMIT else int(said)


def _after(folder: SavedFolder) -> tuple[After, ...]:
    found = []
    for module in folder.modules[2:]:
        kind, config = class_of(module["type"]), folder.config_of(module)
        if kind not in _AFTER_KEYS:
            raise InputError(f"folder: {folder.path} has a second {kind}, {_unknown()}")
        _check_entries(folder, module["path"], config, _AFTER_KEYS[kind] | _OF_EACH)
        if any(config.get(name) not in (None, _VECTOR) for name in _OF_EACH):
            raise InputError(f"folder: {folder.path / module['path']} takes something else than vectors, {_unknown()}")
        if kind != "Dropout":  # which drops nothing here
            found.append(After(kind, folder.path / str(module["path"]), config))
    return tuple(found)


def check_tokenizer(folder: SavedFolder) -> None:
    """Reject tokenizers that are more than their tokenizer.json.

    Raises:
        InputError: (a ValueError) the message says what to do.
    """
    config = folder.tokenizer_config
    name = config.get("tokenizer_class")
    if not folder.tokenizer or name not in _CLASSES_OF_TOKENIZERS:
        raise InputError(
            f"folder: {folder.root} has a tokenizer of the class {name}, which may do more than tokenizer.json says; "
            "expected a folder that this package has saved"
        )
    if config.get("padding_side", "right") != "right":
        raise InputError(f"folder: {folder.root} pads on the {config['padding_side']}, {_unknown()}")
    if folder.transformer.get("do_lower_case") and '"Lowercase"' not in str(folder.tokenizer.get("normalizer")).replace(
        "'", '"'
    ):
        raise InputError(f"folder: {folder.root} lower-cases before its tokenizer does, {_unknown()}")
