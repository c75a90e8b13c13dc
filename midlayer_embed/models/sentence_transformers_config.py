"""What a sentence-transformers folder says about itself, as a record. Only its config files are read.

Every layer takes over the limit, lower-casing, prompts, pooling, Normalize and similarity. Only the last layer takes
over `LAST_LAYER_MODULES` and the truncation of dimensions, which were trained for its vectors. Whatever else changes a
vector is `unsupported`: the last layer is refused, and lower layers are as if it was not there. The table for users is
in docs/concepts/layers.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from midlayer_embed.errors import InputError
from midlayer_embed.ground.whole_files import read_json
from midlayer_embed.options import POOLING_MODES, pooling_modes

# Modules after pooling that every layer has, and those that only the last one has.
NORMALIZE = "Normalize"
LAST_LAYER_MODULES = ("Dense", "LayerNorm", "Dropout")
_MODULES = "modules.json"
_MODEL = "config_sentence_transformers.json"
_STOCK = "sentence_transformers."
_TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Older configs have a flag for each mode; sentence-transformers concatenates in this order.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# Keywords for the libraries, under their new and old names, and those that change no vector here: batches are padded on
# the right, and the user chooses dtype and device.
_LIBRARY_KEYWORDS = {
    ("model_kwargs", "model_args"): (
        *("add_pooling_layer", "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype"),
        "use_safetensors",
    ),
    ("processor_kwargs", "tokenizer_args"): ("model_max_length", "padding_side", "use_fast"),
    ("config_kwargs", "config_args"): ("add_pooling_layer", "use_cache"),
}
# Tokenizers without a limit have 1e30.
_NO_LIMIT = 10**9
# sentence-transformers leaves their prompts out of pooling, whatever their config says.
_INSTRUCTOR = tuple(f"hkunlp/instructor-{size}" for size in ("base", "large", "xl"))


@dataclass(frozen=True)
class OwnModule:
    """A module after pooling.

    Attributes:
        kind: Name of its stock class, such as "Dense".
        path: Its folder, below the root.
        out_features: Width of what it returns; None if it does not change the width.
    """

    kind: str
    path: str
    out_features: int | None = None


@dataclass(frozen=True)
class OwnConfig:
    """What a model says about itself. The defaults are those of a model that is not of sentence-transformers.

    Attributes:
        is_sentence_transformer: Whether there is a modules.json.
        transformer: Folder of the transformer below the root; "" for the root.
        output: Path of the token states in the output of the transformer.
        pooling_mode: As in `Recipe`; None if the model says nothing.
        include_prompt: Whether the tokens of a prompt are pooled with those of the text.
        modules: Modules after pooling, in order.
        max_seq_length: Number of tokens to which texts are truncated; None for what model and tokenizer can take.
        do_lower_case: Whether texts are lower-cased.
        prompts: Prompts by name.
        default_prompt_name: Name of the prompt that is used by default, or None.
        similarity_fn_name: Name of the similarity function, or None.
        truncate_dim: Number of dimensions that are kept, or None.
        unsupported: What our layers cannot give, in words; empty for most models.
    """

    is_sentence_transformer: bool = False
    transformer: str = ""
    output: tuple[str | int, ...] = ("last_hidden_state",)
    pooling_mode: str | None = None
    include_prompt: bool = True
    modules: tuple[OwnModule, ...] = ()
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    unsupported: tuple[str, ...] = ()

    @property
    def normalizes(self) -> bool:
        """Whether embeddings are normalised to length 1."""
        return any(module.kind == NORMALIZE for module in self.modules)

    @property
    def default_prompt(self) -> str:
        """Text in front of every text; "" for none."""
        return self.prompts.get(self.default_prompt_name or "", "")

    def modules_at(self, *, is_last: bool) -> tuple[OwnModule, ...]:
        """The modules after pooling that a layer has."""
        return tuple(module for module in self.modules if is_last or module.kind == NORMALIZE)

    @property
    def for_the_last_layer(self) -> tuple[str, ...]:
        """What only the last layer has, in words."""
        words = [module.kind for module in self.modules if module.kind in LAST_LAYER_MODULES]
        words += [f"truncate_dim={self.truncate_dim}"] * (self.truncate_dim is not None)
        return (*dict.fromkeys(words), *self.unsupported)


def read_own_config(root: str, revision: str | None) -> OwnConfig:
    """Reads what a model says about itself.

    Args:
        root: Folder or Hub id.
        revision: Revision on the Hub.

    Raises:
        InputError: (a ValueError) a config file is damaged, or the first module has no layers.
    """
    modules = _read(root, _MODULES, revision)
    if modules is None:
        return OwnConfig()
    where = f"{root}/{_MODULES}"
    if not isinstance(modules, list) or not all(_is_module(module) for module in modules):
        raise InputError(f"model: {where} is not a list of modules, each with a type and a path")
    first, *rest = modules or [{"type": f"{_STOCK}models.Transformer", "path": ""}]
    unsupported = []
    if _kind(first) != "Transformer":
        unsupported.append(_type(first))
        if _read(root, "config.json", revision, first["path"]) is None:
            raise InputError(f"model: {root} has no layers: its first module is {_type(first)}, not a Transformer")
    found: dict[str, Any] = {
        **_transformer_says(root, revision, first["path"], unsupported),
        **_modules_say(root, revision, rest, unsupported),
        **_model_says(root, revision, unsupported),
    }
    if root in _INSTRUCTOR:
        found["include_prompt"] = False
    return OwnConfig(is_sentence_transformer=True, transformer=first["path"], unsupported=tuple(unsupported), **found)


def _transformer_says(root: str, revision: str | None, path: str, unsupported: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name in _TRANSFORMER_CONFIGS:
        if config := _read_entries(root, name, revision, path):
            break
    if config.get("transformer_task", "feature-extraction") != "feature-extraction":
        unsupported.append(f"transformer_task={config['transformer_task']!r}")
    for name in ("processing_kwargs", "query_length", "document_length", "query_expansion", "tokenizer_name_or_path"):
        if config.get(name):
            unsupported.append(f"{name} of its transformer")
    keywords: dict[str, Any] = {}
    for names, harmless in _LIBRARY_KEYWORDS.items():
        given: dict[str, Any] = next((config[name] for name in reversed(names) if config.get(name)), {})
        keywords |= given
        unsupported += [f"{name} of its {names[0]}" for name in given if name not in (*harmless, "trust_remote_code")]
    limit = keywords.get("model_max_length", config.get("max_seq_length"))
    return {
        "output": _output(config, unsupported),
        "max_seq_length": None if limit is None or _is_endless(limit) else _int(f"{root}: max_seq_length", limit),
        "do_lower_case": bool(config.get("do_lower_case", False)),
    }


def _output(config: Mapping[str, Any], unsupported: list[str]) -> tuple[str | int, ...]:
    """The path of the token states in the output of the transformer."""
    modalities = config.get("modality_config")
    if modalities is None:
        return OwnConfig.output
    text = modalities.get("text") or {}
    if "message" in modalities:  # sentence-transformers then wraps every text
        unsupported.append("a chat template around every text")
    if text.get("method") != "forward" or config.get("module_output_name") != "token_embeddings":
        unsupported.append("a transformer that does not give token states")
        return OwnConfig.output
    path = text.get("method_output_name")
    if isinstance(path, (list, tuple)) and path[:1] == ["hidden_states"]:
        return tuple(path)
    if path not in ("last_hidden_state", ["last_hidden_state"]):
        unsupported.append(f"{path} of its transformer")
    return OwnConfig.output


def _modules_say(root: str, revision: str | None, modules: list[Any], unsupported: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    after: list[OwnModule] = []
    for module in modules:
        kind = _kind(module)
        config = _read_entries(root, "config.json", revision, module["path"])
        if module.get("kwargs"):
            unsupported.append(f"kwargs of its {kind}")
        if kind == "Pooling" and not found:
            found = {"pooling_mode": _pooling_mode(root, config), "include_prompt": config.get("include_prompt", True)}
        elif found and kind in (NORMALIZE, *LAST_LAYER_MODULES) and _is_on_vectors(config):
            after.append(OwnModule(str(kind), module["path"], config.get("out_features")))
        else:
            unsupported.append(_type(module))
    if not found:
        unsupported.append("no Pooling")
    return {**found, "modules": tuple(after)}


def _pooling_mode(root: str, config: Mapping[str, Any]) -> str:
    mode = config.get("pooling_mode")
    if mode is None:
        mode = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    joined = mode if isinstance(mode, str) else "+".join(map(str, mode))
    if not pooling_modes(joined):
        raise InputError(f"model: the Pooling of {root} has the mode {joined!r}; expected {', '.join(POOLING_MODES)}")
    return joined


def _is_on_vectors(config: Mapping[str, Any]) -> bool:
    """Whether a module changes the pooled vectors, and nothing else."""
    names = [config.get(name) for name in ("module_input_name", "module_output_name")]
    return all(name in (None, "sentence_embedding") for name in names)


def _model_says(root: str, revision: str | None, unsupported: list[str]) -> dict[str, Any]:
    config = _read_entries(root, _MODEL, revision)
    if (kind := config.get("model_type") or "SentenceTransformer") != "SentenceTransformer":
        unsupported.append(f"a {kind}")
    prompts = {name: prompt or "" for name, prompt in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    if default is not None and default not in ("query", "document", *prompts):
        raise InputError(f"model: default_prompt_name of {root} is {default!r}, which is none of {list(prompts)}")
    similarity, dim = config.get("similarity_fn_name"), config.get("truncate_dim")
    return {
        "prompts": prompts,
        "default_prompt_name": default,
        "similarity_fn_name": similarity if similarity in _SIMILARITIES else None,
        "truncate_dim": None if dim is None else _int(f"{root}: truncate_dim", dim),
    }


def _is_endless(limit: Any) -> bool:
    return isinstance(limit, (int, float)) and limit >= _NO_LIMIT


def _int(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 1:
        raise InputError(f"model: {name}: expected an integer of at least 1, got {value!r}")
    return int(value)


def _is_module(module: Any) -> bool:
    if not isinstance(module, dict) or not all(isinstance(module.get(key), str) for key in ("type", "path")):
        return False
    path = PurePosixPath(module["path"])
    return not path.is_absolute() and ".." not in path.parts


def _type(module: Mapping[str, Any]) -> str:
    """The name of a module's class, for messages: short if it is a stock one."""
    stock = module["type"].startswith(_STOCK)
    return str(module["type"].rpartition(".")[2] if stock else module["type"])


def _kind(module: Mapping[str, Any]) -> str | None:
    """The name of a stock module's class; None for any other class."""
    return _type(module) if module["type"].startswith(_STOCK) else None


def _read_entries(root: str, name: str, revision: str | None, folder: str = "") -> dict[str, Any]:
    """The entries of a config file; none if there is no such file."""
    found = _read(root, name, revision, folder)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputError(f"model: {'/'.join(filter(None, (root, folder, name)))} does not hold a JSON object")
    return found


def _read(root: str, name: str, revision: str | None, folder: str = "") -> Any:
    if Path(root).is_dir():
        path = Path(root, folder, name)
        file = str(path) if path.exists() else None
    else:
        from sentence_transformers.util import load_file_path  # slow to import, and not needed for folders

        file = load_file_path(root, name, subfolder=folder, revision=revision)
    if file is None:
        return None
    return read_json(Path(file), "model")
