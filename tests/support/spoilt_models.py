"""What can be wrong with a model's folder, and what has to be said of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _with_config(**entries: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = {**json.loads((folder / "config.json").read_text()), **entries}
        (folder / "config.json").write_text(
            json.dumps({key: value for key, value in config.items() if value != "gone"})
        )

    return change


def _with(file: str, content: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def _with_weights_in(file: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / file)

    return change


def _cut_to(size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:size])

    return change


def _in_parts(second: bool) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        parts = {"norm.weight": "model-00001-of-00002.safetensors", "x": "model-00002-of-00002.safetensors"}
        index = {"weight_map": parts} if second else {"metadata": {}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def _an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))


def _a_model_of(config: dict[str, Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        from transformers import AutoConfig, AutoModel

        model = AutoModel.from_config(AutoConfig.for_model(**config))
        model.save_pretrained(folder)

    return change


_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_IMAGES = {**_SMALL, "image_size": 32, "patch_size": 16}
_BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
# What is done to the folder of a tiny Llama, and what has to be said of it.
SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "vit": (_a_model_of({"model_type": "vit", **_IMAGES}), r"is an image encoder \(vit\)"),
    "clip": (
        _a_model_of({"model_type": "clip", "text_config": _SMALL, "vision_config": _IMAGES, "projection_dim": 16}),
        r"is an image encoder \(clip_vision_model\)",
    ),
    "bart": (_a_model_of({"model_type": "bart", **_BART}), "it is an encoder-decoder"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "holds no weights: neither model.safetensors",
    ),
    "pickle": (_with_weights_in("pytorch_model.bin"), "holds its weights as pytorch_model.bin, a pickle"),
    "pickled part": (
        _with_weights_in("pytorch_model-00001-of-00002.bin"),
        "as pytorch_model-00001-of-00002.bin, a pickle",
    ),
    "tensorflow": (_with_weights_in("tf_model.h5"), "holds no weights: .*there is tf_model.h5, which is not supported"),
    "rest of a training": (_with_weights_in("training_args.bin"), "holds no weights: neither model.safetensors"),
    "missing part": (_in_parts(second=True), "lacks model-00002-of-00002.safetensors, which model.safetensors.index"),
    "no parts": (_in_parts(second=False), "model.safetensors.index.json does not say which files"),
    "cut": (_cut_to(5000), "model.safetensors cannot be read, it is truncated or damaged"),
    "cut in its header": (_cut_to(20), "model.safetensors cannot be read, it is truncated or damaged"),
    "empty file": (_cut_to(0), "model.safetensors cannot be read, it is truncated or damaged"),
    "git-lfs": (_with("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "run git lfs pull"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    "no JSON": (_with("config.json", "{nonsense"), "config.json is not valid JSON"),
    "no text": (_with("config.json", b"\xff\xfe\x00"), "config.json is not valid JSON"),
    "a list": (_with("config.json", "[1]"), "config.json has no model_type"),
    "no model_type": (_with_config(model_type="gone"), "config.json has no model_type"),
    "unknown model_type": (_with_config(model_type="llama99"), "model type `llama99`"),
    "a wrong type": (_with_config(num_hidden_layers="three"), "num_hidden_layers.* expected int, got str"),
    "no heads": (_with_config(num_attention_heads=0), "cannot be loaded: integer modulo by zero"),
    "another width": (_with_config(hidden_size=48), r"embed_tokens.weight: \(400, 32\) instead of \(400, 48\)"),
    "no tokenizer": (_without_tokenizer, "has no tokenizer that can be used .*no file contains a vocabulary"),
    "a broken tokenizer": (_with("tokenizer.json", "{"), "has no tokenizer that can be used"),
    "an empty tokenizer": (_with("tokenizer.json", "{}"), "has no tokenizer that can be used"),
    "an adapter": (_an_adapter, r"is a PEFT adapter .*base model \('org/base'\) with adapters=.*--adapter"),
}
