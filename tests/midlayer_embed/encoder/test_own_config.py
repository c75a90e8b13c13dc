"""The last layer of a sentence-transformers folder is that folder; the oracle is plain sentence-transformers."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize
from support.architectures import SENTENCES
from support.tiny_models import save_with_modules

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.models.sentence_transformers_config import LAST_LAYER_MODULES, NORMALIZE, OwnConfig

# Texts that differ by case, by the limit and by a prompt, and the empty one.
TEXTS = [*SENTENCES[:4], "", "A word in UPPER case " * 20]
POOLING = ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens", ("cls", "mean"), ("max", "cls")]
PROMPTS = {"prompts": {"query": "query: ", "topic": "about it: "}, "default_prompt_name": "topic"}


def _dense(width: int, activation: Any = None, bias: bool = True) -> Callable[[int], torch.nn.Module]:
    return lambda dim: Dense(dim, width, bias=bias, activation_function=activation)


# What a folder may say besides its pooling: modules after it, and keywords of `save_with_modules`.
SAID: dict[str, tuple[list[Callable[[int], torch.nn.Module]], dict[str, Any]]] = {
    "nothing": ([], {}),
    "normalize": ([lambda _: Normalize()], {}),
    "dense": ([_dense(7, torch.nn.Tanh())], {}),
    "wide dense, normalize": ([_dense(40, torch.nn.Identity(), bias=False), lambda _: Normalize()], {}),
    "normalize, two dense": ([lambda _: Normalize(), _dense(7, torch.nn.GELU()), lambda _: Dense(7, 9)], {}),
    "norm, dropout, normalize twice": ([LayerNorm, lambda _: Dropout(), *[lambda _: Normalize()] * 2], {}),
    "default prompt": ([], PROMPTS),
    "default prompt that is not pooled": ([_dense(7)], {**PROMPTS, "include_prompt": False}),
    "lower case": ([], {"transformer": {"do_lower_case": True}}),
    "limit": ([], {"transformer": {"max_seq_length": 9}}),
    "truncation": ([lambda _: Normalize()], {"truncate_dim": 5, "similarity_fn_name": "dot"}),
}
# Every pooling alone and with one more thing; every other thing with the mean.
GRID = [
    *((mode, said) for mode in POOLING for said in ("nothing", "default prompt that is not pooled")),
    *(("mean", said) for said in SAID if said not in ("nothing", "default prompt that is not pooled")),
    *((("cls", "mean"), said) for said in ("wide dense, normalize", "truncation")),
]


def _folder(base: Path, folder: Path, said: str, **entries: Any) -> Path:
    modules, keywords = SAID[said]
    return save_with_modules(base, folder, *modules, **{**keywords, **entries})


def _plain(folder: Path) -> np.ndarray:
    vectors: np.ndarray = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    return vectors


@pytest.mark.parametrize(("pooling", "said"), GRID, ids=lambda value: str(value).replace(" ", "-"))
def test_the_last_layer_is_the_folder_and_so_is_what_it_saves(
    tiny_model: Callable[[str], Path], tmp_path: Path, pooling: str | tuple[str, ...], said: str
) -> None:
    folder = _folder(tiny_model("bert"), tmp_path / "folder", said, pooling=pooling)
    expected = _plain(folder)
    encoder = MidLayerEncoder(folder, -1)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    encoder.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    np.testing.assert_allclose(_plain(tmp_path / "saved"), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "llama", "mamba"])
def test_a_decoder_that_adds_no_tokens_is_its_folder_too(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    pad = {} if name == "bert" else {"processor_kwargs": {"pad_token": "<eos>"}}
    folder = _folder(
        tiny_model(name), tmp_path / "f", "wide dense, normalize", pooling=("mean", "lasttoken"), transformer=pad
    )
    np.testing.assert_allclose(MidLayerEncoder(folder, -1).encode(TEXTS), _plain(folder), atol=1e-5)


def test_what_the_folder_says_of_queries_and_similarity_holds_at_every_layer(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = _folder(tiny_model("bert"), tmp_path / "f", "default prompt", similarity_fn_name="euclidean")
    plain = SentenceTransformer(str(folder), device="cpu")
    for layer in (1, -1):
        encoder = MidLayerEncoder(folder, layer)
        assert encoder.prompts == plain.prompts
        assert encoder.default_prompt_name == "topic"
        assert encoder.similarity_fn_name == "euclidean"
    np.testing.assert_allclose(encoder.encode_query(TEXTS), plain.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_document(TEXTS), plain.encode_document(TEXTS), atol=1e-5)
    given = MidLayerEncoder(folder, 1, prompts={"topic": "mine: "}, similarity_fn_name="cosine")
    assert given.prompts == {**plain.prompts, "topic": "mine: "} and given.similarity_fn_name == "cosine"


def test_lower_layers_share_pooling_limit_prompt_and_normalize_and_say_what_they_leave_out(
    tiny_model: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny_model("bert")
    modules, keywords = SAID["wide dense, normalize"][0], {**PROMPTS, "transformer": {"max_seq_length": 9}}
    full = save_with_modules(base, tmp_path / "full", *modules, pooling=("cls", "mean"), truncate_dim=5, **keywords)
    # The same folder without what only the last layer has, cut after block 2.
    short = save_with_modules(base, tmp_path / "short", lambda _: Normalize(), pooling=("cls", "mean"), **keywords)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with caplog.at_level(logging.WARNING, "midlayer_embed"):
        encoder = MidLayerEncoder(full, 2)
    assert caplog.messages == ["local/full: layers below the last leave out Dense, truncate_dim=5"]
    np.testing.assert_allclose(encoder.encode(TEXTS), _plain(short), atol=1e-5)
    pooled = LayerwiseEncoder(full).encode(TEXTS)
    assert pooled.shape == (len(TEXTS), 4, 64)
    lengths = np.linalg.norm(pooled, axis=2, keepdims=True)
    np.testing.assert_allclose((pooled / lengths)[:, 2], encoder.encode(TEXTS), atol=1e-5)
    encoder.save_pretrained(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "| pooling | cls+mean, then scaled to length 1 |" in card
    assert (
        "what the base model has for its last layer: Dense, truncate\\_dim=5" in card or "Dense, truncate_dim=5" in card
    )
    MidLayerEncoder(full, -1).save_pretrained(str(tmp_path / "last"))
    assert (
        "| pooling | cls+mean, then Dense, then scaled to length 1 |" in (tmp_path / "last" / "README.md").read_text()
    )


def test_a_prompt_that_is_not_pooled_is_left_out_of_every_layers_vector(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    for mode in ("mean", "weightedmean", "cls"):
        folder = _folder(tiny_model("bert"), tmp_path / mode, "default prompt", pooling=mode, include_prompt=False)
        np.testing.assert_allclose(LayerwiseEncoder(folder).encode(TEXTS)[:, -1], _plain(folder), atol=1e-5)


def test_an_explicit_value_wins_at_every_layer(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = save_with_modules(tiny_model("bert"), tmp_path / "f", pooling="cls", **PROMPTS)
    for layer in (1, -1):
        own, given = MidLayerEncoder(folder, layer), MidLayerEncoder(folder, layer, pooling_mode="mean")
        assert (own.recipe.pooling_mode, given.recipe.pooling_mode) == ("cls", "mean")
        assert np.abs(own.encode(TEXTS) - given.encode(TEXTS)).max() > 0.01
        same = MidLayerEncoder(folder, layer, pooling_mode="cls")
        np.testing.assert_array_equal(same.encode(TEXTS), own.encode(TEXTS))
    assert LayerwiseEncoder(folder).recipe.pooling_mode == "cls"
    assert LayerwiseEncoder(folder, pooling_mode="max+mean").dim == 64
    with pytest.raises(ValueError, match=r"expected one of mean, .*or several joined by \+, got 'mean\+sum'"):
        MidLayerEncoder(folder, 1, pooling_mode="mean+sum")


def test_a_pooling_that_the_folders_dense_does_not_take_is_refused(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = _folder(tiny_model("bert"), tmp_path / "f", "dense")
    with pytest.raises(ValueError, match="pooling gives vectors of 64 dimensions, and the Dense of .* takes 32"):
        MidLayerEncoder(folder, -1, pooling_mode="cls+mean")
    assert MidLayerEncoder(folder, 1, pooling_mode="cls+mean").get_embedding_dimension() == 64


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba", "falcon", "umt5", "albert-groups", "bert"])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_raw_export_is_itself_when_it_is_loaded_again(
    tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path, name: str, layer: int
) -> None:
    if (name, layer) in (("falcon", 3), ("umt5", 3)):
        pytest.skip("no stock form gives these states")
    MidLayerEncoder(tiny_model(name), layer, final_norm=False).save_pretrained(str(tmp_path / "first"))
    expected = SentenceTransformer(str(tmp_path / "first"), device="cpu").encode(sentences)
    again = MidLayerEncoder(tmp_path / "first", -1)
    assert (again.layer, again.n_layers) == (layer, layer + 1)
    np.testing.assert_array_equal(again.encode(sentences), expected)
    every = LayerwiseEncoder(tmp_path / "first")
    assert every.n_layers == layer + 1
    np.testing.assert_allclose(every.encode(sentences)[:, -1], expected, atol=1e-5)
    middle = MidLayerEncoder(tmp_path / "first", 1).encode(sentences)
    np.testing.assert_allclose(
        middle, MidLayerEncoder(tiny_model(name), 1, final_norm=False).encode(sentences), atol=1e-5
    )
    again.save_pretrained(str(tmp_path / "second"), create_model_card=False)
    twice = SentenceTransformer(str(tmp_path / "second"), device="cpu").encode(sentences)
    np.testing.assert_array_equal(twice, expected)


def test_an_explicit_norm_wins_over_a_raw_export(llama_folder: Path, sentences: list[str], tmp_path: Path) -> None:
    MidLayerEncoder(llama_folder, 2, final_norm=False).save_pretrained(str(tmp_path), create_model_card=False)
    assert MidLayerEncoder(tmp_path, -1).recipe.final_norm is False
    normed = MidLayerEncoder(tmp_path, -1, final_norm=True).encode(sentences)
    np.testing.assert_allclose(normed, MidLayerEncoder(llama_folder, 2).encode(sentences), atol=1e-5)


def _rewrite(folder: Path, name: str, **entries: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **entries}))


def _add_module(folder: Path, kind: str, *, at: int | None = None) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    module = {"idx": 9, "name": "9", "path": "9_Extra", "type": kind}
    modules.insert(len(modules) if at is None else at, module)
    (folder / "modules.json").write_text(json.dumps(modules))


_CHAT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
UNSUPPORTED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "CNN": ("CNN", lambda f: _add_module(f, "sentence_transformers.models.CNN", at=1)),
    "LSTM": ("LSTM", lambda f: _add_module(f, "sentence_transformers.models.LSTM", at=1)),
    "two poolings": ("Pooling", lambda f: _add_module(f, "sentence_transformers.models.Pooling")),
    "custom": ("my_code.Whitening", lambda f: _add_module(f, "my_code.Whitening")),
    "custom Normalize": ("my_code.Normalize", lambda f: _add_module(f, "my_code.Normalize")),
    "sparse": (
        "a SparseEncoder",
        lambda f: _rewrite(f, "config_sentence_transformers.json", model_type="SparseEncoder"),
    ),
    "task": (
        "transformer_task='fill-mask'",
        lambda f: _rewrite(f, "sentence_bert_config.json", transformer_task="fill-mask"),
    ),
    "chat": (
        "a chat template around every text",
        lambda f: _rewrite(
            f,
            "sentence_bert_config.json",
            modality_config={**_CHAT, "message": _CHAT["text"]},
            module_output_name="token_embeddings",
        ),
    ),
    "pooler": (
        "pooler_output of its transformer",
        lambda f: _rewrite(
            f,
            "sentence_bert_config.json",
            modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
            module_output_name="token_embeddings",
        ),
    ),
    "query length": (
        "query_length of its transformer",
        lambda f: _rewrite(f, "sentence_bert_config.json", query_length=4),
    ),
    "config": (
        "rope_scaling of its config_kwargs",
        lambda f: _rewrite(f, "sentence_bert_config.json", config_args={"rope_scaling": {}}),
    ),
    "token dense": (
        "Dense",
        lambda f: (
            _add_module(f, "sentence_transformers.models.Dense"),
            (f / "9_Extra").mkdir(),
            _rewrite(f, "9_Extra/config.json", module_input_name="token_embeddings"),
        )[0],
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_our_layers_cannot_give_refuses_the_last_layer_and_is_left_out_below_with_a_word(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    case: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    what, spoil = UNSUPPORTED[case]
    folder = _folder(tiny_model("bert"), tmp_path / "folder", "normalize")
    expected = MidLayerEncoder(folder, 2).encode(TEXTS)
    spoil(folder)
    with caplog.at_level(logging.WARNING, "midlayer_embed"):
        np.testing.assert_array_equal(MidLayerEncoder(folder, 2).encode(TEXTS), expected)
    assert caplog.messages == [f"local/folder: layers below the last leave out {what}"]
    arguments = ["export", str(folder), str(tmp_path / "out"), "--layer", "-1"]
    capsys.readouterr()  # the progress bars of sentence-transformers
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"the last layer of {folder} is the model itself, which has {what}; use SentenceTransformer" in line


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "modules.json").write_text("{"), "modules.json is not valid JSON"),
        (lambda f: (f / "modules.json").write_text('[{"type": "a"}]'), "is not a list of modules"),
        (lambda f: (f / "modules.json").write_text('[{"type": "a", "path": "../b"}]'), "is not a list of modules"),
        (lambda f: _rewrite(f, "1_Pooling/config.json", pooling_mode="sum"), "the Pooling of .* has the mode 'sum'"),
        (lambda f: _rewrite(f, "sentence_bert_config.json", max_seq_length="long"), "max_seq_length: .*got 'long'"),
        (lambda f: _rewrite(f, "config_sentence_transformers.json", truncate_dim=0), "truncate_dim: .*got 0"),
        (
            lambda f: _rewrite(f, "config_sentence_transformers.json", default_prompt_name="no"),
            "'no', which is none of",
        ),
        (lambda f: (f / "1_Pooling" / "config.json").write_text("[]"), "does not hold a JSON object"),
    ],
)
def test_damaged_configs_are_one_line(
    llama_folder: Path, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    MidLayerEncoder(llama_folder, 2).save_pretrained(str(tmp_path), create_model_card=False)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        MidLayerEncoder(tmp_path, -1)


def test_a_model_without_a_transformer_is_named_as_what_it_is(tmp_path: Path) -> None:
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="has no layers: its first module is StaticEmbedding, not a Transformer"):
        MidLayerEncoder(tmp_path, -1)


def test_weights_of_a_module_that_are_a_pickle_are_not_read(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = _folder(tiny_model("bert"), tmp_path / "f", "dense")
    weights = folder / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), folder / "2_Dense" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ValueError, match="2_Dense of .* has no model.safetensors; other formats can run code"):
        MidLayerEncoder(folder, -1)
    assert MidLayerEncoder(folder, 1).get_embedding_dimension() == 32  # which does not need it


def test_old_flags_of_pooling_are_read(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = _folder(tiny_model("bert"), tmp_path / "f", "nothing")
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **flags}))
    assert MidLayerEncoder(folder, 1).recipe.pooling_mode == "cls+max"
    np.testing.assert_allclose(MidLayerEncoder(folder, -1).encode(TEXTS), _plain(folder), atol=1e-5)


def test_lower_casing_in_an_old_config_holds_at_every_layer(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Newer ones leave it to the tokenizer's files."""
    folder = _folder(tiny_model("bert"), tmp_path / "f", "nothing")
    cased = LayerwiseEncoder(folder).encode(TEXTS)
    _rewrite(folder, "sentence_bert_config.json", do_lower_case=True)
    np.testing.assert_allclose(MidLayerEncoder(folder, -1).encode(TEXTS), _plain(folder), atol=1e-5)
    lower = LayerwiseEncoder(folder).encode(TEXTS)
    assert (np.abs(lower - cased).max(axis=(0, 2)) > 0.01).all()
    np.testing.assert_allclose(MidLayerEncoder(folder, 1).encode(TEXTS), lower[:, 1], atol=1e-5)


