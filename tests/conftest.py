"""Tiny models of every architecture, built from configs, so that no test needs a hub; an oracle of their states."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    MT5EncoderModel,
    PreTrainedTokenizerFast,
    T5EncoderModel,
    UMT5EncoderModel,
)

N_BLOCKS = 3
DIM = 32
VOCABULARY = 400

SENTENCES = [
    "The weather is lovely today.",
    "It is so sunny outside!",
    "He drove to the stadium.",
    "A short one.",
    "Matrices are factored into a product of an orthogonal and a triangular one, which is slower but safer.",
    "word",
    "Numbers, signs & punctuation: 3.14, (a + b)^2 = c?",
    "The mean of an empty slice is not a number, whatever the weather may be at the stadium today.",
]

_COMMON = {"vocab_size": VOCABULARY, "hidden_size": DIM, "num_hidden_layers": N_BLOCKS, "initializer_range": 0.15}
_ATTENTION = {**_COMMON, "intermediate_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
_GROUPED = {**_ATTENTION, "num_key_value_heads": 2, "pad_token_id": None}
_GEMMA = {**_ATTENTION, "num_key_value_heads": 2, "head_dim": 8}
_BERT = {**_ATTENTION, "pad_token_id": 0}
_CLS_SEP = {"cls_token_id": 1, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}
_ROBERTA = {**_ATTENTION, "pad_token_id": 1, "type_vocab_size": 1}
_FALCON = {**_COMMON, "num_attention_heads": 4, "max_position_embeddings": 128}
_T5 = {**_COMMON, "d_kv": 8, "d_ff": 64, "num_heads": 4, "tie_word_embeddings": True}
_OPT = {**_COMMON, "ffn_dim": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
_MIXED_ATTENTION = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

# Name: model type, config entries. A variant of an architecture is named after what is particular to it.
_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _GROUPED),
    "gpt_neox": ("gpt_neox", _ATTENTION),
    "bert": ("bert", _BERT),
    "mamba": ("mamba", {**_COMMON, "state_size": 4}),
    "albert": ("albert", {**_BERT, "embedding_size": 16}),
    "albert-groups": ("albert", {**_BERT, "embedding_size": 16, "num_hidden_groups": 2}),
    "camembert": ("camembert", _ROBERTA),
    "distilbert": ("distilbert", {**_BERT, "hidden_dim": 64}),
    "falcon": ("falcon", _FALCON),
    "falcon-alibi": ("falcon", {**_FALCON, "alibi": True, "parallel_attn": False}),
    "falcon-new": ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "gemma": ("gemma", _GEMMA),
    "gemma2": ("gemma2", {**_GEMMA, **_MIXED_ATTENTION}),
    "gemma3": ("gemma3_text", {**_GEMMA, **_MIXED_ATTENTION}),
    "gpt2": ("gpt2", {**_COMMON, "n_head": 4, "n_positions": 128}),
    "mamba2": ("mamba2", {**_COMMON, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "mistral": ("mistral", {**_GROUPED, "sliding_window": 8}),
    "modernbert": ("modernbert", {**_BERT, **_CLS_SEP, "local_attention": 8}),
    "mt5": ("mt5", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "opt": ("opt", {**_OPT, "word_embed_proj_dim": DIM}),
    "opt-projected": ("opt", {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "phi": ("phi", _GROUPED),
    "phi3": ("phi3", _GROUPED),
    "qwen2": ("qwen2", {**_GROUPED, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": ("qwen3", {**_GROUPED, "head_dim": 8}),
    "roberta": ("roberta", _ROBERTA),
    "t5": ("t5", _T5),
    "umt5": ("umt5", _T5),
    "xlm-roberta": ("xlm-roberta", _ROBERTA),
}
ARCHITECTURES = sorted(_MODELS)
# For what takes long and differs between kinds of models only: a decoder of each norm, an encoder, a recurrent model.
FAMILIES = ["bert", "gpt_neox", "llama", "mamba"]

_NORMS = {
    "falcon": "ln_f",
    "gpt2": "ln_f",
    "gpt_neox": "final_layer_norm",
    "mamba": "norm_f",
    "mamba2": "norm_f",
    "modernbert": "final_norm",
    "mt5": "encoder.final_layer_norm",
    "opt": "decoder.final_layer_norm",
    "phi": "final_layernorm",
    "t5": "encoder.final_layer_norm",
    "umt5": "encoder.final_layer_norm",
    **dict.fromkeys(["gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3"], "norm"),
}
_ENCODERS = {"mt5": MT5EncoderModel, "t5": T5EncoderModel, "umt5": UMT5EncoderModel}

# Tiny tensors: more threads cost more than they save.
torch.set_num_threads(1)


def _tokenizer(model_type: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the special tokens of the architecture; a decoder's adds none and cannot pad."""
    # The one token that Qwen's tokenizer would add itself, behind the vocabulary of the model.
    special = {"eos_token": "<|endoftext|>" if model_type.startswith("qwen") else "<eos>"}
    template = ""
    if model_type in ("albert", "bert", "distilbert", "modernbert"):
        special, template = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}, "[CLS] $A [SEP]"
    elif model_type in ("camembert", "roberta", "xlm-roberta"):
        special, template = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}, "<s> $A </s>"
    elif model_type in _ENCODERS:
        special, template = {"pad_token": "<pad>", "eos_token": "</s>"}, "$A </s>"
    tokens = list(special.values())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=tokens, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, number) for number, token in enumerate(tokens)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _save_model(model_type: str, entries: dict[str, Any], folder: Path) -> Path:
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **entries))
    with torch.no_grad():  # norms start as identities; a final norm that does something shows whether it is applied
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() or "ln_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    _tokenizer(model_type).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a model of any config, 3 blocks, 32 dimensions, random but reproducible weights."""

    def make(model_type: str, **entries: Any) -> Path:
        folder = tmp_path_factory.mktemp("models") / f"tiny-{model_type}"
        return _save_model(model_type, {**_GROUPED, **entries}, folder)

    return make


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves an adapter of a model, of random weights, as peft saves it after a training."""

    def make(base: Path, config: Any = None, *, head: Any = AutoModel, seed: int = 0, **entries: Any) -> Path:
        from peft import LoraConfig, get_peft_model

        given = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], **entries}
        torch.manual_seed(seed)
        model = get_peft_model(head.from_pretrained(base), (config or LoraConfig)(**given))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and "modules_to_save" not in name:
                    parameter.add_(0.15 * torch.randn_like(parameter))
                elif parameter.requires_grad:
                    parameter.mul_(1.5)
        folder: Path = tmp_path_factory.mktemp("adapters") / f"adapter-{seed}"
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of one of `ARCHITECTURES`, made when it is first asked for."""
    folders: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in folders:
            folders[name] = _save_model(*_MODELS[name], tmp_path_factory.mktemp("models") / f"tiny-{name}")
        return folders[name]

    return folder_of


