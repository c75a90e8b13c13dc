"""Repeated, random and cut prompts, against texts that are changed and measured one by one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from support.architectures import FAMILIES, SENTENCES

from leaderboard.experiments import prompt_length, prompts, randomness, repetition
from leaderboard.report.figures import save_figure
from midlayer_embed import LayerwiseEncoder, metrics, profile_layers
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model

_P = [0, 0.4, 1]


def _curve(table: pl.DataFrame, metric: str, normalization: str = "raw", **where: float) -> np.ndarray:
    return table.filter(metric=metric, normalization=normalization, **where).sort("layer")["value"].to_numpy()


def _plain(every: LayerwiseEncoder, prompts: list[list[int]]) -> dict[str, np.ndarray]:
    """The metrics of every layer, one prompt at a time, unpadded, its token states kept."""
    states: list[list[torch.Tensor]] = []

    def keep(_module: Any, _args: Any, out: Any) -> None:
        states[-1].append((out if isinstance(out, torch.Tensor) else out[0])[0])

    def keep_input(_module: Any, args: Any, kwargs: Any) -> None:
        states[-1].append((args[0] if args else kwargs["hidden_states"])[0])

    blocks = every.backbone.blocks
    handles = [blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    handles += [block.register_forward_hook(keep) for block in blocks]
    with torch.inference_mode():
        for ids in prompts:
            states.append([])
            every.backbone.model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    layers = list(zip(*states, strict=True))
    entropies = [[float(metrics.prompt_entropy(text)) for text in layer if len(text) > 1] for layer in layers]
    vectors = [np.stack([text.mean(dim=0).numpy() for text in layer]) for layer in layers]
    return {
        "prompt_entropy": np.array([np.mean(values) for values in entropies]),
        "dataset_entropy": np.array([float(metrics.dataset_entropy(layer)) for layer in vectors]),
    }


@pytest.mark.parametrize("experiment", [repetition, randomness])
@pytest.mark.parametrize("family", FAMILIES)
def test_p_0_is_the_profile_of_the_texts(
    family: str, experiment: Callable[..., pl.DataFrame], tiny_folders: dict[str, Path]
) -> None:
    table = experiment(tiny_folders[family], SENTENCES, p=[0, 1], metrics=["prompt_entropy", "effective_rank"])
    profile = profile_layers(tiny_folders[family], SENTENCES, ["prompt_entropy", "effective_rank"])
    for metric, curve in profile.values.items():
        np.testing.assert_allclose(_curve(table, metric, p=0), curve, rtol=1e-5)
        assert np.abs(_curve(table, metric, p=1) - curve).max() > 1e-3
    assert table["final_norm"].to_list() == [False] * len(table)
    assert table.schema["p"] == pl.Float64
    assert table.columns[:8] == ["model", "revision", "p", "layer", "depth", "metric", "normalization", "value"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_p_is_measured_on_the_changed_tokens(
    family: str, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = LayerwiseEncoder(tiny_folders[family], final_norm=False)
    made: list[list[list[int]]] = []
    measure = prompts.profile_tokens

    def watched(encoder: Any, token_ids: Any, *args: Any, **options: Any) -> Any:
        made.append([token_ids[row].tolist() for row in range(len(token_ids.lengths))])
        return measure(encoder, token_ids, *args, **options)

    monkeypatch.setattr(prompts, "profile_tokens", watched)
    tables = [
        repetition(every, SENTENCES, _P),
        randomness(every, SENTENCES, _P),
        prompt_length(every, SENTENCES, [3, 5]),
    ]
    values = [*(("p", p) for p in [*_P, *_P]), ("length", 3), ("length", 5)]
    assert len(made) == len(values)  # one pass each
    plain = [every.backbone.tokenizer(text)["input_ids"] for text in SENTENCES]
    special = set(every.backbone.tokenizer.all_special_ids)
    for number, ((column, value), changed) in enumerate(zip(values, made, strict=True)):
        expected = _plain(every, changed)
        for metric, curve in expected.items():
            found = _curve(tables[number // 3], metric, **{column: value})
            np.testing.assert_allclose(found, curve, rtol=1e-4, atol=1e-5, err_msg=f"{column} {value} {metric}")
        if column == "length":
            assert {len(ids) for ids in changed} == {value}
            continue
        by_length = {tuple(number in special for number in ids) for ids in plain}
        assert {tuple(number in special for number in ids) for ids in changed} == by_length


def test_the_order_of_the_texts_and_the_grid_change_nothing(llama_raw: LayerwiseEncoder) -> None:
    texts = [*SENTENCES, SENTENCES[0]]
    for experiment in (repetition, randomness):
        one = experiment(llama_raw, texts, _P, max_texts=6)
        other = experiment(llama_raw, texts[::-1], [0.4, 0.9], max_texts=6, batch_tokens=16)
        for metric in ("prompt_entropy", "dataset_entropy"):
            np.testing.assert_allclose(_curve(one, metric, p=0.4), _curve(other, metric, p=0.4), rtol=1e-5)
            assert np.abs(_curve(experiment(llama_raw, texts, 0.4, seed=7), metric) - _curve(one, metric, p=0.4)).max()


def test_one_token_of_a_prompt_can_stand_for_all(llama_raw: LayerwiseEncoder) -> None:
    """Its states at layer 0 are all alike then, as Llama adds positions in attention only."""
    table = repetition(llama_raw, SENTENCES, [0, 1], one_token=True)
    assert _curve(table, "prompt_entropy", p=1)[0] == 0 < _curve(table, "prompt_entropy", p=0)[0]
    assert _curve(repetition(llama_raw, SENTENCES, [1]), "prompt_entropy")[0] > 0.1


def test_random_tokens_have_embeddings(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens may be added to a tokenizer that the model does not know."""
    every = LayerwiseEncoder(llama_folder)
    every.backbone.tokenizer.add_tokens(["one more word"])
    found: list[np.ndarray] = []
    make = prompts.plain_vocabulary
    monkeypatch.setattr(prompts, "plain_vocabulary", lambda *a: found.append(make(*a)) or found[-1])
    table = randomness(every, SENTENCES, [1.0])
    assert len(every.backbone.tokenizer) > 400
    assert found[0].max() == 399
    assert table["final_norm"].all()  # an encoder's own setting


