import pytest

from midlayer_embed.recipes.names import check_transforms
from midlayer_embed.selection.recipe.purposes import PURPOSES, TRANSFORMS, transform_for

ALL = (None, "standardize", "whiten:10", "whiten:1")


@pytest.mark.parametrize(
    ("purpose", "allowed", "transform"),
    [
        ("similarity", ALL, "whiten:1"),
        ("similarity", (None, "standardize", "whiten:10"), "whiten:10"),
        ("similarity", (None, "standardize"), "standardize"),
        ("similarity", ("whiten:0.5", None), None),  # nothing is known about it
        ("similarity", ("whiten:0.5", "center"), "whiten:0.5"),
        ("classification", ALL, "standardize"),
        ("classification", (None,), None),
        ("clustering", ALL, "standardize"),
        ("clustering", ("whiten:10", "standardize"), "standardize"),
    ],
)
def test_the_best_of_those_that_may_be_taken(
    purpose: str, allowed: tuple[str | None, ...], transform: str | None
) -> None:
    assert transform_for(purpose, allowed, n_texts=1000, dim=576)[0] == transform


def test_too_few_texts_take_none_and_say_why() -> None:
    transform, why = transform_for("similarity", ALL, n_texts=57, dim=576)
    assert transform is None
    assert why == "no whiten:1: expected at least 58 texts to fit whiten:1 to 576 dimensions, got 57"
    assert transform_for("similarity", ALL, n_texts=58, dim=576)[0] == "whiten:1"


def test_a_transform_that_cannot_be_fitted_gives_way_to_the_next() -> None:
    assert transform_for("similarity", ("remove:8", "center"), n_texts=50, dim=8)[0] == "center"


def test_too_few_texts_are_an_error_where_a_transform_is_required() -> None:
    with pytest.raises(ValueError, match="transforms: no whiten:1: expected at least 58 texts .* pass more texts"):
        transform_for("similarity", ("whiten:1", "standardize"), n_texts=57, dim=576)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_purpose_has_words(purpose: str) -> None:
    for allowed in (ALL, (None,), ("center",)):
        assert transform_for(purpose, allowed, n_texts=1000, dim=576)[1]


def test_the_transforms_of_every_purpose_are_among_the_default_ones() -> None:
    assert check_transforms(TRANSFORMS) == TRANSFORMS
    assert {transform_for(purpose, TRANSFORMS, 1000, 576)[0] for purpose in PURPOSES} == {"whiten:1", "standardize"}
