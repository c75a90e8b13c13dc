import pytest

from midlayer_embed.selection.recipe.purposes import PURPOSES, transform_for

ALL = (None, "standardize", "whiten:10")


@pytest.mark.parametrize(
    ("purpose", "template", "allowed", "transform"),
    [
        ("similarity", None, ALL, "whiten:10"),
        ("similarity", "eol", ALL, "whiten:10"),
        ("similarity", None, (None, "standardize"), "standardize"),
        ("similarity", None, ("whiten:1", None), None),  # nothing is known about it
        ("similarity", None, ("whiten:1", "center"), "whiten:1"),
        ("classification", "echo", ALL, "standardize"),
        ("classification", None, (None,), None),
        ("clustering", "echo", ALL, "standardize"),
        ("clustering", "eol", ALL, None),
        ("clustering", "eol", ("whiten:10", "standardize"), "standardize"),
    ],
)
def test_the_best_of_those_that_may_be_taken(
    purpose: str, template: str | None, allowed: tuple[str | None, ...], transform: str | None
) -> None:
    assert transform_for(purpose, template, allowed, n_texts=1000, dim=576)[0] == transform


def test_too_few_texts_take_none_and_say_why() -> None:
    transform, why = transform_for("similarity", None, ALL, n_texts=57, dim=576)
    assert transform is None
    assert why == "no whiten:10: expected at least 58 texts to fit whiten:10 to 576 dimensions, got 57"
    assert transform_for("similarity", None, ALL, n_texts=58, dim=576)[0] == "whiten:10"


def test_a_transform_that_cannot_be_fitted_gives_way_to_the_next() -> None:
    assert transform_for("similarity", None, ("remove:8", "center"), n_texts=50, dim=8)[0] == "center"


def test_too_few_texts_are_an_error_where_a_transform_is_required() -> None:
    with pytest.raises(ValueError, match="transforms: no whiten:10: expected at least 58 texts .* pass more texts"):
        transform_for("similarity", None, ("whiten:10", "standardize"), n_texts=57, dim=576)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_purpose_has_words(purpose: str) -> None:
    for allowed in (ALL, (None,), ("center",)):
        assert transform_for(purpose, None, allowed, n_texts=1000, dim=576)[1]
