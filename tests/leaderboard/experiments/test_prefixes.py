"""Entropy over the length of a text: one pass for all lengths against a pass of its own for each prefix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from support.architectures import SENTENCES
from tokenizers import processors

from leaderboard.experiments import prefixes, prompt_length, sequence_length
from leaderboard.experiments.prefixes import draw_sequence_length, summary_sequence_length
from leaderboard.report.figures import save_figure
from midlayer_embed import LayerwiseEncoder, metrics
from midlayer_embed.errors import InputError
from midlayer_embed.models.bidirectional import is_causal

pytestmark = pytest.mark.model

_LENGTHS = [2, 3, 5, 8]
_CAUSAL = ["gemma2", "gpt2", "gpt_neox", "llama", "mamba", "mamba2", "mistral", "opt", "phi", "qwen2"]
_NOT_CAUSAL = ["albert", "bert", "distilbert", "modernbert", "mt5", "roberta", "t5"]

MakeAdapter = Callable[..., Path]


@pytest.fixture
def llm2vec(llama_folder: Path, make_adapter: MakeAdapter) -> LayerwiseEncoder:
    """A Llama with bidirectional attention and an adapter, raw states."""
    adapter = make_adapter(llama_folder, seed=1, target_modules=["q_proj", "down_proj"])
    return LayerwiseEncoder(llama_folder, final_norm=False, bidirectional=True, adapters=[adapter])


def _states(every: LayerwiseEncoder, ids: list[int]) -> list[torch.Tensor]:
    """The raw states of one text at every layer, unpadded."""
    found: list[torch.Tensor] = []

    def keep(_module: Any, _args: Any, out: Any) -> None:
        found.append((out if isinstance(out, torch.Tensor) else out[0])[0])

    def keep_input(_module: Any, args: Any, kwargs: Any) -> None:
        if not found:
            found.append((args[0] if args else kwargs["hidden_states"])[0])

    blocks = every.backbone.blocks
    handles = [block.register_forward_hook(keep) for block in dict.fromkeys(blocks)]
    handles.append(blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True))
    with torch.inference_mode():
        every.backbone.model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return found


def _plain(every: LayerwiseEncoder, lengths: list[int], n_end: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread over the texts, each prefix encoded alone: (n_lengths, n_layers) each."""
    texts = [every.backbone.tokenizer(text)["input_ids"] for text in SENTENCES]
    texts = [ids for ids in texts if len(ids) >= lengths[-1]]

    def entropies(prefix: list[int]) -> list[float]:
        return [float(metrics.prompt_entropy(layer)) for layer in _states(every, prefix)]

    values = np.array([[entropies(ids[: n - n_end] + ids[len(ids) - n_end :]) for ids in texts] for n in lengths])
    return values.mean(axis=1), values.std(axis=1)


def _table(found: pl.DataFrame, column: str, normalization: str = "raw") -> np.ndarray:
    rows = found.filter(normalization=normalization).sort("length", "layer")
    return rows[column].to_numpy().reshape(found["length"].n_unique(), -1)


