"""Quality against cost: texts per second, CPU seconds per 1,000 texts and scores of each way to serve a layer.

    python -m benchmarks.serving.quality_and_cost [--data-dir FOLDER] [--scores FILE] [--plot FILE] [--layer 7]

Every way encodes the same texts in a process of its own, on two threads: once for warm-up, then `--rounds` times, of
which the best counts. The processes take turns, so that all see the same load. The texts are those of the two tasks, in
batches of the default size; the targets are measured on texts of 64 tokens in batches of 16, as is usual. Vectors of
ONNX in float32 must equal those of torch to 1e-4.

With a folder of datasets (`midlayer-leaderboard run --data-dir`; or the variable DATA_DIR), the tasks are the whole of
STSBenchmark and Banking77 by mteb; models of all blocks are scored on Banking77 with `--all-scores` only, since that
takes half an hour. Without a folder, they are the STS and the classification of the starter benchmark. Ways with equal
vectors share one score, measured on the vectors of ONNX; int8 is scored on its own vectors. Transforms are fitted on
2,000 sentences of the training splits, without labels.

With a folder of datasets, benchmarks/quality_and_cost.png is drawn unless `--plot` names another file.

Scoring the whole tasks takes most of the time. Scores are kept in a JSON file (`--scores`), by the names and versions
of all that they depend on; what is not there is measured and added.
"""

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Row, build_parser, describe_machine, report_rows
from benchmarks.serving.one_way import (
    BATCH_OF_BLOCKS,
    INT8,
    ONNX,
    OURS,
    PLAIN,
    WORDS,
    Measured,
    OneWay,
    loaded_task,
)
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.markdown import table
from midlayer_embed.ground.whole_files import read_json

