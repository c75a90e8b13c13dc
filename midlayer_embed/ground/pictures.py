"""The house style of all pictures, for every plotting library: colours, sizes and wrapped titles.

Sizes are in points. A picture is a slide of 16:9, 13.3 by 7.5 inches; text keeps its size when the picture fills one.
"""

import textwrap
import unicodedata

# Okabe and Ito's colour-blind safe palette, without yellow and black, which are hard to see on white and on dark
# backgrounds.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")

SLIDE = (960, 540)
PIXELS_PER_POINT = 2
# Nothing on a picture is smaller than its text.
TITLE_SIZE, TEXT_SIZE = 20, 14
_MARGIN = 40
# For libraries that look for a letter in these fonts only: a family for each script that names are written in. The
# first one comes with matplotlib.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Nirmala UI",
    "Noto Sans Thai",
)
# Mean width of a letter, as a share of the font size, in scripts of narrow and of wide letters.
_NARROW, _WIDE = 0.58, 1.0


def wrapped(text: str, size: int = TITLE_SIZE, width: int = SLIDE[0] - _MARGIN) -> list[str]:
    """The lines of a text that has to fit a width. Long words, such as names of models, are broken.

    Args:
        text: Any text; white space, line breaks included, becomes single spaces.
        size: Font size in points.
        width: Width in points.

    Example:
        >>> wrapped("org/a-model-with-a-name, mean of 5 tasks", size=20, width=300)
        ['org/a-model-with-a-name,', 'mean of 5 tasks']
    """
    words = " ".join(text.split())
    n_wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in words)
    letter = size * (_NARROW + (_WIDE - _NARROW) * n_wide / max(1, len(words)))
    return textwrap.wrap(words, max(1, int(width / letter))) or [""]
