"""select_recipe against every candidate encoded on its own, and what its result can be used for."""

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from support.tiers import slow
from support.tiny_models import save_with_modules

import midlayer_embed.models.weights as weights_module
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, Recipe, RecipeSelection, select_layer, select_recipe
from midlayer_embed.selection.recipe import passes as passes_module
from midlayer_embed.selection.recipe.choice import provenance, recipe_summary, recipe_table
from midlayer_embed.texts.word_views import dropped, halves


@pytest.fixture(scope="module")
def texts(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:5] if first != second]


@pytest.fixture(scope="module")
def found(llama_folder: Path, texts: list[str]) -> RecipeSelection:
    return select_recipe(llama_folder, texts)


def _mean_reciprocal_rank(first: np.ndarray, second: np.ndarray) -> float:
    """One search at a time."""
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, second)]
    found = []
    for queries, others in (units, units[::-1]):
        for row, query in enumerate(queries):
            cosines = others @ query
            as_near = np.sum(np.abs(cosines - cosines[row]) <= 1e-6) - 1
            found.append(1 / (1 + np.sum(cosines > cosines[row] + 1e-6) + as_near / 2))
    return float(np.mean(found))


def _standardized(first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """Both sides, by the mean and the standard deviation of all rows; a dimension that does not vary becomes zero."""
    both = np.concatenate([first, second])
    spread = both.std(axis=0)
    varies = spread > 1e-6 * np.abs(both).max()
    return [np.where(varies, (side - both.mean(axis=0)) / np.where(varies, spread, 1), 0) for side in (first, second)]


def _oracle(
    folder: Path, pairs: list[tuple[str, str]], templates: tuple[str | None, ...], poolings: tuple[str, ...]
) -> dict[tuple[str | None, str, int], float]:
    """The value of each candidate whose vectors are not all the same, from an encoder of its own, standardized."""
    values = {}
    for template in templates:
        for pooling in poolings:
            every = LayerwiseEncoder(folder, template=template, pooling_mode=pooling)
            sides = [every.encode([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1)]
            for layer in range(every.n_layers):
                first, second = (side[:, layer] for side in sides)
                if np.ptp(np.concatenate([first, second]), axis=0).max() > 1e-5:
                    values[template, pooling, layer] = _mean_reciprocal_rank(*_standardized(first, second))
    return values


def _values(selection: RecipeSelection) -> dict[tuple[str | None, str, int], float]:
    return {(*one.kind, one.layer): float(one.value or 0) for one in selection.ranked}


POOLINGS = ("mean", "weightedmean", "lasttoken")


@pytest.mark.parametrize("family", ["llama", *slow("gpt_neox", "mamba", "bert")])
def test_every_candidate_has_the_value_of_an_encoder_of_its_own(
    tiny_model: Callable[[str], Path], texts: list[str], family: str
) -> None:
    folder = tiny_model(family)
    selection = select_recipe(folder, texts, n_resamples=0)
    assert selection.criterion == "half-and-drop"
    every_view = [
        [pair for text in texts if (pair := halves(text))],
        [(str(dropped(text, 0)), str(dropped(text, 1))) for text in texts],
    ]
    by_half, by_drop = (_oracle(folder, pairs, (None, "eol", "echo"), POOLINGS) for pairs in every_view)
    assert by_half.keys() == by_drop.keys()
    expected = {key: math.sqrt(value * by_drop[key]) for key, value in by_half.items()}
    actual = _values(selection)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key] == pytest.approx(value, abs=2e-3), key
    best = max(expected.values())
    assert expected[(*selection.ranked[0].kind, selection.ranked[0].layer)] == pytest.approx(best, abs=2e-3)
    assert [one.value for one in selection.ranked] == sorted(actual.values(), reverse=True)


def test_drop_retrieval_joined_poolings_and_a_template_of_the_user(llama_folder: Path, texts: list[str]) -> None:
    templates, poolings = ("query: {text}", None), ("lasttoken+mean", "max", "mean")
    selection = select_recipe(
        llama_folder, texts, templates, criterion="drop-retrieval", poolings=poolings, seed=5, n_resamples=0
    )
    pairs = [(str(dropped(text, 0, 5)), str(dropped(text, 1, 5))) for text in texts]
    expected = _oracle(llama_folder, pairs, templates, poolings)
    actual = _values(selection)
    assert actual.keys() == expected.keys()
    np.testing.assert_allclose([actual[key] for key in expected], list(expected.values()), atol=2e-3)


def test_plain_texts_without_a_transform_have_the_curve_of_select_layer(llama_folder: Path, texts: list[str]) -> None:
    curve = select_layer(llama_folder, texts, "half-retrieval", n_resamples=0).values
    assert curve is not None
    values = _values(select_recipe(llama_folder, texts, (None,), (None,), "half-retrieval", n_resamples=0))
    np.testing.assert_allclose([values[None, "mean", layer] for layer in range(4)], curve, atol=1e-3)


def test_there_is_one_pass_over_each_view_under_each_template(
    llama_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, loads = [], []
    batches, load = LayerwiseEncoder.pooled_batches, weights_module.load_base_model

    def counted(self: LayerwiseEncoder, some: list[str], layers: Any, **keywords: Any) -> Iterator[Any]:
        passes.append((self.recipe.template, len(some), list(layers)))
        return batches(self, some, layers, **keywords)

    def loaded(*arguments: Any, **keywords: Any) -> Any:
        loads.append(arguments)
        return load(*arguments, **keywords)

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", counted)
    monkeypatch.setattr("midlayer_embed.models.backbone.load_base_model", loaded)
    select_recipe(llama_folder, texts)
    assert [(template, layers) for template, _, layers in passes] == [
        (template, [0, 1, 2, 3]) for template in (None, "eol", "echo") for _ in range(4)
    ]
    n_views = [len({pair[side] for text in texts if (pair := halves(text))}) for side in (0, 1)]
    n_views += [len({dropped(text, view) for text in texts}) for view in (0, 1)]
    assert [number for _, number, _ in passes] == n_views * 3
    assert len(loads) == 1


def test_the_order_of_texts_does_not_matter(llama_folder: Path, found: RecipeSelection, texts: list[str]) -> None:
    again = select_recipe(LayerwiseEncoder(llama_folder), texts[::-1])
    assert again.candidates == found.candidates
    assert (again.recipe, again.stability, again.kind_stability) == (
        found.recipe,
        found.stability,
        found.kind_stability,
    )


def test_the_options_build_the_encoder_of_the_recipe(
    llama_folder: Path, found: RecipeSelection, texts: list[str]
) -> None:
    encoder = MidLayerEncoder(llama_folder, **found.options)
    assert encoder.recipe == found.recipe
    assert encoder.layer == found.ranked[0].layer
    assert encoder.transform is not None and encoder.transform.n_texts == len(texts)
    spelt = MidLayerEncoder(llama_folder, transform_texts=texts, **vars(found.recipe))
    np.testing.assert_array_equal(spelt.encode(texts[:3]), encoder.encode(texts[:3]))


def test_the_encoder_and_its_card_say_how_the_recipe_was_chosen(
    llama_folder: Path, found: RecipeSelection, texts: list[str], tmp_path: Path
) -> None:
    encoder = MidLayerEncoder(llama_folder, **found.options)
    best, *others = found.ranked
    said = (
        f"without labels by half-and-drop, out of {len(found.candidates)} candidates (templates: 3, poolings: 3, "
        f"layers: 4) over {found.n_texts} texts"
    )
    assert provenance(found) == said
    assert encoder.selection is not None and encoder.selection.values is not None
    curve = {one.layer: one.value for one in found.ranked if one.kind == best.kind}
    np.testing.assert_array_equal(encoder.selection.values, [curve.get(layer, np.nan) for layer in range(4)])
    same_kind = [one for one in others if one.kind == best.kind]
    assert encoder.selection.runner_up == same_kind[0].layer
    assert encoder.selection.margin == (best.value or 0) - (same_kind[0].value or 0)
    encoder.save_pretrained(str(tmp_path / "saved"))
    text = (tmp_path / "saved/README.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| how the layer was chosen |"))
    assert f"by half-and-drop; with its template and pooling, {said}; stability: the same recipe on" in row
    assert "## How the layer was chosen" in text


def test_options_of_the_model_are_part_of_the_recipe(llama_folder: Path, texts: list[str]) -> None:
    selection = select_recipe(llama_folder, texts, final_norm=False, max_seq_length=33, dtype="float64", n_resamples=0)
    assert (selection.recipe.final_norm, selection.recipe.max_seq_length) == (False, 33)
    encoder = MidLayerEncoder(llama_folder, **selection.options)
    assert encoder.recipe == selection.recipe
    assert encoder.dtype == torch.float64


def test_the_limit_of_both_copies_is_that_of_the_encoder(llama_folder: Path, texts: list[str]) -> None:
    for limit in (60, 61):
        selection = select_recipe(llama_folder, texts, ("echo",), max_seq_length=limit, n_resamples=0)
        assert MidLayerEncoder(llama_folder, **selection.options).recipe == selection.recipe


def test_the_table_has_every_candidate_and_ranks_those_that_are_eligible(found: RecipeSelection) -> None:
    table = found.table
    assert table.columns == ["template", "pooling_mode", "layer", "value", "rank"]
    assert len(table) == 3 * 3 * 4
    ranked = table.filter(pl.col("rank").is_not_null())
    assert ranked["rank"].to_list() == list(range(1, len(ranked) + 1))
    assert ranked["value"].is_sorted(descending=True)
    assert ranked["value"].is_finite().all()
    assert table.row(0)[:3] == (*found.ranked[0].kind, found.ranked[0].layer)
    left = table.filter(pl.col("rank").is_null())
    assert left.rows() == [("eol", "lasttoken", 0, None, None)]  # the same vector for every text


def test_jupyter_shows_the_summary_and_the_best_candidates(found: RecipeSelection) -> None:
    summary, _, table = found._repr_markdown_().partition("\n\n| rank |")
    assert summary.startswith("**picked: ") and len(summary.splitlines()) == len(recipe_summary(found)) + 1
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    best = found.ranked[:5]
    assert [row[:2] for row in rows] == [[str(rank), one.template or "none"] for rank, one in enumerate(best, start=1)]
    assert [(row[2], int(row[3])) for row in rows] == [(one.pooling_mode, one.layer) for one in best]


def test_states_that_are_not_finite_are_never_picked(
    llama_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = LayerwiseEncoder.pooled_batches

    def spoilt(self: LayerwiseEncoder, *arguments: Any, **keywords: Any) -> Iterator[Any]:
        for pooled in batches(self, *arguments, **keywords):
            pooled.vectors[0][2:, 0, ::32] = np.nan if self.recipe.template == "echo" else np.inf
            yield pooled

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", spoilt)
    selection = select_recipe(llama_folder, texts)
    assert {one.layer for one in selection.ranked} == {0, 1}
    assert selection.ranked[0].layer in (0, 1)
    assert selection.stability is not None
    monkeypatch.setattr(
        LayerwiseEncoder, "pooled_batches", lambda self, *a, **k: (_all_nan(one) for one in batches(self, *a, **k))
    )
    with pytest.raises(ValueError, match="texts: they cannot tell the recipes apart: none of 36 is eligible"):
        select_recipe(llama_folder, texts)


def _all_nan(pooled: Any) -> Any:
    pooled.vectors[:] = np.nan
    return pooled


def test_stability_is_the_share_of_halves_that_pick_the_same(
    llama_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    half = "half-retrieval"
    monkeypatch.setitem(passes_module.MEASURES, "half_retrieval", lambda views, settings: rng.random())
    selection = select_recipe(llama_folder, texts, criterion=half, n_resamples=200)
    assert selection.n_resamples == 200
    assert selection.stability == pytest.approx(1 / 35, abs=0.05)  # a coin with as many sides as candidates
    assert selection.kind_stability == pytest.approx(1 / 9, abs=0.08)
    monkeypatch.setitem(passes_module.MEASURES, "half_retrieval", lambda views, settings: views[0].std())
    selection = select_recipe(llama_folder, texts, (None,), (None,), half, n_resamples=5)
    assert (selection.stability, selection.kind_stability) == (1, 1)


def test_halves_measure_only_candidates_that_could_win(
    llama_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = select_recipe(llama_folder, texts)
    monkeypatch.setattr(passes_module, "_CONTENDERS", 6)
    fewer = select_recipe(llama_folder, texts)
    assert fewer.candidates == everything.candidates
    assert fewer.kind_stability == pytest.approx(everything.kind_stability, abs=0.15)


def test_fewer_than_four_texts_have_no_stability(llama_folder: Path) -> None:
    selection = select_recipe(llama_folder, ["a first text", "a second one here", "and one more"], transforms=(None,))
    assert (selection.stability, selection.kind_stability, selection.n_resamples) == (None, None, 0)
    assert "stability" not in "\n".join(recipe_summary(selection))


@pytest.mark.parametrize(
    ("texts", "keywords", "message"),
    [
        ([], {}, "texts: expected at least one usable text, got none"),
        (["one", "word", "each"], {}, "texts: half-and-drop needs at least two different texts .*, got 3 texts, 0 of"),
        (["the same text"] * 5, {}, "texts: half-and-drop needs at least two different texts"),
        (["a b", "c d"], {"templates": ()}, "templates: expected at least one, got none"),
        (["a b", "c d"], {"templates": "eol"}, "templates: expected a list such as"),
        (["a b", "c d"], {"templates": ["none of them"]}, "template: expected eol, echo, or a text with {text}"),
        (["a b", "c d"], {"transforms": ["zca"]}, "transform: expected one of center"),
        (["a b", "c d"], {"poolings": ["sum"]}, "poolings: expected some of mean, cls, .*, got 'sum'"),
        (["a b", "c d"], {"purpose": "fun"}, "purpose: expected one of similarity, classification, clustering, got"),
        (["a b", "c d"], {"criterion": "min-dime"}, "criterion: expected one of auto, .* cannot be compared between"),
        (["a b", "c d"], {"criterion": "last"}, "criterion: expected one of auto, half-retrieval, drop-retrieval"),
        (["a b", "c d"], {"criterion": 3}, "criterion: expected one of auto, .*, got 3"),
        (["a b", "c d"], {"n_resamples": -1}, "n_resamples: expected an int of at least 0"),
        (["a b", "c d"], {"seed": -1}, "seed: expected an int of at least 0"),
        (["a b", "c d"], {"transforms": ["whiten"]}, "transforms: no whiten:10: expected at least 4 texts .*, got 2"),
        (["a b", "c d"], {"layers": 3}, "unexpected keyword argument 'layers'"),
        (["a b", "c d"], {"template": "eol"}, "unexpected keyword argument 'template'"),
        (["a b", "c d"], {"max_seq_length": 0}, "max_seq_length: expected an int of at least 1"),
    ],
)
def test_mistakes_are_told(llama_folder: Path, texts: list[str], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        select_recipe(llama_folder, texts, **keywords)


def test_options_of_a_loaded_encoder_are_its_own(llama: LayerwiseEncoder, texts: list[str]) -> None:
    with pytest.raises(ValueError, match="dtype: pass settings of a LayerwiseEncoder to its constructor"):
        select_recipe(llama, texts, dtype="float64")
    raw = select_recipe(llama.with_recipe(Recipe(final_norm=False, template="eol")), texts, (None,), n_resamples=0)
    assert (raw.recipe.final_norm, raw.recipe.template) == (False, None)


def test_a_template_that_the_model_cannot_take_is_left_out_with_the_reason(
    llama_folder: Path, texts: list[str], tmp_path: Path
) -> None:
    folder = save_with_modules(llama_folder, tmp_path / "model", include_prompt=False, prompts={"query": "q: "})
    selection = select_recipe(folder, texts, criterion="half-retrieval", n_resamples=0)
    assert {one.template for one in selection.candidates} == {None}
    assert any("eol was left out: template: " in line for line in recipe_summary(selection))
    with pytest.raises(ValueError, match="template: .* leaves its prompts out of the pooling"):
        select_recipe(folder, texts, ("eol", "echo"))


def test_the_own_pooling_of_a_model_competes(llama_folder: Path, texts: list[str], tmp_path: Path) -> None:
    folder = save_with_modules(llama_folder, tmp_path / "model", pooling="max")
    kinds = {one.kind for one in select_recipe(folder, texts, criterion="half-retrieval", n_resamples=0).candidates}
    assert kinds == {(template, mode) for template in (None, "eol", "echo") for mode in POOLINGS} | {(None, "max")}


def test_the_last_layer_of_a_trained_model_is_measured_as_that_model(
    llama_folder: Path, texts: list[str], tmp_path: Path
) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense

    folder = save_with_modules(llama_folder, tmp_path / "model", lambda dim: Dense(dim, 8))
    by = {"criterion": "half-retrieval", "n_resamples": 0}
    selection = select_recipe(folder, texts, (None,), poolings=("mean", "mean+max"), **by)
    values = _values(selection)
    encoder = MidLayerEncoder(folder, -1)
    pairs = [pair for text in texts if (pair := halves(text))]
    first, second = (encoder.encode([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
    assert values[None, "mean", 3] == pytest.approx(_mean_reciprocal_rank(first, second), abs=2e-3)
    assert (None, "mean+max", 3) not in values  # its Dense takes vectors of another width
    without = select_recipe(folder, texts, (None,), ("whiten",), poolings=("mean",), **by)
    assert {one.layer for one in without.ranked} == {0, 1, 2}  # nor can a transform come before it


def test_the_last_layer_that_takes_no_transform_gets_none(
    llama_folder: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense

    folder = save_with_modules(llama_folder, tmp_path / "model", lambda dim: Dense(dim, 8))
    monkeypatch.setitem(
        passes_module.MEASURES, "half_retrieval", lambda views, settings: float(views[0].shape[1] == 8) + views[0].std()
    )
    selection = select_recipe(folder, texts, (None,), criterion="half-retrieval", n_resamples=0)
    assert (selection.recipe.layer, selection.recipe.transform) == (3, None)
    assert "transform: none, not measured: the last layer has modules of its own" in "\n".join(
        recipe_summary(selection)
    )
    assert MidLayerEncoder(folder, **selection.options).recipe == selection.recipe


def test_the_words_say_what_was_measured_how_sure_it_is_and_what_others_cost(found: RecipeSelection) -> None:
    best, runner_up = found.ranked[:2]
    lines = recipe_summary(found)
    assert lines[0] == (
        f"picked: {best.template or 'no template'}, {best.pooling_mode}, layer {best.layer} of 3, by half-and-drop "
        f"over {found.n_texts} texts, out of 36 candidates"
    )
    assert lines[1].startswith(f"measured, on standardized vectors: half-and-drop {best.value:#.4g}. ")
    assert lines[2] == "left out: 1 of them, with vectors that are not finite, or the same for all texts"
    assert found.runner_up == runner_up
    assert lines[3].startswith(f"runner-up: {runner_up.template or 'no template'}, {runner_up.pooling_mode}, layer")
    assert sum(line.startswith("another template: ") for line in lines) == 2
    same = round((found.stability or 0) * 20)
    assert f"the same recipe on {same} of 20 random halves of the texts" in "\n".join(lines)
    assert lines[-2] == "transform: whiten:1, not measured: it suits similarity"
    assert lines[-1].startswith(f"few texts: {found.n_texts} say little")
    rows = recipe_table(found, top=3).splitlines()
    assert [row.split()[0] for row in rows] == ["rank", "1", "2", "3"]


def test_few_texts_for_a_transform_are_told_while_it_is_fitted(
    llama_folder: Path, found: RecipeSelection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        MidLayerEncoder(llama_folder, **found.options)
    assert "whiten:1 is fitted to 32 dimensions on" in caplog.text