PLOT = Path(__file__).parents[1] / "quality_and_cost.png"
SCORES = Path(__file__).with_name("quality_scores.json")
LAST, MINILM, TF_IDF = "last layer", "all-MiniLM-L6-v2", "TF-IDF"
REAL_TASKS = ("STSBenchmark", "Banking77Classification")
STARTER_TASKS = ("StarterSTS", "StarterClassification")
LARGE_TASKS = ("Banking77Classification",)
# The best recipe of docs/guides/recipes.md on STSBenchmark without labels, at the last layer.
RECIPE: dict[str, Any] = {"template": "eol", "pooling_mode": "lasttoken", "transform": "standardize"}
RECIPE_NAME = "recipe eol"
N_FITTED_ON = 2000
TOKENS_OF_BLOCK = 64
TOLERANCE = 1e-4
# Packages that scores depend on; those that are timed are in the description of the machine.
PACKAGES = ("mteb", "numpy", "onnxruntime", "scikit-learn", "scipy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Way:
    """One way to make vectors.

    Attributes:
        model: Name of the model, its layer and recipe, as shown.
        by: What makes the vectors.
    """

    model: str
    by: str

    @property
    def name(self) -> str:
        """What is printed."""
        return f"{self.model}, {self.by}"

    @property
    def scored_by(self) -> str:
        """The way whose vectors are scored: ways of one model in float32 have the same ones."""
        return ONNX if self.by in (PLAIN, OURS) and self.model != LAST else self.by


class Scores:
    """Scores by what they depend on, in a JSON file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, float] = read_json(path, "scores") if path is not None and path.exists() else {}

    @staticmethod
    def key(way: Way, task: str, data: str, revision: str) -> str:
        """What a score depends on."""
        packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        return f"{task} ({data}): {way.model}, {way.scored_by}, {revision}; {packages}"

    def get(self, key: str) -> float | None:
        """A score that is known."""
        return self._known.get(key)

    def put(self, key: str, score: float) -> None:
        """Note a score."""
        self._known[key] = score
        if self._path is not None:
            with atomic_file(self._path) as partial:
                partial.write_text(json.dumps(self._known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


class Corpus:
    """The texts that are timed, and those that transforms are fitted on."""

    def __init__(self, data_dir: Path | None, model: str, n_texts: int, n_blocks: int) -> None:
        self._data_dir, self._model, self._n_texts, self._n_blocks = data_dir, model, n_texts, n_blocks
        self.tasks = STARTER_TASKS if data_dir is None else REAL_TASKS

    @cached_property
    def _splits(self) -> tuple[list[str], list[str]]:
        """Distinct texts of the test and the training splits of the tasks, in random order."""
        if self._data_dir is None:
            from midlayer_embed.texts.corpora import starter_texts

            every = starter_texts()
            tested, trained = every[::2], every[1::2]
        else:
            parts = [self._of(name) for name in self.tasks]
            share = min(len(tested) for tested, _ in parts)
            tested, trained = ([text for part in parts for text in part[side][:share]] for side in (0, 1))
        rng = np.random.default_rng(0)
        return rng.permutation(tested).tolist(), rng.permutation(trained).tolist()

    def _of(self, name: str) -> tuple[list[str], list[str]]:
        data = loaded_task(name, self._data_dir).dataset
        data = data if "test" in data else next(iter(data.values()))
        columns = [column for column in ("sentence1", "sentence2", "text") if column in data["test"].column_names]
        rng = np.random.default_rng(0)
        found = []
        for split in ("test", "train"):
            texts = dict.fromkeys(text for column in columns for text in data[split][column])
            found.append(rng.permutation(list(texts)).tolist())
        return found[0], found[1]

    @cached_property
    def texts(self) -> list[str]:
        """Texts to encode."""
        return self._splits[0][: self._n_texts]

    @property
    def fitted_on(self) -> list[str]:
        """Texts to fit transforms on."""
        return self._splits[1][:N_FITTED_ON]

    def blocks(self, tokenizer: Any) -> list[str]:
        """Texts of 64 tokens, made of the texts one after the other."""
        ids = tokenizer(" ".join(self._splits[0] * 2), add_special_tokens=False, verbose=False)["input_ids"]
        parts = [ids[start : start + TOKENS_OF_BLOCK] for start in range(0, len(ids), TOKENS_OF_BLOCK)]
        found = []
        for text in map(tokenizer.decode, parts):  # cut inside a word, some become other tokens
            if len(tokenizer(text, verbose=False)["input_ids"]) == TOKENS_OF_BLOCK:
                found.append(text)
            if len(found) == self._n_blocks:
                break
        return found


@dataclass(frozen=True)
class Built:
    """A saved model, with graphs unless it is the plain last layer; the revision is that of weights and recipe."""

    folder: Path
    revision: str


def built(arguments: argparse.Namespace, corpus: Corpus, root: Path) -> tuple[dict[str, Built], Any]:
    """The saved models, by their names as shown; and the tokenizer of the first one."""
    from benchmarks.recipes import minilm_folder
    from midlayer_embed import MidLayerEncoder, export_onnx

    recipe = {**RECIPE, "transform_texts": corpus.fitted_on}
    layer, of_recipe = arguments.layer, arguments.recipe_layer
    where = "last layer" if of_recipe == -1 else f"layer {of_recipe}"
    models: dict[str, tuple[Any, int, dict[str, Any]]] = {
        LAST: (arguments.model, -1, {}),
        f"layer {layer}": (arguments.model, layer, {}),
        f"{RECIPE_NAME}, {where}": (arguments.model, of_recipe, recipe),
    }
    if not arguments.without_minilm:
        models[MINILM] = (minilm_folder(), -1, {})
    folders: dict[str, Built] = {}
    tokenizer = None
    for number, (name, (model, at, options)) in enumerate(models.items()):
        start = time.perf_counter()
        encoder = MidLayerEncoder(model, at, device="cpu", **options)
        said = {**RECIPE, "fitted on": sha256("\0".join(corpus.fitted_on).encode()).hexdigest()[:12]} if options else {}
        revision = f"{encoder.checkpoint.name}, layer {encoder.layer}, {said}, {encoder.result_revision}"
        folders[name] = Built(root / str(number), revision)
        tokenizer = tokenizer or encoder.tokenizer
        lost = ""
        if name == LAST:
            encoder.save_pretrained(str(folders[name].folder))
        else:
            lost = f"; int8: {export_onnx(encoder, folders[name].folder, embedding=True, int8=True).loss}"
        print(f"{name}: saved in {time.perf_counter() - start:.0f} s{lost}", flush=True)
    return folders, tokenizer


def ways_of(models: dict[str, Built], layer: int) -> list[Way]:
    """All ways, in the order of the table."""
    ways = []
    for model in models:
        ours = [OURS] if model == f"layer {layer}" else []
        ways += [Way(model, by) for by in (PLAIN, *ours, *((ONNX, INT8) if model != LAST else ()))]
    return [*ways, Way(TF_IDF, WORDS)]


def main() -> None:
    """Print the table, and draw the plot."""
    parser = build_parser(__doc__)
    data_dir = os.environ.get("DATA_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path(data_dir) if data_dir else None)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layer", type=int, default=7)
    parser.add_argument("--recipe-layer", type=int, default=-1)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scores", type=Path, metavar="FILE", default=SCORES, help="read and keep scores in a JSON file"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw quality against cost (.png or .svg)")
    parser.add_argument("--only-scores", action="store_true", help="fill the file of scores, and time nothing")
    parser.add_argument("--all-scores", action="store_true", help="score models of all blocks on Banking77, too")
    parser.add_argument("--without-minilm", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    print(describe_machine())
    corpus = Corpus(arguments.data_dir, arguments.model, arguments.texts, arguments.blocks)
    with tempfile.TemporaryDirectory() as root:
        found = run(arguments, corpus, Path(root))
    if found is not None:
        tell(arguments, corpus, *found)


def run(
    arguments: argparse.Namespace, corpus: Corpus, root: Path
) -> tuple[dict[Way, Measured], dict[Way, list[float]]] | None:
    """Measure and score all ways."""
    folders, tokenizer = built(arguments, corpus, root)
    ways, texts, blocks = ways_of(folders, arguments.layer), corpus.texts, corpus.blocks(tokenizer)
    options = {"model": arguments.model, "layer": arguments.layer}
    job = {
        "texts": texts,
        "blocks": blocks,
        "options": options,
        "data_dir": arguments.data_dir and str(arguments.data_dir),
    }
    where = {way: str(folders[way.model].folder) if way.model in folders else "" for way in ways}
    measured = {} if arguments.only_scores else timed(where, root / "timed", arguments.rounds, job)
    data = "whole" if arguments.data_dir is not None else "starter"
    scores, found, n_kept = Scores(arguments.scores), dict[Way, list[float]](), 0
    for number, way in enumerate(ways):
        revision = folders[way.model].revision if way.model in folders else "1"
        keys = {task: Scores.key(way, task, data, revision) for task in corpus.tasks}
        missing = [task for task, key in keys.items() if scores.get(key) is None]
        n_kept += len(keys) - len(missing)
        if not arguments.all_scores and way.model.endswith(LAST):
            missing = [task for task in missing if task not in LARGE_TASKS]
        if missing:
            start = time.perf_counter()
            asked = {"by": way.scored_by, "folder": where[way], "tasks": missing, **job}
            with OneWay(root / f"scored-{number}", **asked) as process:
                for task, score in process.answer().items():
                    scores.put(keys[task], score)
            print(f"{way.model}, {way.scored_by}: scored in {time.perf_counter() - start:.0f} s", flush=True)
        known = [scores.get(key) for key in keys.values()]
        found[way] = [float("nan") if score is None else score for score in known]
    if arguments.scores is not None:
        print(f"{n_kept} scores are those of {arguments.scores.name} or of a way with the same vectors")
    return (measured, found) if measured else None


def timed(folders: dict[Way, str], scratch: Path, rounds: int, job: dict[str, Any]) -> dict[Way, Measured]:
    """Times of all ways in turns; their vectors are compared."""
    scratch.mkdir()
    expected: dict[str, np.ndarray] = {}
    with ExitStack() as stack:
        processes = {
            way: stack.enter_context(OneWay(scratch / str(number), by=way.by, folder=folder, tasks=[], **job))
            for number, (way, folder) in enumerate(folders.items())
        }
        for process in processes.values():
            process.answer()  # it has loaded its model
        turns = [{way: process.round() for way, process in processes.items()} for _ in range(rounds)]
        for way, process in processes.items():
            if way.by != INT8:
                vectors = process.vectors()
                first = expected.setdefault(way.model, vectors)
                np.testing.assert_allclose(vectors, first, rtol=TOLERANCE, atol=TOLERANCE * float(np.abs(first).max()))
    return {way: Measured.best([turn[way] for turn in turns]) for way in folders}


def tell(
    arguments: argparse.Namespace, corpus: Corpus, measured: dict[Way, Measured], scores: dict[Way, list[float]]
) -> None:
    """Print the table and the rows, and draw."""
    n_texts, n_tokens = len(corpus.texts), TOKENS_OF_BLOCK * arguments.blocks
    has_joules = all(one.joules is not None for one in measured.values())
    head = [
        "way",
        "texts/s",
        "CPU s per 1,000",
        *(["J per 1,000"] if has_joules else []),
        "tokens/s",
        "times",
        *corpus.tasks,
    ]
    plain = next(iter(measured))
    lines = []
    for way, one in measured.items():
        joules = [f"{(one.joules or 0) / n_texts * 1000:.1f}"] if has_joules else []
        times = measured[plain].blocks.seconds / one.blocks.seconds
        lines.append(
            [
                way.name,
                f"{n_texts / one.texts.seconds:,.1f}",
                f"{one.texts.cpu_seconds / n_texts * 1000:.3g}",
                *joules,
                f"{n_tokens / one.blocks.seconds:,.0f}",
                f"{times:.1f}",
                *("-" if score != score else f"{score:.1f}" for score in scores[way]),
            ]
        )
    print(table([head, *lines]))
    print(f"tokens/s: of texts of {TOKENS_OF_BLOCK} tokens, {BATCH_OF_BLOCKS} a batch; times: those of {plain.name}")
    report_rows(rows_of(arguments, measured, scores), arguments.rows)
    plot = arguments.plot or (PLOT if arguments.data_dir is not None else None)
    if plot is not None:
        from benchmarks.serving.quality_plot import draw

        cost = {way: one.texts.cpu_seconds / n_texts * 1000 for way, one in measured.items()}
        draw([(way.model, way.by, cost[way], scores[way]) for way in measured], corpus.tasks, plot)
        print(plot)


def rows_of(arguments: argparse.Namespace, measured: dict[Way, Measured], scores: dict[Way, list[float]]) -> list[Row]:
    """The rows of the results table."""
    plain, rows = next(iter(measured)), []
    recipe = next(way.model for way in measured if way.model.startswith(RECIPE_NAME))
    layer = f"layer {arguments.layer}"
    for model, by, reference, target in (
        (layer, INT8, plain, 11.0),
        (layer, ONNX, plain, 5.0),
        (recipe, INT8, Way(recipe, PLAIN), 2.0),
    ):
        one, other = measured[Way(model, by)].blocks, measured[reference].blocks
        ratio, cpu_ratio = other.over(one)
        note = f"{cpu_ratio:.4g}x in CPU seconds"
        rows.append(
            Row(
                f"speed of {by} in float32" if by == ONNX else f"speed of {by}",
                f"{reference.name}",
                ratio,
                target,
                note=f"{model}; {note}",
            )
        )
    for model in (layer, recipe):
        full, small = scores[Way(model, ONNX)], scores[Way(model, INT8)]
        lost = [before - after for before, after in zip(full, small, strict=True)]
        rows.append(
            Row(
                f"points lost by int8 on STS, {model}",
                "float32",
                lost[0],
                1.0,
                at_least=False,
                unit=" points",
                note="classification not scored" if lost[1] != lost[1] else f"classification {lost[1]:.2f}",
            )
        )
    return rows


if __name__ == "__main__":
    main()
