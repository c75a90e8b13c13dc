"""Tiny models of every architecture, built from configs, so that no test needs a hub; an oracle of their states."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
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

from support.architectures import N_BLOCKS, NORMS, SENTENCES, VOCABULARY

ENCODERS = {"mt5": MT5EncoderModel, "t5": T5EncoderModel, "umt5": UMT5EncoderModel}
ADAPTER_WEIGHTS = "adapter_model.safetensors"

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
    elif model_type in ENCODERS:
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


def save_model(model_type: str, entries: dict[str, Any], folder: Path) -> Path:
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **entries))
    with torch.no_grad():  # norms start as identities; a final norm that does something shows whether it is applied
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() or "ln_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    _tokenizer(model_type).save_pretrained(folder)
    return folder


def plain_layer_means(folder: Path, text: str, final_norm: bool) -> torch.Tensor:
    """Every layer's vector of one text the slow plain way: `output_hidden_states`, one text at a time, mean."""
    model_type = AutoConfig.from_pretrained(folder).model_type
    model = ENCODERS.get(model_type, AutoModel).from_pretrained(folder).eval()
    projected = "projected" in folder.name  # the OPT that has no final norm
    input_ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
    with torch.inference_mode():
        last_hidden_state = model(input_ids=input_ids).last_hidden_state
        # The last entry would be the normed one, in most models by this setting, in the others in any case.
        model.config.tie_last_hidden_states = False
        norm: nn.Module = nn.Identity()
        if model_type in NORMS and not projected:
            norm = model.get_submodule(NORMS[model_type])
            model.set_submodule(NORMS[model_type], nn.Identity())
        states = list(model(input_ids=input_ids, output_hidden_states=True).hidden_states)
        if model_type in ("mamba", "mamba2"):  # [block 1, ..., block L, normed]: no embeddings, one too many
            states = [model.embeddings(input_ids), *states[:-1]]
        if not projected:
            torch.testing.assert_close(norm(states[-1]), last_hidden_state)
        if final_norm:
            states = [norm(state) for state in states]
    assert len(states) == N_BLOCKS + 1
    return torch.stack([state[0].mean(dim=0) for state in states])


def plain_token_states(folder: Path, text: str) -> list[torch.Tensor]:
    """The raw token states (t, d) of one text at every layer, by `output_hidden_states`; for models like Llama."""
    model = AutoModel.from_pretrained(folder).eval()
    model.config.tie_last_hidden_states = False
    model.norm = nn.Identity()
    with torch.inference_mode():
        inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
        return [state[0] for state in model(**inputs, output_hidden_states=True).hidden_states]


def change_adapter(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(adapter / ADAPTER_WEIGHTS)), adapter / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def save_with_modules(
    base: Path,
    folder: Path,
    *after: Callable[[int], nn.Module],
    pooling: str | tuple[str, ...] = "mean",
    include_prompt: bool = True,
    transformer: dict[str, Any] | None = None,
    **model: Any,
) -> Path:
    """A sentence-transformers folder, as sentence-transformers saves it.

    Args:
        base: Folder of the transformer.
        folder: Folder to save to.
        *after: Modules after pooling, each made from the width of the pooled vectors.
        pooling: Pooling modes.
        include_prompt: Of the Pooling module.
        transformer: Keywords of the Transformer module.
        **model: Keywords of SentenceTransformer: prompts, truncate_dim, ...
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(0)
    pool = Pooling(32, pooling, include_prompt)
    first = Transformer(str(base), **(transformer or {}))
    modules = [first, pool, *(make(pool.get_embedding_dimension()) for make in after)]
    SentenceTransformer(modules=modules, device="cpu", **model).save(str(folder), create_model_card=False)
    return folder