def test_a_transformer_in_a_folder_of_its_own_is_found(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """As sentence-transformers of 2020 saved them."""
    folder = _folder(tiny_model("bert"), tmp_path / "old", "dense", transformer={"max_seq_length": 9})
    inside = folder / "0_Transformer"
    inside.mkdir()
    kept = ("modules.json", "config_sentence_transformers.json")
    for path in [path for path in folder.iterdir() if path.is_file() and path.name not in kept]:
        shutil.move(path, inside / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    expected = _plain(folder)
    encoder = MidLayerEncoder(folder, -1)
    assert encoder.checkpoint.name == "local/old" and encoder.max_seq_length == 9
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    encoder.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    np.testing.assert_allclose(_plain(tmp_path / "saved"), expected, atol=1e-5)
    before = MidLayerEncoder(folder, 1).checkpoint.revision
    _rewrite(inside, "config.json", layer_norm_eps=0.5)
    assert MidLayerEncoder(folder, 1).checkpoint.revision != before


def test_the_table_of_the_documentation_names_every_entry() -> None:
    page = (Path(__file__).parents[3] / "docs" / "concepts" / "layers.md").read_text(encoding="utf-8")
    table = page.partition("## What a sentence-transformers folder says")[2]
    entries = [
        "max_seq_length",
        "do_lower_case",
        "prompts",
        "default_prompt_name",
        "similarity_fn_name",
        "truncate_dim",
    ]
    entries += ["include_prompt", "method_output_name", "Pooling", NORMALIZE, *LAST_LAYER_MODULES]
    assert [name for name in entries if name not in table] == []
    assert OwnConfig().for_the_last_layer == ()
