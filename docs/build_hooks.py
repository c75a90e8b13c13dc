"""Fills in help texts, benchmark results and the table of image encoders when pages are built.

MkDocs calls `on_page_markdown` for every page. mkdocstrings builds the reference from docstrings, not this module.
"""

import io
import os
import re
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_ROOT = Path(__file__).resolve().parent.parent
_PROGRAMS = {"midlayer-embed": "midlayer_embed.cli", "midlayer-leaderboard": "leaderboard.cli"}
_HELP = re.compile(r"^<!-- help: (\S+) -->$", re.MULTILINE)
_RESULTS = re.compile(r"^<!-- results -->$", re.MULTILINE)
_IMAGE_ENCODERS = re.compile(r"^<!-- image encoders -->$", re.MULTILINE)
# argparse lists each command with four spaces before its name.
_COMMAND = re.compile(r"^ {4}([a-z]+)\b", re.MULTILINE)
_TABLE = re.compile(r"^\|.*(?:\n\|.*)+", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page.

    Args:
        markdown: The source of the page.

    Raises:
        PluginError: A marker cannot be filled in; the build stops.
    """
    markdown = _HELP.sub(lambda marker: _commands(marker[1]), markdown)
    markdown = _IMAGE_ENCODERS.sub(lambda _: _image_encoders(), markdown)
    return _RESULTS.sub(lambda _: _results(), markdown)


def _commands(program: str) -> str:
    """A section for a program, and one for each of its commands."""
    overview = _help(program)
    names = _COMMAND.findall(overview)
    if not names:
        raise PluginError(f"{program} --help lists no commands")
    sections = [f"## {program}\n\n{_block(overview)}"]
    sections += [f"### {program} {name}\n\n{_block(_help(program, name))}" for name in names]
    return "\n\n".join(sections)


def _block(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


def _help(program: str, *command: str) -> str:
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            import_module(_PROGRAMS[program]).main([*command, "--help"])
    except SystemExit as end:
        if end.code:
            raise PluginError(f"{program} {' '.join(command)} --help ends with exit code {end.code}") from end
    return printed.getvalue()


def _image_encoders() -> str:
    """The table of image encoders that are known, with the defaults of their configs."""
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))
    from transformers import AutoConfig

    import_module("midlayer_embed.models.vision.aim_config")  # which transformers does not have
    families = import_module("midlayer_embed.models.vision.families")
    quiet = import_module("midlayer_embed.ground.quiet").quiet_transformers
    rows = ["| `model_type` | blocks | final norm | before the patches | CLS |", "| --- | --- | --- | --- | --- |"]
    for name in families.known_vision_families():
        with quiet():
            config = AutoConfig.for_model(name)
            family = families.vision_family_of(config)
        norm = f"`{family.final_norm}`" + (", of the mean" if family.norm_after_pooling else "")
        cls = "yes" if family.has_cls else "no"
        registers = getattr(config, "num_register_tokens", None)
        before = family.n_prefix if registers is None else f"{family.n_prefix - registers} and registers"
        rows.append(f"| `{name}` | `{family.blocks}` | {norm} | {before} | {cls} |")
    return "\n".join(rows)


def _results() -> str:
    """The table of `make bench`."""
    results = (_ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    written, table = re.search(r"^Written by .*$", results, re.MULTILINE), _TABLE.search(results)
    if written is None or table is None:
        raise PluginError("benchmarks/RESULTS.md has no table")
    return f"{written[0]}\n\n{table[0]}"
