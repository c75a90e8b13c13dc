"""The command `recipe`: chooses template, pooling, layer and transform over texts, without labels."""

import argparse
import shlex
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midlayer_embed.cli.early import check_model, check_texts
from midlayer_embed.cli.options import PROGRAM, add_text_options, find_model, measuring_options, read_texts
from midlayer_embed.cli.parser import (
    Parser,
    add_file_options,
    add_model_options,
    completes,
    model_arguments,
    model_options,
)
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.layers import check_is_layer
from midlayer_embed.options import POOLING_MODES, Recipe, Source
from midlayer_embed.recipes.names import NONE, TEMPLATES, TEXT, TRANSFORMS, check_templates, check_transforms
from midlayer_embed.selection.criteria import AUTO
from midlayer_embed.selection.recipe.choice import (
    POOLINGS,
    RECIPE_CRITERIA,
    check_poolings,
    check_recipe_criterion,
)
from midlayer_embed.selection.recipe.purposes import PURPOSES, check_purpose
from midlayer_embed.selection.recipe.purposes import TRANSFORMS as DEFAULT_TRANSFORMS
from midlayer_embed.texts.names import DEFAULT_SPLIT

if TYPE_CHECKING:
    from midlayer_embed.selection.recipe.choice import RecipeSelection

_TRANSFORMS = tuple(name or NONE for name in DEFAULT_TRANSFORMS)


def add_recipe(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the program."""
    recipe = commands.add_parser(
        "recipe",
        help="choose a template, a pooling, a layer and a transform over texts, without labels",
        description="Chooses a whole recipe with texts like those you will embed, without labels: every layer under "
        "every template and pooling is measured, and the transform follows from what the vectors are for. Prints the "
        "best candidates, the pick in words, and the command that exports it.",
        epilog=f"example: {PROGRAM} recipe starter --starter-texts --max-texts 200 --out recipes",
    )
    recipe.set_defaults(command=_recipe)
    add_model_options(recipe, without=("template", "pooling_mode"))
    add_file_options(recipe)
    add_text_options(recipe, required=True, augmented=False)
    tried = recipe.add_argument_group("what is tried")
    templates = tried.add_argument(
        "--templates",
        nargs="+",
        default=[NONE, *TEMPLATES],
        metavar="NAME|TEXT",
        help=f"{NONE}, {', '.join(TEMPLATES)}, or texts with {TEXT} in them (default: {NONE} {' '.join(TEMPLATES)})",
    )
    completes(templates, (NONE, *TEMPLATES))
    poolings = tried.add_argument(
        "--poolings",
        nargs="+",
        metavar="MODE",
        help=f"some of {', '.join(POOLING_MODES)}, or several joined by + (default: "
        f"{' '.join(mode for mode in POOLINGS if mode)}, and the model's own)",
    )
    completes(poolings, POOLING_MODES)
    transforms = tried.add_argument(
        "--transforms",
        nargs="+",
        default=list(_TRANSFORMS),
        metavar="NAME",
        help=f"transforms that may be taken: {NONE}, {', '.join(TRANSFORMS)} (default: {' '.join(_TRANSFORMS)})",
    )
    completes(transforms, (*_TRANSFORMS, "center"))
    purpose = tried.add_argument(
        "--for",
        dest="purpose",
        default=PURPOSES[0],
        metavar="USE",
        help=f"what the vectors are for, which decides the transform: {', '.join(PURPOSES)} (default: {PURPOSES[0]}, "
        "which is for search, too)",
    )
    completes(purpose, PURPOSES)
    criterion = tried.add_argument(
        "--criterion", default=AUTO, metavar="NAME", help=f"one of {', '.join(RECIPE_CRITERIA)} (default: {AUTO})"
    )
    completes(criterion, RECIPE_CRITERIA)
    recipe.add_argument(
        "--out",
        metavar="FOLDER",
        help="also write all candidates to recipes.parquet and recipes.csv in FOLDER, where a run that was interrupted "
        "resumes",
    )


def _recipe(arguments: argparse.Namespace) -> None:
    check_templates(arguments.templates)
    check_transforms(arguments.transforms)
    poolings = POOLINGS if arguments.poolings is None else check_poolings(arguments.poolings)
    check_purpose(arguments.purpose)
    check_recipe_criterion(arguments.criterion)
    folder = None if arguments.out is None else target_folder(arguments.out, "out")
    if folder is not None:
        check_installed("polars", "out")
    check_texts(arguments)
    check_is_layer(arguments.site, "chosen")
    check_model(arguments)
    from midlayer_embed.selection.recipe.choice import recipe_summary, recipe_table
    from midlayer_embed.selection.recipe_search import select_recipe

    selection = select_recipe(
        find_model(arguments),
        read_texts(arguments) or [],
        templates=arguments.templates,
        transforms=arguments.transforms,
        criterion=arguments.criterion,
        poolings=poolings,
        purpose=arguments.purpose,
        folder=folder,
        **measuring_options(arguments),
        **model_options(arguments),
    )
    print(recipe_table(selection))
    print("\n".join(recipe_summary(selection)))
    if folder is not None:
        print(f"{arguments.out}: {', '.join(selection.write_tables(folder))}")
    print(f"export it: {export_command(arguments, selection)}")


def export_command(arguments: argparse.Namespace, selection: "RecipeSelection") -> str:
    """The command that exports a recipe, quoted for a shell.

    Args:
        arguments: Those of the command `recipe`.
        selection: What it chose.
    """
    from midlayer_embed.selection.recipe.choice import provenance

    recipe = selection.recipe
    defaults = {option.name: option.default for record in (Source, Recipe) for option in fields(record)}
    chosen: dict[str, Any] = {
        name: value for name, value in model_options(arguments).items() if value != defaults[name]
    } | {"template": recipe.template, "pooling_mode": recipe.pooling_mode, "transform": recipe.transform}
    words = [PROGRAM, "export", arguments.model, _new_folder(arguments.model), "--layer", str(recipe.layer)]
    words += [*model_arguments(chosen), "--how-chosen", provenance(selection)]
    if recipe.transform is not None:
        words += _texts_of_transform(arguments)
    return shlex.join(words)


def _texts_of_transform(arguments: argparse.Namespace) -> list[str]:
    if arguments.texts is not None:
        column = [] if arguments.column is None else ["--transform-column", arguments.column]
        return ["--transform-texts", arguments.texts, *column]
    if arguments.starter_texts:
        return ["--starter-texts"]
    words = ["--dataset", arguments.dataset]
    if arguments.split != DEFAULT_SPLIT:
        words += ["--split", arguments.split]
    for name in ("config", "column", "data_dir"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name.replace('_', '-')}", value]
    return words


def _new_folder(model: str) -> str:
    """A name for the folder of an export, which is not taken in the working directory."""
    name = f"{Path(model).name or 'model'}-recipe"
    return next(one for number in count(1) if not Path(one := name if number == 1 else f"{name}-{number}").exists())
