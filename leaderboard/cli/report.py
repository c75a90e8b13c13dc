"""The command `report`: reads tables, prints schemes and associations, and writes files of them."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from leaderboard.cli.options import PROGRAM, add_comparison, add_tables, check_tables, read_tables
from leaderboard.report.site.folder import site_folder
from midlayer_embed.cli.parser import Parser
from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import target_file, target_folder

if TYPE_CHECKING:
    import polars as pl

    from leaderboard.board import Leaderboard
    from leaderboard.report.page_files.sections import Section

# The checks of the output's targets.
_TARGETS = {
    **dict.fromkeys(("parquet", "csv", "figures"), target_folder),
    **dict.fromkeys(("markdown", "html"), target_file),
    "site": site_folder,
}


def add_report(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    report = commands.add_parser(
        "report",
        help="compare ways to pick a layer, from results or tables",
        description="Compares ways to pick a layer (the paper's Table 2 and more) and shows how metrics are associated "
        "with scores. Reads the results folders of runs, and tables of any number of models (.csv, .csv.gz, .parquet).",
        epilog=f"example: {PROGRAM} report --scores scores.csv.gz --metrics metrics.csv.gz --model Pythia-410m",
    )
    report.set_defaults(command=_report)
    add_tables(report)
    how = add_comparison(report, default="available", said="scheme")
    how.add_argument("--complete-only", action="store_true", help="best layer among those with a score for every task")
    out = report.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print schemes and associations as JSON, with every column")
    out.add_argument("--parquet", metavar="FOLDER", help="also write all tables to FOLDER as .parquet")
    out.add_argument("--csv", metavar="FOLDER", help="also write all tables to FOLDER as .csv")
    out.add_argument("--markdown", metavar="FILE", help="also write schemes, layers and associations to FILE")
    out.add_argument("--html", metavar="FILE", help="also write an HTML page to FILE; it needs no network")
    out.add_argument(
        "--site",
        metavar="FOLDER",
        help="also write the page to a FOLDER that a static Hugging Face Space or GitHub Pages serves",
    )
    out.add_argument("--about", metavar="TEXT", help="with --site: a sentence that says whose results these are")
    out.add_argument(
        "--experiments",
        metavar="FOLDER",
        help="add a section to the page for every experiment in FOLDER, which `experiment --out FOLDER` wrote",
    )
    out.add_argument(
        "--published",
        action="store_true",
        help="add a section to the page: best layers by published scores",
    )
    out.add_argument("--figures", metavar="FOLDER", help="also draw the paper's figures to FOLDER, as .png and .svg")


def _report(arguments: argparse.Namespace) -> None:
    _check_targets(arguments)
    check_tables(arguments)
    sections = _sections(arguments)
    board = read_tables(arguments)
    board = board.only(arguments.model, arguments.revision)
    options = {"tasks": arguments.tasks, "complete_only": arguments.complete_only, "seed": arguments.seed}
    schemes = board.schemes(**options)
    writers: dict[str, Callable[..., None]] = {
        "parquet": board.to_parquet,
        "csv": board.to_csv,
        "markdown": board.save_markdown,
        "site": partial(board.to_site, sections=sections, about=arguments.about or ""),
        "figures": board.save_figures,
        "html": partial(board.to_html, sections=sections),
    }
    for name, write in writers.items():
        target = getattr(arguments, name)
        if target is not None:
            write(target, **options)
    if arguments.json:
        from leaderboard.analysis.schemes import notes

        found = {
            "schemes": schemes.to_dicts(),
            "recipes": board.recipes(tasks=arguments.tasks).to_dicts(),
            "associations": board.of_every_model(board.associations).to_dicts(),
            "no_scores": board.no_scores().to_dicts(),
            "notes": notes(schemes),
        }
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        _print(board, schemes, arguments)


def _sections(arguments: argparse.Namespace) -> "list[Section]":
    """The sections of --experiments and --published.

    Raises:
        InputError: (a ValueError) there is no page to add them to, or no experiment.
    """
    for name in ("experiments", "published"):
        if getattr(arguments, name) and arguments.html is None and arguments.site is None:
            raise InputError(f"{name}: a section of the page; expected --html FILE or --site FOLDER, too")
    if arguments.about is not None and arguments.site is None:
        raise InputError("about: a sentence of the site; expected --site FOLDER, too")
    found = []
    if arguments.experiments is not None:
        from leaderboard.experiments.files import sections_of

        found += sections_of(arguments.experiments)
    if arguments.published:
        from leaderboard.report.site.published import published_section

        found.append(published_section())
    return found


def _check_targets(arguments: argparse.Namespace) -> None:
    """Rejects targets that cannot be written, before tables are read."""
    for name, check in _TARGETS.items():
        if getattr(arguments, name) is not None:
            check(getattr(arguments, name), name)


def _print(board: "Leaderboard", schemes: "pl.DataFrame", arguments: argparse.Namespace) -> None:
    """Prints all models, and details of one: of the only one, or of revision "main" of the requested one.

    Details are of plain layers; where there are none, of the best recipe.
    """
    from leaderboard.analysis.recipes import compared
    from leaderboard.analysis.schemes import notes
    from leaderboard.report.cells import variant_of
    from leaderboard.report.terminal import print_associations, print_recipes, print_scheme_details, print_schemes

    print_schemes(schemes)
    recipes = board.recipes(tasks=arguments.tasks)
    if not compared(recipes).is_empty():
        print()
        print_recipes(compared(recipes), board.recipes(tasks=arguments.tasks, per_type=True), said=notes(schemes))
    models = board.models()
    which = [model for model in models if len(models) == 1 or model == (arguments.model, "main")]
    if not which:
        print("--model NAME [--revision NAME] prints all schemes and associations of a model")
    for model in which:
        of_model = [one for one in board.variants() if one[:2] == model]
        first = variant_of(next(recipes.filter(label=model[0], revision=model[1]).iter_rows(named=True)))
        variant = next((one for one in of_model if one.is_plain), first)
        print()
        rows = [row for row in schemes.iter_rows(named=True) if variant_of(row) == variant]
        print_scheme_details(rows[0])
        associations = board.associations(*variant[:2], **variant.recipe())
        if not associations.is_empty():
            print()
            print_associations(variant, associations)
