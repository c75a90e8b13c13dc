"""Tiny models of every family, built from configs, so that no test needs a hub; and a plain oracle of their states."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
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


def _configs() -> dict[str, PretrainedConfig]:
    common = {"vocab_size": VOCABULARY, "hidden_size": DIM, "num_hidden_layers": N_BLOCKS, "initializer_range": 0.15}
    attention = {"intermediate_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
    return {
        "llama": LlamaConfig(**common, **attention, num_key_value_heads=2),
        "gpt_neox": GPTNeoXConfig(**common, **attention),
        "bert": BertConfig(**common, **attention),
        "mamba": MambaConfig(**common, state_size=4),
    }


FAMILIES = sorted(_configs())


def _tokenizer(bert: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; BERT's adds [CLS] and [SEP], the others add nothing and have no padding token."""
    special = ["[PAD]", "[CLS]", "[SEP]"] if bert else ["<eos>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=sorted(alphabet))
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if not bert:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family, 3 blocks, 32 dimensions, random but reproducible weights."""
    folders = {}
    for family, config in _configs().items():
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("models") / f"tiny-{family}"
        model = AutoModel.from_config(config)
        with torch.no_grad():  # norms start as identities; a final norm that does something shows whether it is applied
            for name, parameter in model.named_parameters():
                if "norm" in name.lower():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(folder)
        _tokenizer(bert=family == "bert").save_pretrained(folder)
        folders[family] = folder
    return folders


@pytest.fixture(params=FAMILIES)
def tiny_folder(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> Path:
    """One folder after the other, of every family."""
    return tiny_folders[request.param]


@pytest.fixture(scope="session")
def llama_folder(tiny_folders: dict[str, Path]) -> Path:
    """The folder of the tiny Llama, for what does not depend on the family."""
    return tiny_folders["llama"]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Eight sentences of very different lengths."""
    return list(SENTENCES)


@pytest.fixture(scope="session")
def plain_layer_means() -> Callable[[Path, str, bool], torch.Tensor]:
    """The slow plain way to every layer's vector of one text: `output_hidden_states`, one text at a time, mean."""

    def layer_means(folder: Path, text: str, final_norm: bool) -> torch.Tensor:
        model = AutoModel.from_pretrained(folder).eval()
        model.config.tie_last_hidden_states = False  # or the last entry would be the normed one
        input_ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
        with torch.inference_mode():
            output = model(input_ids=input_ids, output_hidden_states=True)
            states = list(output.hidden_states)
            if model.config.model_type == "mamba":  # [block 1, ..., block L, normed]: no embeddings, one too many
                states = [model.embeddings(input_ids), *states[:-1]]
            norm = {"llama": "norm", "gpt_neox": "final_layer_norm", "mamba": "norm_f"}.get(model.config.model_type)
            if final_norm and norm is not None:
                states = [getattr(model, norm)(state) for state in states]
                torch.testing.assert_close(states[-1], output.last_hidden_state)
        assert len(states) == N_BLOCKS + 1
        return torch.stack([state[0].mean(dim=0) for state in states])

    return layer_means
