import pytest

from midlayer_embed.ground.pictures import SLIDE, TEXT_SIZE, TITLE_SIZE, wrapped


@pytest.mark.parametrize(
    "text",
    [
        "org/model",
        "org/" + "a-very-long-name" * 20,
        "x" * 500,
        "\u6a21\u578b" * 100,
        "two\nlines\tand a tab",
        "",
        "\u00e9" * 90,
    ],
)
def test_every_line_fits_and_no_letter_is_lost(text: str) -> None:
    lines = wrapped(text)
    assert "".join("".join(lines).split()) == "".join(text.split())
    is_wide = "\u6a21" in text
    assert all(len(line) * TITLE_SIZE * (1.0 if is_wide else 0.58) <= SLIDE[0] for line in lines)
    assert len(lines) >= 1


def test_a_slide_is_16_by_9_and_its_text_is_12_points_at_least() -> None:
    assert SLIDE[0] * 9 == SLIDE[1] * 16 and SLIDE[0] == pytest.approx(13.333 * 72, abs=1)
    assert TITLE_SIZE > TEXT_SIZE >= 12
