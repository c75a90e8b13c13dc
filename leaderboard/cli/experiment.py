"""The command `experiment`: the paper's other experiments, each with a table, a figure and a section of a page."""

import argparse
from collections.abc import Callable
from typing import Any

from leaderboard.cli.options import PROGRAM, parse_layers
from leaderboard.experiments.grids import check_exponents, check_lengths, check_probabilities
from leaderboard.experiments.names import EXPERIMENTS, OPTIONS, Experiment, find_experiment
from leaderboard.models.known import known_models
from midlayer_embed.cli.early import check_model, check_texts
from midlayer_embed.cli.options import add_text_options, measuring_options, read_texts
from midlayer_embed.cli.parser import Parser, add_model_options, completes, model_options
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_orders
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.layers import SITES, check_site
from midlayer_embed.terms import METRIC_TABLE, check_metrics

# Where finished models are kept, for experiments that measure several.
_PARTS = "parts"
# The option of the command for a keyword that has another name.
_FLAGS = {"metrics": "measure", "first_token": "no-first-token", "one_token": "one-token"}


# What can be told of them without a model or texts.
_CHECKS: dict[str, Callable[[Any], object]] = {
    "p": check_probabilities,
    "lengths": check_lengths,
    "sites": lambda sites: [check_site(site) for site in sites],
    "alphas": lambda alphas: check_orders("alphas", alphas),
    "betas": check_exponents,
    "metrics": check_metrics,
}


