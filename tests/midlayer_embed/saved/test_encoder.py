"""A saved folder without sentence-transformers: its vectors against those of sentence-transformers itself."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize
from support.architectures import SENTENCES
from support.folders.lookup import write_lookup

from midlayer_embed import MidLayerEncoder, SavedEncoder
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model
# Long, short, empty, of other scripts, and with a special token spelt out.
TEXTS = [*SENTENCES, "", "数学 🙂 ünïcödé", "a </s> b [SEP] c", "word " * 300, SENTENCES[0]]
POOLINGS = ["mean", "cls", "lasttoken", "weightedmean", "max", "mean_sqrt_len_tokens", "max+mean+cls"]
# Pooled without a token, sentence-transformers has a state of the padding there, or minus infinity.
OF_NO_TOKEN = {"cls", "max", "max+mean+cls"}


def close(found: np.ndarray, expected: Any, far: float = 1e-5) -> None:
    expected = np.asarray(expected, dtype=np.float32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=far, atol=far * max(1.0, float(np.abs(expected).max())))


def stock(folder: Path, texts: list[str], **options: Any) -> np.ndarray:
    return np.asarray(SentenceTransformer(str(folder), device="cpu").encode(texts, **options))


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Callable[..., Path]:
    """A function that saves a layer of a tiny model."""

    def save(
        layer: int = 2, model: Path = llama_folder, *, after: Sequence[torch.nn.Module] = (), **options: Any
    ) -> Path:
        folder = tmp_path_factory.mktemp("saved") / "folder"
        encoder = MidLayerEncoder(model, layer, device="cpu", **options)
        for module in after:
            encoder.append(module)
        encoder.save_pretrained(str(folder))
        return folder

    return save


@pytest.fixture(scope="module")
def lookup(save: Callable[..., Path]) -> Callable[..., Path]:
    """A function that saves what enters the first block, with a graph."""

    def lookup(**options: Any) -> Path:
        folder = save(0, final_norm=False, **options)
        write_lookup(folder)
        return folder

    return lookup


def both(folder: Path, texts: list[str], expected: np.ndarray, **options: Any) -> None:
    for backend, far in (("torch", 1e-5), ("onnx", 1e-4)):
        encoder = SavedEncoder(folder, backend, device="cpu")
        close(encoder.encode(texts, **options), expected, far)
        assert encoder.dim == expected.shape[1]


def test_vectors_are_those_of_sentence_transformers(tiny_folder: Path, save: Callable[..., Path]) -> None:
    folder = save(2, tiny_folder)
    texts = [text for text in TEXTS if text]
    encoder, expected = SavedEncoder(folder, "torch", device="cpu"), stock(folder, texts)
    for batch_size in (1, 4, 32):
        close(encoder.encode(texts, batch_size=batch_size), expected)


@pytest.mark.slow
def test_vectors_of_every_architecture(any_folder: Path, save: Callable[..., Path]) -> None:
    texts = [text for text in TEXTS if text]
    for options in ({}, {"template": "echo"}) if any_folder.name != "tiny-mamba2" else ({},):
        folder = save(2, any_folder, **options)
        close(SavedEncoder(folder, "torch", device="cpu").encode(texts), stock(folder, texts))


@pytest.mark.parametrize("name", ["t5", "gemma3", "falcon-alibi"])
def test_vectors_of_classes_that_are_loaded_otherwise(
    name: str, tiny_model: Callable[[str], Path], save: Callable[..., Path]
) -> None:
    folder, texts = save(2, tiny_model(name)), TEXTS[:3]
    close(SavedEncoder(folder, "torch", device="cpu").encode(texts), stock(folder, texts))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling(lookup: Callable[..., Path], llama_folder: Path, pooling: str) -> None:
    folder = lookup(pooling_mode=pooling)
    texts = [text for text in TEXTS if text or pooling not in OF_NO_TOKEN]
    both(folder, texts, stock(folder, texts))
    # and a text without tokens is that of the encoder that was saved
    ours = MidLayerEncoder(llama_folder, 0, final_norm=False, pooling_mode=pooling, device="cpu").encode(["", "a"])
    both(folder, ["", "a"], ours)


@pytest.mark.parametrize(
    "options",
    [
        {"template": "echo", "transform": "whiten:4", "dim": 20},
        {"template": "query: {text}", "pooling_mode": "lasttoken", "truncate_dim": 7},
        {"template": "eol", "max_seq_length": 30, "transform": "standardize"},
        {"bidirectional": True, "max_seq_length": 9},
    ],
)
def test_recipes(lookup: Callable[..., Path], save: Callable[..., Path], options: dict[str, Any]) -> None:
    fitted_on = [f"{word} {number}" for word in ("one", "rain", "He") for number in range(40)]
    texts = {"transform_texts": fitted_on} if "transform" in options else {}
    if "bidirectional" not in options:  # which needs a block
        folder = lookup(**options, **texts)
        both(folder, TEXTS, stock(folder, TEXTS))
    folder = save(2, **options, **texts, final_norm="dim" in options)
    close(SavedEncoder(folder, "torch", device="cpu").encode(TEXTS), stock(folder, TEXTS), 2e-5)


def test_every_module_after_pooling(lookup: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    norm = LayerNorm(32)
    with torch.no_grad():
        norm.norm.weight.uniform_(0.5, 2)
        norm.norm.bias.uniform_(-1, 1)
    activations = [None, torch.nn.Tanh(), torch.nn.ReLU(), torch.nn.Sigmoid(), torch.nn.GELU()]
    denses = [Dense(32, 32, activation_function=activation) for activation in activations]
    more = [Dense(32, 32, bias=False), Dense(32, 32, use_residual=True), Dense(32, 9, use_residual=True)]
    folder = lookup(after=[norm, *denses, *more, Dropout(0.5), Normalize()])
    both(folder, TEXTS, stock(folder, TEXTS))


@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts(lookup: Callable[..., Path], include_prompt: bool) -> None:
    prompts = {"query": "Find what says: ", "plain": ""}
    folder = lookup(
        prompts=prompts,
        default_prompt_name="query",
        include_prompt=include_prompt,
        pooling_mode="mean+weightedmean+cls+lasttoken",
    )
    texts = [text for text in TEXTS if text]
    for options in ({}, {"prompt_name": "plain"}, {"prompt": "It was said: "}, {"prompt": ""}):
        both(folder, texts, stock(folder, texts, **options), **options)
    encoder = SavedEncoder(folder, "torch", device="cpu")
    assert encoder.prompts == {"query": prompts["query"], "document": "", "plain": ""}
    with pytest.raises(InputError, match="prompt_name: expected one of query, document, plain, got 'other'"):
        encoder.encode(["a"], prompt_name="other")


def test_prompts_of_a_tokenizer_that_adds_special_tokens(
    save: Callable[..., Path], tiny_model: Callable[[str], Path]
) -> None:
    folder = save(2, tiny_model("bert"), prompts={"query": "Find: "}, include_prompt=False)
    found = SavedEncoder(folder, "torch", device="cpu").encode(TEXTS, prompt_name="query")
    close(found, stock(folder, TEXTS, prompt_name="query"))


def test_a_graph_with_the_vectors_is_used_unless_a_prompt_is_left_out(save: Callable[..., Path]) -> None:
    folder = save(0, final_norm=False, prompts={"query": "Find: "}, include_prompt=False)
    write_lookup(folder, width=32)  # which are zero, unlike those that are pooled
    encoder = SavedEncoder(folder, "onnx")
    assert not encoder.encode(["a text"]).any()
    close(encoder.encode(["a text"], prompt_name="query"), stock(folder, ["a text"], prompt_name="query"))


def test_one_text_normalised_and_no_text(lookup: Callable[..., Path]) -> None:
    encoder = SavedEncoder(lookup(), "onnx")
    one = encoder.encode("a text")
    assert one.shape == (encoder.dim,) and encoder.encode([]).shape == (0, encoder.dim)
    normal = encoder.encode(["a text", ""], normalize_embeddings=True)
    close(normal[0], one / np.linalg.norm(one))
    assert not normal[1].any()


def test_half_precision_is_pooled_in_float32(save: Callable[..., Path]) -> None:
    fitted_on = [f"text {number}" for number in range(60)]
    folder = save(2, dtype="bfloat16", transform="center", transform_texts=fitted_on)
    found = SavedEncoder(folder, "torch", device="cpu").encode(TEXTS)
    close(found, stock(folder, TEXTS), 4 * torch.finfo(torch.bfloat16).eps)


def test_auto_takes_the_graph_where_it_can(
    lookup: Callable[..., Path], save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lookup()
    assert SavedEncoder(folder).backend == "onnx"
    assert SavedEncoder(save()).backend == "torch"
    monkeypatch.setattr("midlayer_embed.saved.encoder.has_onnxruntime", lambda: False)
    assert SavedEncoder(folder).backend == "torch"
    monkeypatch.setattr("midlayer_embed.saved.backends.has_onnxruntime", lambda: False)
    with pytest.raises(InputError, match="needs onnxruntime: pip install"):
        SavedEncoder(folder, "onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "openvino"}, "backend: expected one of auto, onnx, torch, got 'openvino'"),
        ({"backend": "onnx", "device": "cuda"}, 'device: the backend "onnx" runs on the CPU'),
        ({"backend": "torch", "int8": True}, 'int8: expected the backend "onnx"'),
        ({"int8": True}, "model_quantized.onnx; midlayer-embed export"),
        ({"int8": "yes"}, "int8: expected True or False"),
        ({"threads": 0}, "threads: expected an int of at least 1"),
        ({"device": "nowhere"}, "device: 'nowhere' cannot be used here"),
    ],
)
def test_wrong_arguments(lookup: Callable[..., Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SavedEncoder(lookup(), **options)


def change(file: str, **entries: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **entries}))

    return spoil


def add_module(type_: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        modules = json.loads((folder / "modules.json").read_text())
        modules.append({"idx": len(modules), "name": "x", "path": "9_X", "type": type_})
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "9_X").mkdir()

    return spoil


def write(file: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(content) and None


def drop_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    dropped = next(name for name in sorted(weights) if "mlp" in name)
    save_file(
        {name: weight for name, weight in weights.items() if name != dropped},
        folder / "model.safetensors",
        {"format": "pt"},
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "modules.json").unlink(), "holds no modules.json"),
        (write("modules.json", "{"), "modules.json is not valid JSON"),
        (
            add_module("sentence_transformers.models.WordWeights"),
            "has a module sentence_transformers.models.WordWeights",
        ),
        (add_module("my_package.Normalize"), "has a module my_package.Normalize, which this reader does not know"),
        (add_module("sentence_transformers.models.Pooling"), "has a second Pooling"),
        (add_module("sentence_transformers.models.Dense"), "model.safetensors cannot be read: No such file"),
        (change("1_Pooling/config.json", pooling_mode="median"), "pools by median"),
        (
            change("1_Pooling/config.json", pooling_of="layers"),
            "says pooling_of = 'layers', which this reader does not",
        ),
        (change("sentence_bert_config.json", query_expansion={"length": 3}), "says query_expansion = "),
        (change("sentence_bert_config.json", model_args={"torch_dtype": "float16"}), "with torch_dtype = 'float16'"),
        (change("sentence_bert_config.json", do_lower_case=True), "lower-cases before its tokenizer does"),
        (
            change("sentence_bert_config.json", modality_config={"text": {"method_output_name": "pooler_output"}}),
            "takes something else than the states of tokens",
        ),
        (change("config_sentence_transformers.json", default_prompt_name="x"), "has the default prompt 'x'"),
        (
            change("tokenizer_config.json", tokenizer_class="BertTokenizer"),
            "has a tokenizer of the class BertTokenizer",
        ),
        (change("tokenizer_config.json", padding_side="left"), "pads on the left"),
        (change("tokenizer_config.json", pad_token=None), "without a token for padding"),
        (write("tokenizer.json", '{"version": "1.0"}'), "tokenizer.json cannot be read"),
        (change("adapter_config.json"), "holds an adapter"),
        (change("config.json", model_type="nothing"), "cannot be loaded"),
        (write("model.safetensors", "nothing"), "cannot be loaded"),
        (drop_weights, "have no layers.0.mlp.down_proj.weight"),
    ],
)
def test_what_is_not_known_is_refused(
    llama_2_saved: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = Path(shutil.copytree(llama_2_saved, tmp_path / "folder"))
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        SavedEncoder(folder, "torch", device="cpu")
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def llama_2_saved(save: Callable[..., Path]) -> Path:
    return save()


def test_a_graph_of_other_inputs_is_refused(lookup: Callable[..., Path]) -> None:
    import onnx

    folder = lookup()
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(str(path))
    model.graph.input[1].name = "token_type_ids"
    onnx.save(model, str(path))
    with pytest.raises(InputError, match="takes input_ids, token_type_ids and gives last_hidden_state; expected"):
        SavedEncoder(folder, "onnx")
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="model.onnx cannot be read"):
        SavedEncoder(folder, "onnx")


def test_texts_that_are_not_strings_are_refused(lookup: Callable[..., Path]) -> None:
    encoder = SavedEncoder(lookup(), "onnx")
    for texts, message in ((["a", 3], r"sentences\[1\]: expected a string"), ("\ud800", "half of a surrogate pair")):
        with pytest.raises(InputError, match=message):
            encoder.encode(texts)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("embedding", [False, True])
def test_graphs_by_export(save: Callable[..., Path], llama_folder: Path, embedding: bool) -> None:
    from midlayer_embed.encoder.onnx.graph import write_graph

    options = {"template": "echo", "transform": "whiten", "transform_texts": [f"text {n} of them" for n in range(80)]}
    folder = save(2, **options)
    (folder / "onnx").mkdir()
    write_graph(
        MidLayerEncoder(llama_folder, 2, device="cpu", **options), folder / "onnx" / "model.onnx", embedding=embedding
    )
    both(folder, TEXTS, stock(folder, TEXTS))