def test_lengths_are_measured_on_the_same_texts(tiny_folders: dict[str, Path]) -> None:
    table = prompt_length(tiny_folders["bert"], SENTENCES)
    every = LayerwiseEncoder(tiny_folders["bert"], final_norm=False)
    reach = np.sort([len(every.backbone.tokenizer(text)["input_ids"]) for text in SENTENCES])
    lengths = [2**k for k in range(2, 10) if (reach >= 2**k).sum() >= 2]
    assert table["length"].unique(maintain_order=True).to_list() == lengths
    assert table.schema["length"] == pl.Int64
    assert table["n_texts"].unique().to_list() == [int((reach >= lengths[-1]).sum())]
    raw = [_curve(table, "prompt_entropy", length=length) for length in lengths]
    for length, curve in zip(lengths, raw, strict=True):
        divided = _curve(table, "prompt_entropy", "maxEntropy", length=length)
        np.testing.assert_allclose(divided, curve / min(np.log(length), np.log(32)), rtol=1e-12)


_WRONG: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (repetition, {"p": [0.5, 1.2]}, r"p: expected probabilities from 0 to 1, got 1\.2"),
    (repetition, {"p": ["0.5"]}, "p: expected probabilities from 0 to 1, got '0.5'"),
    (randomness, {"p": [float("nan")]}, "p: expected probabilities from 0 to 1, got nan"),
    (randomness, {"p": [True]}, "p: expected probabilities from 0 to 1, got True"),
    (randomness, {"p": []}, "p: expected at least one probability, got none"),
    (repetition, {"metrics": ["dime"]}, "metrics: dime needs views of the texts"),
    (
        repetition,
        {"template": "eol"},
        "template: the tokens of plain texts are changed; expected no template, got 'eol'",
    ),
    (repetition, {"one_token": "no"}, "one_token: expected True or False"),
    (prompt_length, {"lengths": [1]}, "lengths: expected an int of at least 2, got 1"),
    (prompt_length, {"lengths": [4.0]}, r"lengths: expected an int of at least 2, got 4\.0"),
    (prompt_length, {"lengths": []}, "lengths: expected at least one number of tokens, got none"),
    (prompt_length, {"normalizations": ["log"]}, "normalizations: expected some of"),
]