def _passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the number of tokens of each pass."""
    counted: list[int] = []
    run = LayerwiseEncoder.pooled_batches

    def watched(self: LayerwiseEncoder, token_ids: Any, *args: Any, **options: Any) -> Any:
        counted.append(int(token_ids.lengths.sum()))
        return run(self, token_ids, *args, **options)

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", watched)
    return counted


@pytest.mark.parametrize("name", _CAUSAL)
def test_one_pass_of_a_causal_model_gives_what_a_pass_of_each_prefix_gives(
    tiny_model: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = LayerwiseEncoder(tiny_model(name), final_norm=False)
    counted = _passes(monkeypatch)
    table = sequence_length(every, SENTENCES, _LENGTHS, batch_tokens=24)
    n_texts = table["n_texts"][0]
    assert counted == [n_texts * _LENGTHS[-1]]  # the tokens after the longest prefix are not encoded
    means, spreads = _plain(every, _LENGTHS, n_end=0)
    np.testing.assert_allclose(_table(table, "value"), means, atol=1e-5)
    np.testing.assert_allclose(_table(table, "std"), spreads, atol=1e-5)


@pytest.mark.parametrize("name", _NOT_CAUSAL)
def test_other_models_encode_each_prefix_as_their_tokenizer_cuts_it(
    tiny_model: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = LayerwiseEncoder(tiny_model(name), final_norm=False)
    counted = _passes(monkeypatch)
    table = sequence_length([every], SENTENCES, _LENGTHS)
    assert counted == [table["n_texts"][0] * length for length in _LENGTHS]
    means, spreads = _plain(every, _LENGTHS, n_end=1)
    np.testing.assert_allclose(_table(table, "value"), means, atol=1e-5)
    np.testing.assert_allclose(_table(table, "std"), spreads, atol=1e-5)


def test_a_bidirectional_llama_with_an_adapter_is_not_taken_for_a_causal_one(llm2vec: LayerwiseEncoder) -> None:
    table = sequence_length(llm2vec, SENTENCES, _LENGTHS)
    np.testing.assert_allclose(_table(table, "value"), _plain(llm2vec, _LENGTHS, n_end=0)[0], atol=1e-5)


@pytest.mark.parametrize("name", [*_CAUSAL, *_NOT_CAUSAL])
def test_whether_a_model_is_causal_is_measured(tiny_model: Callable[[str], Path], name: str) -> None:
    assert is_causal(LayerwiseEncoder(tiny_model(name)).backbone.model) == (name in _CAUSAL)


def test_tokens_that_a_causal_models_tokenizer_adds_at_the_end_are_cut_off(llama_folder: Path) -> None:
    plain = LayerwiseEncoder(llama_folder, final_norm=False)
    ended = LayerwiseEncoder(llama_folder, final_norm=False)
    tokenizer = ended.backbone.tokenizer
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end[0]}", special_tokens=[end]
    )
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    expected, found = (sequence_length(every, SENTENCES, _LENGTHS) for every in (plain, ended))
    np.testing.assert_allclose(_table(found, "value"), _table(expected, "value"), atol=1e-6)
    longest = max(len(plain.backbone.tokenizer(text)["input_ids"]) for text in SENTENCES)
    with pytest.raises(InputError, match=f"lengths: the longest text has {longest} tokens, none has {longest + 1}"):
        sequence_length(ended, SENTENCES, [longest + 1])


def test_the_means_are_those_of_prompt_length(tiny_folders: dict[str, Path]) -> None:
    for folder in tiny_folders.values():
        options: dict[str, Any] = {"lengths": [4, 8], "min_tokens": 3}
        found = sequence_length(folder, SENTENCES, **options)
        expected = prompt_length(folder, SENTENCES, metrics=["prompt_entropy"], **options)
        for normalization in ("raw", "maxEntropy", "logN", "logD", "logNlogD"):
            values = [_table(table, "value", normalization) for table in (found, expected)]
            np.testing.assert_allclose(*values, atol=1e-5)


def test_models_side_by_side_share_texts_and_lengths(tiny_folders: dict[str, Path]) -> None:
    table = sequence_length(list(tiny_folders.values()), SENTENCES, layers=[0.5, -1])
    assert table["model"].n_unique() == len(tiny_folders)
    assert table["n_texts"].n_unique() == 1
    by_model = table.group_by("model").agg(pl.col("length").unique().sort(), pl.col("layer").unique().sort())
    assert by_model["length"].n_unique() == 1
    assert by_model["layer"].to_list() == [[2, 3]] * len(tiny_folders)
    assert table.filter(layer=2)["depth"].unique().to_list() == [2 / 3]
    alone = sequence_length(tiny_folders["llama"], SENTENCES, table["length"].unique().to_list(), [2, 3])
    shared = table.filter(model=alone["model"][0])
    if alone["n_texts"][0] == shared["n_texts"][0]:
        np.testing.assert_allclose(shared["value"], alone["value"], atol=1e-6)


def test_neither_the_order_of_texts_nor_batches_matter(llama_raw: LayerwiseEncoder) -> None:
    one = sequence_length(llama_raw, SENTENCES, [4, 8], max_texts=6, seed=1)
    other = sequence_length(llama_raw, SENTENCES[::-1], [8, 4, 4], max_texts=6, seed=1, batch_tokens=8)
    np.testing.assert_allclose(one["value"], other["value"], atol=1e-6)


def test_one_token_over_and_over_has_no_entropy(llama_raw: LayerwiseEncoder) -> None:
    """Its states at layer 0 are alike: they are zero once they are centred, not 0 / 0."""
    ids = llama_raw.backbone.tokenizer("word " * 20)["input_ids"]
    text = llama_raw.backbone.tokenizer.decode([ids[1]] * 12)
    table = sequence_length(llama_raw, [text], [2, 4], layers=[0])
    assert table["value"].to_list() == [0.0] * len(table)
    assert table["std"].to_list() == [0.0] * len(table)


def test_models_of_one_name_are_told_apart(
    llama_raw: LayerwiseEncoder, llm2vec: LayerwiseEncoder, tmp_path: Path
) -> None:
    table = sequence_length([llama_raw, llm2vec], SENTENCES)
    assert table["model"].n_unique() == 1 and table["revision"].n_unique() == 2
    small = summary_sequence_length(table)
    assert small["model"].n_unique() == 2
    assert len(small) <= 12
    with pytest.raises(InputError, match="models: local/tiny-llama is there twice, with the same weights"):
        sequence_length([llama_raw, llama_raw], SENTENCES)


def test_the_figure_and_the_small_table_need_only_the_table(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    table = sequence_length([tiny_folders["llama"], tiny_folders["gpt_neox"]], SENTENCES)
    table.write_parquet(tmp_path / "table.parquet")
    read = pl.read_parquet(tmp_path / "table.parquet")
    save_figure(draw_sequence_length(read), tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert all(f">layer {layer}<" in drawn for layer in range(4))
    small = summary_sequence_length(read)
    assert small.columns == ["model", "layer", "first", "last", "std_last", "a_doubling"]
    assert small.select("model", "layer").rows() == table.select("model", "layer").unique(maintain_order=True).rows()
    for row in small.iter_rows(named=True):
        curve = table.filter(model=row["model"], layer=row["layer"], normalization="raw").sort("length")
        assert (row["first"], row["last"]) == (curve["value"][0], curve["value"][-1])
        assert row["std_last"] == curve["std"][-1]
        slope = (row["last"] - row["first"]) / np.log2(curve["length"][-1] / curve["length"][0])
        assert row["a_doubling"] == pytest.approx(slope)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": [4, 1]}, "lengths: expected an int of at least 2, got 1"),
        ({"template": "echo"}, "template: the tokens of plain texts are changed"),
        ({"normalizations": ["x"]}, "normalizations: expected some of"),
        ({"seed": -1}, "seed: expected an int of at least 0"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_looked_for(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sequence_length(["no/such-model"], SENTENCES, **arguments)
    with pytest.raises(InputError, match="models: expected at least one model, got none"):
        sequence_length([], SENTENCES)


def test_a_layer_out_of_range_is_said_before_a_pass(
    llama_raw: LayerwiseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixes, "_prefix_entropies", None)
    with pytest.raises(InputError, match="layer: 9 is out of range"):
        sequence_length(llama_raw, SENTENCES, layers=[9])


def test_the_first_token_can_be_left_out(llama_raw: LayerwiseEncoder) -> None:
    found = sequence_length(llama_raw, SENTENCES, [3, 8], first_token=False)
    texts = [llama_raw.backbone.tokenizer(text)["input_ids"] for text in SENTENCES]
    states = [_states(llama_raw, ids) for ids in texts if len(ids) >= 8]
    for length in (3, 8):
        curve = found.filter(length=length, normalization="raw").sort("layer")["value"].to_numpy()
        expected = [[float(metrics.prompt_entropy(layer[1:length])) for layer in text] for text in states]
        np.testing.assert_allclose(curve, np.mean(expected, axis=0), atol=1e-5)
        divided = found.filter(length=length, normalization="logN").sort("layer")["value"].to_numpy()
        np.testing.assert_allclose(divided * np.log(length - 1), curve, rtol=1e-12)
    assert not found["first_token"].any()
    with pytest.raises(
        InputError, match="lengths: expected at least 3 tokens, of which the first does not count, got 2"
    ):
        sequence_length("no/such-model", SENTENCES, [2, 8], first_token=False)
    cut = prompt_length(llama_raw, SENTENCES, [3, 8], metrics=["prompt_entropy"], first_token=False)
    for normalization in ("raw", "logN"):
        np.testing.assert_allclose(
            _table(found, "value", normalization), _table(cut, "value", normalization), atol=1e-5
        )
