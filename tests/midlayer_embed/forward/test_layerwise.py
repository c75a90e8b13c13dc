from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_models import plain_layer_means, plain_token_states

from midlayer_embed import LayerwiseEncoder
from midlayer_embed.forward.measured import TokenMeasure
from midlayer_embed.options import Recipe


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
def test_every_layer_equals_output_hidden_states(every_folder: Path, sentences: list[str], final_norm: bool) -> None:
    encoder = LayerwiseEncoder(every_folder, final_norm=final_norm)
    padded = encoder.encode(sentences)  # one batch
    assert padded.dtype == np.float32
    assert padded.shape == (len(sentences), 4, 32)
    for number in (4, 5):  # the longest and the shortest
        expected = plain_layer_means(every_folder, sentences[number], final_norm)
        np.testing.assert_allclose(padded[number], expected, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(sentences[number]), expected, atol=1e-5)  # alone, unpadded


def test_batches_and_order_do_not_matter(tiny_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(tiny_folder)
    together = encoder.encode(sentences)
    np.testing.assert_allclose(encoder.encode(sentences, batch_tokens=1), together, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(sentences[::-1], batch_tokens=60), together[::-1], atol=1e-5)


def test_each_distinct_text_goes_through_the_model_once(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    rows = []
    encoder.backbone.blocks[0].register_forward_pre_hook(lambda _module, args: rows.append(len(args[0])))
    vectors = encoder.encode([*sentences, *sentences[::-1]])
    assert sum(rows) == len(sentences)
    np.testing.assert_array_equal(vectors[: len(sentences)], vectors[len(sentences) :][::-1])


def test_layers_come_in_the_order_asked_for(
    sentences: list[str],
    llama: LayerwiseEncoder,
) -> None:
    every = llama.encode(sentences)
    np.testing.assert_array_equal(llama.encode(sentences, layers=[-1, 0, 0.7]), every[:, [3, 0, 2]])


def test_blocks_above_the_highest_layer_are_not_run(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    run = []
    for number, block in enumerate(encoder.backbone.blocks, start=1):
        block.register_forward_hook(lambda _module, _args, _out, number=number: run.append(number))
    encoder.encode(sentences, layers=[1, 0])
    assert run == [1]


def test_no_hook_stays_behind(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    encoder.encode(sentences, layers=[0, 1])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.backbone.model.modules())


def test_one_string_drops_the_first_axis(
    sentences: list[str],
    llama: LayerwiseEncoder,
) -> None:
    np.testing.assert_array_equal(llama.encode(sentences[0]), llama.encode(sentences[:1])[0])


def test_no_texts(
    llama: LayerwiseEncoder,
) -> None:
    assert llama.encode([]).shape == (0, 4, 32)


def test_the_empty_text_is_zero_without_bos_and_never_a_crash(tiny_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(tiny_folder)
    alone, among = encoder.encode([""])[0], encoder.encode([sentences[0], "", sentences[1]])[1]
    np.testing.assert_allclose(alone, among, atol=1e-5)
    has_tokens = len(encoder.backbone.tokenizer("")["input_ids"]) > 0
    assert np.isfinite(alone).all()
    assert bool(np.abs(alone).any()) == has_tokens


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", 3], r"texts\[1\]: expected a string, got int"),
        (7, "expected a list of strings, got int"),
        ([None], "None"),
    ],
)
def test_what_is_no_text_is_named(
    texts: object,
    message: str,
    llama: LayerwiseEncoder,
) -> None:
    with pytest.raises(TypeError, match=message):
        llama.encode(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["cls", "lasttoken", "max", "weightedmean"])
def test_other_poolings_are_those_of_sentence_transformers(llama_folder: Path, sentences: list[str], mode: str) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(str(llama_folder), processor_kwargs={"pad_token": "<eos>"})
    plain = SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode=mode)], device="cpu")
    found = LayerwiseEncoder(llama_folder, pooling_mode=mode).encode(sentences, layers=[-1])[:, 0]
    np.testing.assert_allclose(found, plain.encode(sentences), atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", "max", "weightedmean"])
def test_the_first_token_can_be_left_out_of_the_pooling(llama_folder: Path, sentences: list[str], mode: str) -> None:
    every = LayerwiseEncoder(llama_folder, final_norm=False, pooling_mode=mode)
    texts = [*sentences, "a"]  # of one token
    found = np.full((len(texts), 4, 32), np.nan)
    for batch in every.pooled_batches(texts, range(4), norms=[False], first_token=False):  # padded
        found[batch.rows] = batch.vectors[0].swapaxes(0, 1)
    pool: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mean": lambda tokens: tokens[1:].mean(axis=0),
        "cls": lambda tokens: tokens[1],
        "lasttoken": lambda tokens: tokens[-1],
        "max": lambda tokens: tokens[1:].max(axis=0),
        "weightedmean": lambda tokens: np.average(tokens[1:], axis=0, weights=range(2, len(tokens) + 1)),
    }
    for text, vectors in zip(texts, found, strict=True):
        layers = [states.numpy() for states in plain_token_states(llama_folder, text)]
        expected = [pool[mode](tokens) if len(tokens) > 1 else np.zeros(32) for tokens in layers]
        np.testing.assert_allclose(vectors, expected, atol=1e-5, err_msg=text)