@pytest.mark.parametrize(("experiment", "arguments", "message"), _WRONG)
def test_what_is_wrong_is_said_before_a_model_is_looked_for(
    experiment: Callable[..., Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        experiment("no/such-model", SENTENCES, **arguments)


def test_a_length_that_no_text_reaches_names_the_longest_text(llama_raw: LayerwiseEncoder) -> None:
    longest = max(len(llama_raw.backbone.tokenizer(text)["input_ids"]) for text in SENTENCES)
    with pytest.raises(InputError, match=f"lengths: the longest text has {longest} tokens, none has 500"):
        prompt_length(llama_raw, SENTENCES, [4, 500])
    with pytest.raises(InputError, match="lengths: the longest text has 1 token, none has 4"):
        prompt_length(llama_raw, ["a"])


def test_an_encoder_with_a_template_is_refused(llama_folder: Path) -> None:
    with pytest.raises(InputError, match="template: the tokens of plain texts are changed"):
        repetition(LayerwiseEncoder(llama_folder, template="echo"), SENTENCES)


@pytest.mark.parametrize("name", ["repetition", "randomness", "prompt_length"])
def test_the_figure_and_the_small_table_need_only_the_table(
    name: str, llama_raw: LayerwiseEncoder, tmp_path: Path
) -> None:
    options = {"lengths": [4, 8]} if name == "prompt_length" else {"p": [0, 0.5]}
    table = getattr(prompts, name)(llama_raw, SENTENCES, **options)
    table.write_parquet(tmp_path / "table.parquet")
    read = pl.read_parquet(tmp_path / "table.parquet")
    save_figure(getattr(prompts, f"draw_{name}")(read), tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert "prompt entropy (nats)" in drawn and "dataset entropy (nats)" in drawn
    small = getattr(prompts, f"summary_{name}")(read)
    assert small.columns == ["model", "metric", "layers", "low", "high", "change", "most_at"]
    column = "length" if name == "prompt_length" else "p"
    low, high = table[column].min(), table[column].max()
    for row in small.iter_rows(named=True):
        part = ["first third", "middle third", "last third"].index(row["layers"])
        layers = [[0], [1], [2, 3]][part]  # of depths 0, 1/3, 2/3, 1
        before, after = (_curve(table, row["metric"], **{column: value})[layers] for value in (low, high))
        assert row["low"] == pytest.approx(before.mean()) and row["high"] == pytest.approx(after.mean())
        assert row["change"] == pytest.approx(after.mean() / before.mean() - 1)
        assert row["most_at"] == layers[int(np.abs(after - before).argmax())]


def test_the_first_token_can_be_left_out(llama_raw: LayerwiseEncoder) -> None:
    for experiment in (repetition, randomness):
        table = experiment(llama_raw, SENTENCES, [0.0], first_token=False)
        profile = profile_layers(llama_raw, SENTENCES, ["prompt_entropy", "dataset_entropy"], first_token=False)
        for metric, curve in profile.values.items():
            np.testing.assert_allclose(_curve(table, metric), curve, rtol=1e-5)
        assert not table["first_token"].any()
