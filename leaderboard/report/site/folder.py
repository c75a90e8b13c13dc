"""Writes the folder of a site. Imports what draws only when it is written."""

import gzip
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.paths import target_folder

if TYPE_CHECKING:
    from leaderboard.report.page_files.sections import Front, Section
    from leaderboard.results.tables import Tables

logger = logging.getLogger(__name__)

PAGE, README, PICTURE = "index.html", "README.md", "score_over_depth.png"
# How a README of ours is known, so that no other one is replaced.
_MARK = "<!-- Written by midlayer-leaderboard."


def site_folder(folder: str | Path, argument: str = "site") -> Path:
    """The folder that a site may be written to, created if needed.

    Raises:
        InputError: (a ValueError) it cannot be written, or has a README.md that no site has written.
    """
    target = target_folder(folder, argument)
    readme = target / README
    if readme.exists() and _MARK not in readme.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{argument}: {folder} has a {README} of its own; expected a folder for nothing but the site")
    return target


def save_site(
    board: "Tables", folder: str | Path, *, about: str = "", sections: "Sequence[Section]" = (), **options: Any
) -> list[Path]:
    """Writes the page, the README that makes the folder a static Space, `.nojekyll` for GitHub Pages, and a picture.

    Args:
        board: The tables, with at least one score.
        folder: Target folder. Files of an earlier site are replaced.
        about: A sentence that says whose results these are.
        sections: Further sections of the page.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.

    Returns:
        The files.

    Raises:
        InputError: (a ValueError) as `site_folder`.
    """
    from leaderboard.report.figures import save_figure
    from leaderboard.report.page import page, picture
    from leaderboard.report.site.readme import readme

    target = site_folder(folder, "folder")
    front = _front(board, about)
    drawn = picture(board, options)
    if drawn is not None:
        save_figure(drawn, target / PICTURE)
    texts = {
        PAGE: page(board, sections=sections, front=front, **options),
        README: readme(_MARK, front, None if drawn is None else PICTURE),
        ".nojekyll": "",
    }
    for name, text in texts.items():
        with atomic_file(target / name) as partial:
            partial.write_text(text, encoding="utf-8")
    files = [target / name for name in (*texts, *([] if drawn is None else [PICTURE]))]
    whole, packed = (len(data) / 1e6 for data in (texts[PAGE].encode(), gzip.compress(texts[PAGE].encode())))
    size = sum(path.stat().st_size for path in files) / 1e6
    logger.info(
        "site: %s: %s of %.1f MB (%.1f compressed), %d files of %.1f MB", target, PAGE, whole, packed, len(files), size
    )
    return files


def _front(board: "Tables", about: str) -> "Front":
    from leaderboard.report.glossary import PAPER
    from leaderboard.report.page_files.sections import Front

    n_models, n_tasks = len({variant[:2] for variant in board.variants()}), board.scores["task"].n_unique()
    models, tasks = (f"{n} {word}{'s' if n != 1 else ''}" for n, word in ((n_models, "model"), (n_tasks, "task")))
    shown = f"This page shows the score of every layer of {models} on {tasks}"
    return Front(
        (
            "Language models often embed text better at a middle layer than at the last one.",
            f"{shown}: choose a model for its curves, all its tasks, and the code that loads its best layer.",
            *([about] if about else []),
        ),
        (
            ("Code", "https://github.com/midlayer-embed/midlayer-embed"),
            ("Documentation", "https://midlayer-embed.github.io/midlayer-embed/"),
            ("Paper", PAPER),
        ),
    )
