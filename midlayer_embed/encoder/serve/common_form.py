"""The form of a folder that old and new readers know: sentence-transformers 3 to 6, transformers 4 and 5, servers.

sentence-transformers 5.4 changed the names of classes and the entries of configs, and transformers 5 others. Readers of
the older ones fail, or, worse, ignore what they do not know. A layer that older versions cannot give keeps the new
names: then they fail at once, and `requirements` says which versions can give it.
"""

from pathlib import Path
from typing import Any

from sentence_transformers.sentence_transformer.modules import Transformer

from midlayer_embed.encoder.serve.folder import OLD_NAMES, POOLING_FLAGS, class_of
from midlayer_embed.encoder.serve.older_config import needs_eager_attention, older_entries
from midlayer_embed.encoder.serve.plain_tokenizer import OF_THE_MACHINE, write_plain_tokenizer
from midlayer_embed.ground.whole_files import read_json, write_json

# The first version that reads `requirements`.
_SINCE = "6.0"
# An entry that older versions which know the new names do not take: without `requirements` they fail by it.
_UNKNOWN_BEFORE = "query_length"
# The entries of the configs of modules that can be said in older versions.
_KEYS: dict[str, set[str]] = {
    "Dense": {"in_features", "out_features", "bias", "activation_function"},
    "Dropout": {"dropout"},
    "LayerNorm": {"dimension"},
    "Normalize": set(),
    "Pooling": {"embedding_dimension", "pooling_mode", "include_prompt"},
}
_MODULES, _WHOLE, _TRANSFORMER = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
_TOKEN_STATES = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


def write_common_form(folder: Path, transformer: Transformer) -> bool:
    """Rewrite what sentence-transformers has saved, as far as older versions can say it.

    Args:
        folder: A folder that sentence-transformers has saved.
        transformer: Its first module, as it was saved.

    Returns:
        Whether older versions can say it. If not, the folder asks for newer ones.
    """
    modules, whole = read_json(folder / _MODULES, "save"), read_json(folder / _WHOLE, "save")
    root = folder / modules[0]["path"]
    config = _with_plain_floats(read_json(root / "config.json", "save"))
    is_plain = write_plain_tokenizer(root, transformer)
    older = older_entries(config)
    saved = [_older_module(folder / module["path"], module["type"]) for module in modules[1:]]
    is_common = is_plain and older is not None and _gives_token_states(transformer) and "truncate_dim" not in whole
    is_common = is_common and None not in saved
    if not all(module.get("include_prompt", True) for module in saved if module):
        is_common = is_common and _prompts_end_alike(whole.get("prompts") or {}, transformer.tokenizer)
    if is_common:
        for module, entries in zip(modules[1:], saved, strict=True):
            write_json(folder / module["path"] / "config.json", entries)
        for module in modules:
            module["type"] = OLD_NAMES + class_of(module["type"])
        write_json(folder / _MODULES, modules)
        write_json(root / _TRANSFORMER, _older_transformer(transformer, config))
        if _is_nested(config.get("rope_parameters")):
            del config["rope_parameters"]  # TEI fails at it; the older names say the same
    else:
        whole["requirements"] = {"sentence-transformers": f">={_SINCE}", **whole.get("requirements", {})}
        write_json(root / _TRANSFORMER, {**read_json(root / _TRANSFORMER, "save"), _UNKNOWN_BEFORE: None})
    # Older versions warn of folders by newer ones. This one is as they write it, or says what it requires.
    whole.get("__version__", {}).pop("sentence_transformers", None)
    config = {key: value for key, value in config.items() if key not in OF_THE_MACHINE}
    write_json(root / "config.json", config | (older or {}))
    write_json(folder / _WHOLE, whole)
    return is_common


def _gives_token_states(transformer: Transformer) -> bool:
    """Whether a module does what older versions do: the last states of the tokens of a text, and no more."""
    said = transformer.get_config_dict()
    return (
        said.get("transformer_task") == "feature-extraction"
        and said.get("modality_config") == _TOKEN_STATES
        and said.get("module_output_name") == "token_embeddings"
        and not said.keys() - {"transformer_task", "modality_config", "module_output_name"}
    )


def _older_transformer(transformer: Transformer, config: dict[str, Any]) -> dict[str, Any]:
    eager = {"model_args": {"attn_implementation": "eager"}} if needs_eager_attention(config) else {}
    # lower-casing is a step of the tokenizer itself, here as ever
    return {"max_seq_length": transformer.max_seq_length, "do_lower_case": False, **eager}


def _older_module(folder: Path, type_: str) -> dict[str, Any] | None:
    """The config of a module after the transformer as older versions read it; None if they cannot say it."""
    kind = class_of(type_)
    if kind not in _KEYS or not type_.startswith("sentence_transformers.") or not (folder / "config.json").is_file():
        return None
    entries: dict[str, Any] = read_json(folder / "config.json", "save")
    names = [entries.pop(name, None) for name in ("module_input_name", "module_output_name")]
    if not {None, "sentence_embedding"}.issuperset(names) or entries.keys() != _KEYS[kind]:
        return None
    return _older_pooling(**entries) if kind == "Pooling" else entries


def _older_pooling(
    embedding_dimension: int, pooling_mode: str | list[str], include_prompt: bool
) -> dict[str, Any] | None:
    modes = [pooling_mode] if isinstance(pooling_mode, str) else pooling_mode
    if modes != [mode for mode in POOLING_FLAGS if mode in modes]:  # older versions concatenate in this order only
        return None
    return {
        # older versions take no `embedding_dimension`, and newer ones read this as well
        "word_embedding_dimension": embedding_dimension,
        **({"pooling_mode": modes[0]} if len(modes) == 1 else {}),
        **{flag: mode in modes for mode, flag in POOLING_FLAGS.items()},
        "include_prompt": include_prompt,
    }


def _prompts_end_alike(prompts: dict[str, str | None], tokenizer: Any) -> bool:
    """Whether all versions agree where a prompt ends, for a Pooling that leaves it out.

    Older ones strip it first, and the oldest take its last token for a special one.
    """
    special = tokenizer.all_special_ids
    for prompt in filter(None, prompts.values()):
        whole, stripped = (tokenizer(text)["input_ids"] for text in (prompt, prompt.strip()))
        if whole != stripped or whole[-1] not in special:
            return False
    return True


def _with_plain_floats(value: Any) -> Any:
    """A config without transformers 5's own spelling of infinity, which is a dict to others."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {key: _with_plain_floats(item) for key, item in value.items()}
    return [_with_plain_floats(item) for item in value] if isinstance(value, list) else value


def _is_nested(rope: Any) -> bool:
    return any(isinstance(value, dict) for value in (rope or {}).values())
