"""Texts as pictures: black on white, in the bitmap font that comes with Pillow, the same in every version."""

import textwrap

from PIL import Image, ImageDraw, ImageFont

# A character is 6 x 11 pixels; the square is the smallest that holds every text of the starter, in letters that a
# vision model can still tell apart when it is resized to 224 x 224.
_SIDE = 128
_MARGIN = 4
_LINE = 12
_CHARACTERS = (_SIDE - 2 * _MARGIN) // 6


def rendered(text: str) -> Image.Image:
    """A text as a grey picture, 128 pixels wide, and as many high unless the text needs more.

    Characters that the font lacks, those beyond Latin-1, are drawn as question marks.

    Example:
        >>> picture = rendered("The matrix factors slowly.")
        >>> picture.size, picture.mode, picture.getpixel((0, 0))
        ((128, 128), 'L', 255)
    """
    lines = textwrap.wrap(text.encode("latin-1", "replace").decode("latin-1"), _CHARACTERS)
    height = max(_SIDE, 2 * _MARGIN + _LINE * len(lines))
    picture = Image.new("L", (_SIDE, height), color=255)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default_imagefont()
    draw.fontmode = "1"
    for number, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + _LINE * number), line, fill=0, font=font)
    return picture