@pytest.fixture(scope="session")
def tiny_types() -> set[str]:
    """The model types of `ARCHITECTURES`."""
    return {model_type for model_type, _ in _MODELS.values()}


@pytest.fixture(scope="session")
def tiny_folders(tiny_model: Callable[[str], Path]) -> dict[str, Path]:
    """A folder of each of `FAMILIES`."""
    return {family: tiny_model(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def tiny_folder(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Path:
    """One folder after the other, of each of `FAMILIES`."""
    return tiny_model(request.param)


@pytest.fixture(params=ARCHITECTURES)
def any_folder(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Path:
    """One folder after the other, of every architecture that is known."""
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def llama_folder(tiny_model: Callable[[str], Path]) -> Path:
    """The folder of the tiny Llama, for what does not depend on the family."""
    return tiny_model("llama")


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
        model = AutoModel.from_config(AutoConfig.for_model(**config))
        model.save_pretrained(folder)

    return change


_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_IMAGES = {**_SMALL, "image_size": 32, "patch_size": 16}
_BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
# What is done to the folder of a tiny Llama, and what has to be said of it.
_SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "vit": (_a_model_of({"model_type": "vit", **_IMAGES}), "architecture 'vit' is not a plain text model"),
    "clip": (
        _a_model_of({"model_type": "clip", "text_config": _SMALL, "vision_config": _IMAGES, "projection_dim": 16}),
        "architecture 'clip' is not a plain text model: its config holds the configs of several models",
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
    "no tokenizer": (_without_tokenizer, "has no tokenizer that can be used .*no file tells its vocabulary"),
    "a broken tokenizer": (_with("tokenizer.json", "{"), "has no tokenizer that can be used"),
    "an empty tokenizer": (_with("tokenizer.json", "{}"), "has no tokenizer that can be used"),
    "an adapter": (_an_adapter, r"is a PEFT adapter .*base model \('org/base'\) with adapters=.*--adapter"),
}


@pytest.fixture(params=sorted(_SPOILT))
def spoilt_folder(request: pytest.FixtureRequest, llama_folder: Path, tmp_path: Path) -> tuple[Path, str]:
    """One folder after the other that is not what a model's folder should be, and a pattern of what to say of it."""
    spoil, message = _SPOILT[request.param]
    folder = Path(shutil.copytree(llama_folder, tmp_path / "spoilt"))
    spoil(folder)
    return folder, message


@pytest.fixture
def no_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported is not tried in a process of its own, whose imports take longer than all else."""
    monkeypatch.setattr("midlayer_embed.encoder.export._difference_to_a_stranger", lambda _encoder, _folder: 0.0)


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Eight sentences of very different lengths."""
    return list(SENTENCES)


@pytest.fixture(scope="session")
def plain_layer_means() -> Callable[[Path, str, bool], torch.Tensor]:
    """The slow plain way to every layer's vector of one text: `output_hidden_states`, one text at a time, mean."""

    def layer_means(folder: Path, text: str, final_norm: bool) -> torch.Tensor:
        model_type = AutoConfig.from_pretrained(folder).model_type
        model = _ENCODERS.get(model_type, AutoModel).from_pretrained(folder).eval()
        projected = "projected" in folder.name  # the OPT that has no final norm
        input_ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
        with torch.inference_mode():
            last_hidden_state = model(input_ids=input_ids).last_hidden_state
            # The last entry would be the normed one, in most models by this setting, in the others in any case.
            model.config.tie_last_hidden_states = False
            norm: nn.Module = nn.Identity()
            if model_type in _NORMS and not projected:
                norm = model.get_submodule(_NORMS[model_type])
                model.set_submodule(_NORMS[model_type], nn.Identity())
            states = list(model(input_ids=input_ids, output_hidden_states=True).hidden_states)
            if model_type in ("mamba", "mamba2"):  # [block 1, ..., block L, normed]: no embeddings, one too many
                states = [model.embeddings(input_ids), *states[:-1]]
            if not projected:
                torch.testing.assert_close(norm(states[-1]), last_hidden_state)
            if final_norm:
                states = [norm(state) for state in states]
        assert len(states) == N_BLOCKS + 1
        return torch.stack([state[0].mean(dim=0) for state in states])

    return layer_means


@pytest.fixture(scope="session")
def plain_token_states() -> Callable[[Path, str], list[torch.Tensor]]:
    """The raw token states (t, d) of one text at every layer, by `output_hidden_states`; of models like Llama."""

    def token_states(folder: Path, text: str) -> list[torch.Tensor]:
        model = AutoModel.from_pretrained(folder).eval()
        model.config.tie_last_hidden_states = False
        model.norm = nn.Identity()
        with torch.inference_mode():
            inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
            return [state[0] for state in model(**inputs, output_hidden_states=True).hidden_states]

    return token_states
