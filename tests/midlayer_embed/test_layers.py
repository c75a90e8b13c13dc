import numpy as np
import pytest

from midlayer_embed.layers import layer_number, layer_numbers, parse_layer


@pytest.mark.parametrize(
    ("layer", "number"),
    [(0, 0), (24, 24), (-1, 24), (-25, 0), (0.0, 0), (1.0, 24), (0.7, 17), (np.int64(3), 3), (np.float32(0.5), 12)],
)
def test_layers_and_depths(layer: float, number: int) -> None:
    assert layer_number(layer, 24) == number


@pytest.mark.parametrize("layer", [25, -26, 99])
def test_out_of_range_names_the_range(layer: int) -> None:
    with pytest.raises(ValueError, match=rf"{layer} is out of range.*0\.\.24"):
        layer_number(layer, 24)


@pytest.mark.parametrize("depth", [1.5, -0.1, float("nan"), float("inf")])
def test_a_depth_is_between_0_and_1(depth: float) -> None:
    with pytest.raises(ValueError, match="depth"):
        layer_number(depth, 24)


@pytest.mark.parametrize("layer", ["17", None, True, [1]])
def test_what_is_no_number_is_refused(layer: object) -> None:
    with pytest.raises(TypeError, match="layer: expected"):
        layer_number(layer, 24)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [[], [25], "some", 3])
def test_bad_lists_of_layers(layers: object) -> None:
    with pytest.raises(ValueError, match="layers?: "):
        layer_numbers(layers, 24)  # type: ignore[arg-type]


def test_a_layer_may_be_named_twice() -> None:
    assert layer_numbers([5, 2, -2, 1.0, 3], 4 + 2) == [5, 2, 5, 6, 3]


def test_arrays_are_lists_of_layers() -> None:
    assert layer_numbers(np.array([2, 0]), 4) == [2, 0]  # type: ignore[arg-type]


def test_a_point_makes_a_depth() -> None:
    assert [parse_layer(text) for text in ("1", "1.0", "-3", "0.25")] == [1, 1.0, -3, 0.25]
    assert isinstance(parse_layer("1"), int)
    with pytest.raises(ValueError, match="'seven'"):
        parse_layer("seven")