def add_experiment(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    experiment = commands.add_parser(
        "experiment",
        help="the paper's other experiments: training, scale, extreme prompts, sites, orders of entropy",
        description="Runs an experiment of the paper, without labels: "
        + "; ".join(f"{one.name} ({one.paper[0].lower()}{one.paper[1:]})" for one in EXPERIMENTS.values())
        + ". Writes its table, its figure and a page with all experiments of the folder.",
        epilog=f"example: {PROGRAM} experiment repetition starter --starter-texts --out experiments",
    )
    experiment.set_defaults(command=_experiment)
    name = experiment.add_argument("name", metavar="NAME", help=", ".join(EXPERIMENTS))
    completes(name, EXPERIMENTS)
    add_model_options(experiment, several=True, raw=True, without=("site",))
    add_text_options(experiment, required=False)
    what = experiment.add_argument_group("experiment")
    what.add_argument(
        "--out", required=True, metavar="FOLDER", help="target folder of NAME.parquet, .png, .svg and index.html"
    )
    measure = what.add_argument(
        "--measure",
        dest="metrics",
        nargs="+",
        metavar="METRIC",
        help=f"metrics, some of {', '.join(METRIC_TABLE)} (default: depends on the experiment)",
    )
    completes(measure, METRIC_TABLE)
    what.add_argument(
        "--revisions",
        nargs="+",
        metavar="REV",
        help="checkpoints: revisions on the Hub, or folders (default: all checkpoints in the folder MODEL)",
    )
    what.add_argument(
        "--p",
        nargs="+",
        type=float,
        metavar="P",
        help="repetition, randomness: shares of the tokens to replace, 0 to 1",
    )
    what.add_argument(
        "--lengths", nargs="+", type=int, metavar="N", help="sequence_length, prompt_length: numbers of tokens"
    )
    sites = what.add_argument(
        "--sites", nargs="+", metavar="SITE", help=f"sublayers: some of {', '.join(SITES)} (default: all there are)"
    )
    completes(sites, SITES)
    what.add_argument("--alphas", nargs="+", type=float, metavar="A", help="alpha_curves: orders of entropy, above 0")
    what.add_argument("--betas", nargs="+", type=float, metavar="B", help="alpha_curves: exponents of the spectra")
    what.add_argument(
        "--layers", metavar="LAYERS", help="only these, e.g. 0,6,-1; 0.5 is a depth (default: all, or a few of them)"
    )
    without = [one.name for one in EXPERIMENTS.values() if "first_token" in one.takes]
    what.add_argument(
        "--no-first-token",
        dest="first_token",
        action="store_false",
        default=None,
        help=f"{', '.join(without)}: leave the first token of each text out, on which decoders park attention",
    )
    what.add_argument(
        "--one-token",
        action="store_true",
        default=None,
        help="repetition: one token of a prompt replaces all that are replaced (default: one drawn for each)",
    )
    what.add_argument(
        "--scores",
        metavar="PATH",
        help="compare_models: scores to draw beside the metrics, a results folder or a table",
    )
    published = experiment.add_argument_group("published metrics")
    published.add_argument(
        "--metrics",
        dest="published",
        metavar="FILE",
        help="checkpoints, compare_models: a table of metrics over a corpus to draw beside (model, revision, metric, "
        "normalization, layer, value), or alone without MODEL",
    )
    published.add_argument("--model", dest="only", nargs="+", metavar="NAME", help="only these models of that table")


def _experiment(arguments: argparse.Namespace) -> None:
    experiment = find_experiment(arguments.name)
    keywords = _keywords(experiment, arguments)
    _check(experiment, arguments)
    from leaderboard.experiments.files import save, summary_of, title_of
    from leaderboard.report.terminal import print_frame

    if arguments.published is not None:  # a wrong file, or a wrong name, is told before hours of measuring
        from leaderboard.experiments.profiles import beside_published, read_published

        published = read_published(arguments.published)
        if arguments.only is not None:
            beside_published(None, published, experiment.name, arguments.only)
    table = None
    if arguments.models or experiment.without_model:
        table = _measured(experiment, arguments, keywords)
    if arguments.published is not None:
        table = beside_published(table, published, experiment.name, arguments.only)
    assert table is not None
    files = save(table, experiment, arguments.out)
    print_frame(title_of(table, experiment), summary_of(table, experiment))
    print(f"{arguments.out}: {', '.join(path.name for path in files)}")


def _keywords(experiment: Experiment, arguments: argparse.Namespace) -> dict[str, Any]:
    """The keywords that only some experiments take, checked without anything slow.

    Raises:
        InputError: (a ValueError) an option that the experiment does not take, or a wrong value.
    """
    given = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    if arguments.rates == "paper":
        given.pop("rates")
    for name in given:
        if name not in experiment.takes:
            takes = ", ".join(f"--{_FLAGS.get(one, one)}" for one in experiment.takes)
            raise InputError(f"{_FLAGS.get(name, name)}: {experiment.name} does not take it; it takes {takes}")
    for name, check in _CHECKS.items():
        if name in given:
            check(given[name])
    if "layers" in given:
        given["layers"] = parse_layers(given["layers"])
    return given


def _check(experiment: Experiment, arguments: argparse.Namespace) -> None:
    """Rejects what is wrong with models, texts and targets before anything slow is imported."""
    n_models = len(arguments.models)
    needs_model = arguments.published is None and not experiment.without_model
    if needs_model and not n_models:
        raise InputError(f"model: {experiment.name} needs a MODEL, got none")
    if n_models > 1 and not experiment.several:
        raise InputError(f"model: {experiment.name} takes one MODEL, got {n_models}")
    if arguments.published is not None and not experiment.published:
        raise InputError(f"metrics: {experiment.name} has no published table; to choose metrics, use --measure")
    if arguments.only is not None and arguments.published is None:
        raise InputError("model: it chooses models of the table of --metrics FILE, and none was given")
    if "revisions" in experiment.takes and arguments.revision is not None:
        raise InputError(f"revision: {experiment.name} takes several, expected --revisions, got {arguments.revision!r}")
    target_folder(arguments.out, "out")
    check_texts(arguments)
    has_source = arguments.texts is not None or arguments.dataset is not None or arguments.starter_texts
    if n_models and not has_source:
        raise InputError(f"texts: {experiment.name} needs texts: pass --texts FILE, --dataset ID or --starter-texts")
    for model in arguments.models:
        if model in known_models():
            known_models()[model].check_revision(arguments.revision)
        else:
            check_model(argparse.Namespace(**{**vars(arguments), "model": model}))


def _measured(experiment: Experiment, arguments: argparse.Namespace, keywords: dict[str, Any]) -> Any:
    from leaderboard.experiments.encoders import find_model

    options = model_options(arguments)
    if "revisions" in experiment.takes:
        options.pop("revision")
    for model in arguments.models:
        if "revisions" not in experiment.takes:  # a folder of checkpoints is no model itself
            find_model(model, options)  # a wrong one is told before texts are read
    models = arguments.models if experiment.several else arguments.models[0] if arguments.models else None
    how = measuring_options(arguments)
    how.pop("rates", None)
    if experiment.resumes:
        how["folder"] = target_folder(arguments.out, "out") / _PARTS
    texts = read_texts(arguments)
    return experiment.part()(models, texts, **keywords, **how, **options)
