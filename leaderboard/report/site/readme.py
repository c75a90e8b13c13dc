"""The README of a site: its front matter is the configuration of a static Hugging Face Space."""

from typing import TYPE_CHECKING

from midlayer_embed import __version__
from midlayer_embed.ground.markdown import escaped

if TYPE_CHECKING:
    from leaderboard.report.page_files.sections import Front

_TEXT = """\
---
title: Which layer embeds best?
emoji: \N{BAR CHART}
colorFrom: blue
colorTo: yellow
sdk: static
app_file: index.html
pinned: false
license: apache-2.0
short_description: Scores of every layer of language models
tags: [leaderboard, embeddings, mteb, sentence-transformers]
---
{mark} `report --site` replaces this file. Version {version}. -->

# Which layer embeds best?

{front}

{links}

{picture}index.html needs no other file and no network. To publish the folder as a static Space:
`hf upload OWNER/NAME . --repo-type space`.
"""


def readme(mark: str, front: "Front", picture: str | None) -> str:
    """The README as Markdown.

    Args:
        mark: How it is known as one of ours.
        front: What the page says first.
        picture: Path of a picture, relative to the folder.
    """
    return _TEXT.format(
        mark=mark,
        version=__version__,
        front=escaped(" ".join(front.sentences)),
        links=" · ".join(f"[{name}]({address})" for name, address in front.links),
        picture="" if picture is None else f"![Score over depth]({picture})\n\n",
    )