def test_texts_are_cut_at_max_seq_length(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder, max_seq_length=3)
    tokenizer = encoder.backbone.tokenizer
    longest = max(sentences, key=len)
    start = tokenizer.decode(tokenizer(longest)["input_ids"][:3])
    np.testing.assert_allclose(encoder.encode(longest), encoder.encode(start), atol=1e-6)


@pytest.mark.parametrize("budget", [0, -1, 1.5, True])
def test_a_token_budget_is_a_positive_int(
    budget: object,
    llama: LayerwiseEncoder,
) -> None:
    with pytest.raises(ValueError, match="batch_tokens: expected an int of at least 1"):
        llama.encode(["a"], batch_tokens=budget)  # type: ignore[arg-type]


def test_half_precision_gives_float32_vectors_close_by(
    llama_folder: Path,
    sentences: list[str],
    llama: LayerwiseEncoder,
) -> None:
    whole = llama.encode(sentences, layers=[1])
    half = LayerwiseEncoder(llama_folder, dtype="bfloat16").encode(sentences, layers=[1])
    assert half.dtype == np.float32
    assert 0 < np.abs(half - whole).max() < 0.2


def test_a_folder_is_encoded_without_sentence_transformers_which_is_slow_to_import(
    fresh_answers: dict[str, Any],
) -> None:
    assert fresh_answers["encode a folder"] == []


def test_a_layer_that_is_named_twice_is_given_twice(llama: LayerwiseEncoder, sentences: list[str]) -> None:
    texts = [*sentences, sentences[0]]
    every = llama.encode(texts)
    for layers in ([2, 1, -2], [3, 3], [0, 0.0, 1, -4]):
        numbers = [round(layer * 3) if isinstance(layer, float) else layer for layer in layers]
        np.testing.assert_array_equal(llama.encode(texts, layers), every[:, numbers])


def test_progress_counts_every_layer_of_a_batch(llama: LayerwiseEncoder, sentences: list[str]) -> None:
    counted: list[int] = []
    batches = [
        (pooled, len(counted))
        for pooled in llama.pooled_batches(
            sentences, [3, 0, 2], norms=[True, False], batch_tokens=16, on_tokens=counted.append
        )
    ]
    assert len(batches) > 1
    assert [seen for _, seen in batches] == [3 * number for number in range(1, len(batches) + 1)]
    assert sum(counted) == sum(int(pooled.n_tokens.sum()) for pooled, _ in batches)


def test_a_measurement_gives_one_value_of_a_text_or_several(llama: LayerwiseEncoder, sentences: list[str]) -> None:
    n_tokens = TokenMeasure(lambda _states, mask: mask.sum(dim=1), final_norm=False)
    ends = TokenMeasure(lambda states, _mask: states[:, 0, :2].double(), final_norm=True, n_values=2)
    vectors = llama.with_recipe(Recipe(pooling_mode="cls")).encode(sentences, [2, 0])
    for batch in llama.pooled_batches(sentences, [2, 0], norms=[], measures=[ends, n_tokens], batch_tokens=32):
        assert batch.measured.shape == (3, 2, len(batch.rows))
        np.testing.assert_array_equal(batch.measured[2], [batch.n_tokens] * 2)
        np.testing.assert_allclose(batch.measured[:2], vectors[batch.rows][..., :2].T, atol=1e-5)
