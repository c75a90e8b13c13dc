"""Sections of a page that need no script: a picture and a small table each. Pages of several kinds show them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files

import jinja2
from markupsafe import Markup

from midlayer_embed import __version__

_FILES = files("leaderboard.report") / "page_files"
# The layers of a model as bars; the one in the middle stands out.
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<path fill="#8C8C8C" d="M1 9h3v6H1zM12 6h3v9h-3z"/><path fill="#0072B2" d="M6 1h4v14H6z"/></svg>'
)
ICON = f"data:image/svg+xml;base64,{base64.b64encode(_ICON.encode()).decode()}"


@dataclass(frozen=True)
class Section:
    """A picture with its table.

    Attributes:
        anchor: Its name in addresses; letters, digits, "-" and "_".
        title: Title.
        lead: What to look for, in one or two sentences.
        svg: The picture.
        caption: What the picture shows, for those who cannot see it, too.
        columns: Heads of the table's columns.
        rows: Cells of the table.
        n_names: Number of columns at the left that hold words, not numbers.
        note: What the numbers were made with.
    """

    anchor: str
    title: str
    lead: str
    svg: str = field(repr=False)
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_names: int
    note: str

    @cached_property
    def picture(self) -> str:
        """The picture as an address that needs no network and runs no script."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


@dataclass(frozen=True)
class Front:
    """What the page of a site says before anything else, to visitors who know nothing of it.

    Attributes:
        sentences: What they see.
        links: Titles and addresses.
    """

    sentences: Sequence[str]
    links: Sequence[tuple[str, str]]


def templates() -> jinja2.Environment:
    """The templates of pages; what they are given is escaped."""
    loader = jinja2.FunctionLoader(lambda name: (_FILES / name).read_text(encoding="utf-8"))
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=loader)


def page_style() -> Markup:
    """The style of pages."""
    return Markup((_FILES / "page.css").read_text(encoding="utf-8"))


def sections_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A page of nothing but sections, as HTML without scripts.

    Args:
        title: Title of the page.
        lead: What the page is about, in a sentence.
        sections: Its sections.
    """
    template = templates().get_template("sections_page.html.j2")
    return template.render(
        version=__version__, title=title, lead=lead, sections=sections, style=page_style(), icon=ICON
    )
