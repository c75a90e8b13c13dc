"""What a card says of a layer, to people and to the Hub."""

import shlex
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from support.tiny_tasks import TinySTS, renamed

from leaderboard import Leaderboard, load_results, run_sweep
from leaderboard.models.origin import Origin
from leaderboard.report.card import model_card
from leaderboard.report.hub_scores import eval_results_files
from leaderboard.report.layer_record import LayerRecord, find_layer
from leaderboard.report.snippets import encoder_snippet, export_command
from leaderboard.results.provenance import PROVENANCE
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.cli.parser import model_options
from midlayer_embed.cli.program import _parser

Named = Callable[[type[AbsTask], str], AbsTask]


def test_the_hub_reads_the_scores_of_the_best_layer(tiny_results: Path) -> None:
    card = ModelCard(model_card(tiny_results))
    board = load_results(tiny_results)
    best = board.best_layer()
    scores = dict(board.scores.filter(layer=best).select("task", "main_score").iter_rows())
    found = {result.dataset_name: result for result in card.data.eval_results}
    # Both are STS, of one dataset, subset and split: what the hub's client would make one of, under one name.
    assert set(found) == {"STSBenchmark (default)", "TinySTS (default)"}
    for name, result in found.items():
        assert result.metric_value == pytest.approx(100 * scores[name.removesuffix(" (default)")])
        assert (result.dataset_type, result.dataset_revision, result.dataset_split) == ("tests/tiny", "1", "test")
        assert result.task_type == "sentence-similarity"
    assert found["STSBenchmark (default)"].metric_type == "cosine_spearman"
    assert found["TinySTS (default)"].metric_type == "main_score"  # nobody knows what else to call it
    assert (card.data.model_name, card.data.library_name) == (f"tiny-llama-layer-{best}", "sentence-transformers")
    assert card.data.pipeline_tag == "sentence-similarity"
    assert {"mteb", "sentence-transformers"} <= set(card.data.tags)


def test_people_read_the_scores_the_curve_the_metrics_and_what_they_are_made_of(tiny_results: Path) -> None:
    text = model_card(tiny_results, "local/tiny-llama", 2)
    board = load_results(tiny_results)
    row = board.layer_table().row(2, named=True)
    scores = " | ".join(f"**{row[name]:.1f}**" for name in ("mean", "STSBenchmark", "TinySTS"))
    assert f"| **2** | **0.67** | {scores} |" in text
    assert f"| **2** | **0.67** | **{row['dataset_entropy']:.3f}** | **{row['curvature']:.3f}** |" in text
    assert f"| STSBenchmark | STS | cosine_spearman | {row['STSBenchmark']:.1f} |" in text
    assert f"set by the author; layer {board.best_layer()} has the highest mean score" in text
    assert "| STSBenchmark | tests/tiny | 1 | - |" in text
    assert f"| revision | {board.models()[0][1]} |" in text
    assert "\n| mteb | 2." in text and "\n| torch | " in text
    assert "WARNING" not in text
    assert "with labels: highest mean score over the tasks below, out of 4 scored layers" in model_card(tiny_results)


def _schemes(card: str) -> list[list[str]]:
    """The cells of the schemes' table, below its header."""
    section = card.split("\n## Ways to pick a layer\n", 1)[1].split("\n## ", 1)[0]
    header, rule, *rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    assert header == ["scheme", "score", "95% interval", "regret", "tasks"] and set(rule) == {"---:"}
    return rows


def test_the_schemes_of_the_model_stand_in_the_card_best_in_bold(tiny_results: Path) -> None:
    row = load_results(tiny_results).schemes().row(0, named=True)
    best, *others = _schemes(model_card(tiny_results, layer=1))
    interval = f"{row['best_low']:.1f} to {row['best_high']:.1f}"
    assert best == [
        f"**{cell}**" for cell in (f"best: layer {row['best_layer']}", f"{row['best']:.1f}", interval, "-", "2")
    ]
    # Of the criteria, those whose metric was measured.
    assert [name for name, *_ in others] == [
        *("last", "random_layer", "middle", "depth_0_7", "oracle", "min_entropy", "max_curvature")
    ]
    for name, *cells in others:
        interval = f"{row[f'{name}_low']:.1f} to {row[f'{name}_high']:.1f}"
        assert cells == [f"{row[name]:.1f}", interval, f"{row[f'regret_{name}']:.1f}", "2"]


def test_a_layer_is_named_by_its_number_or_depth(tiny_results: Path) -> None:
    assert [find_layer(tiny_results, layer=layer).layer for layer in (0, -1, 0.7)] == [0, 3, 2]


def _record(task: str, entries: list[dict[str, Any]], dataset: str, revision: str) -> LayerRecord:
    provenance = {"layer": 1, "n_blocks": 2, "task_type": "STS", "dataset": dataset, "limit": None}
    result = TaskResult(
        task_name=task,
        dataset_revision=revision,
        mteb_version="2.26.24",
        scores={"test": [{"languages": ["eng-Latn"], PROVENANCE: provenance, **entry} for entry in entries]},
        evaluation_time=1.0,
        date=datetime(2026, 11, 22, tzinfo=timezone.utc),
    )
    meta = ModelMeta.create_empty({"name": "org/m", "revision": "1"})
    return LayerRecord(Leaderboard.empty(), "org/m", "1", 1, meta, (result,))


@pytest.mark.parametrize(("task", "subset"), [("STSBenchmark", "default"), ("STS17", "en-en")])
def test_eval_results_are_those_that_mteb_would_push(task: str, subset: str) -> None:
    import mteb

    dataset = mteb.get_task(task).metadata.dataset
    record = _record(task, [{"hf_subset": subset, "main_score": 0.123456789}], dataset["path"], dataset["revision"])
    ((name, content),) = eval_results_files(record)
    assert name == f"{task}.yaml"
    found = yaml.safe_load(content)
    # mteb writes the score of the only subset and split twice, also as that of the whole task. A part of the subsets is
    # not the task.
    assert found == yaml.safe_load(record.results[0]._to_hf_benchmark_result().to_yaml())[-1:]
    assert [entry["dataset"]["task_id"] for entry in found] == [task if task == "STSBenchmark" else "STS17_en-en_test"]
    entry = parse_eval_result_entries(found)[0]
    assert (entry.dataset_id, entry.dataset_revision) == (dataset["path"], dataset["revision"])
    assert (entry.value, entry.date) == (12.34568, "2026-11-22")


@pytest.fixture
def starter_results(tiny_results: Path, tmp_path: Path) -> Path:
    """The results of the tiny Llama, as if they were of the starter benchmark and of a quantised file."""
    folder = Path(shutil.copytree(tiny_results, tmp_path / "starter"))
    for path in folder.glob("results/*/*/experiments/*/*.json"):
        text = path.read_text().replace('"tests/tiny"', '"midlayer-embed/starter"')
        path.write_text(text.replace('"quantization": null', '"quantization": "4-bit (GGUF Q4_1)"'))
    return folder


def test_the_card_of_the_starter_benchmark_says_what_its_tasks_and_weights_are(starter_results: Path) -> None:
    text = model_card(starter_results, layer=1)
    assert "The starter tasks are not MTEB tasks. They are two small tasks" in text
    assert "| weights | the base model's as 4-bit (GGUF Q4_1), dequantised |" in text
    assert "| weights read as | 4-bit (GGUF Q4_1) |" in text
    card = ModelCard(text)
    assert "mteb" not in card.data.tags
    assert {result.source_name for result in card.data.eval_results} == {
        "starter benchmark of midlayer-embed, not MTEB"
    }
    for _, content in eval_results_files(find_layer(starter_results, layer=1)):
        (entry,) = parse_eval_result_entries(yaml.safe_load(content))
        assert entry.notes is not None and "not MTEB, scored with mteb v2." in entry.notes
        assert "embeddings-benchmark" not in str(entry.source_url)


def test_the_hub_reads_every_score_once_and_in_points(tiny_results: Path) -> None:
    record = find_layer(tiny_results, layer=1)
    published = [yaml.safe_load(content) for _, content in eval_results_files(record)]
    indexed = [result.metric_value for result in ModelCard(model_card(tiny_results, layer=1)).data.eval_results]
    assert sorted(entry["value"] for (entry,) in published) == sorted(indexed)
    means = dict(record.layers.select("layer", "mean").iter_rows())
    assert sum(indexed) / 2 == pytest.approx(means[1])


def test_a_card_names_custom_tasks_as_none_of_mteb(tiny_results: Path) -> None:
    text = model_card(tiny_results, layer=1)
    assert "> Not part of MTEB: TinySTS.\n" in text
    sources = {result.dataset_name: result.source_name for result in ModelCard(text).data.eval_results}
    assert sources == {"STSBenchmark (default)": "MTEB", "TinySTS (default)": "a task that is not part of MTEB"}


def test_the_answer_stands_at_the_top(tiny_results: Path, starter_results: Path, tmp_path: Path) -> None:
    board = load_results(tiny_results)
    means = {layer: f"{mean:.1f}" for layer, mean in board.layer_table().select("layer", "mean").iter_rows()}

    def answer(folder: Path, layer: int) -> str:
        return model_card(folder, layer=layer).split("\n# ", 1)[1].splitlines()[2]

    scores = f"Layer 1 of 3 scores {means[1]} on the two tasks, the last layer {means[3]}"
    assert answer(tiny_results, 1) == f"{scores}; it needs 33% of the blocks."
    assert answer(starter_results, 1) == f"{scores.replace('two', 'two starter')}; it needs 33% of the blocks."
    best = board.best_layer()
    assert best in (0, 1, 2)
    last = f"Layer 3 of 3, the last one, scores {means[3]} on the two tasks"
    assert answer(tiny_results, 3) == f"{last}, layer {best} {means[best]} with {best / 3:.0%} of the blocks."
    for path in starter_results.glob("results/*/*/experiments/layer_3"):
        shutil.rmtree(path)
    said = f"Layer 1 of 3 scores {means[1]} on the two starter tasks; it needs 33% of the blocks."
    assert answer(starter_results, 1) == f"{said} The last layer was not scored."
    assert "over the last layer" not in model_card(starter_results, layer=1)


def test_names_of_tasks_and_models_are_data(llama_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(llama_folder, tmp_path / "a|b<script>```\n# c"))
    task = renamed(TinySTS, "T|<script>alert(1)")
    run_sweep(base, task, tmp_path / "results", layers=[1], metrics=["curvature"], show_progress=False)
    text = model_card(tmp_path / "results")
    body = text.split("\n---\n", 1)[1]
    assert "# a\\|b&lt;script&gt;\\`\\`\\` # c, layer 1 of 3\n" in body
    assert "| T\\|&lt;script&gt;alert(1) |" in body
    assert _schemes(text)[0][0] == "**best: layer 1**"
    prose = "".join(body.split("\n```")[0::2])
    assert "<script>" not in prose and "\n# c" not in body
    assert body.count("\n```") == 6  # three fences, each opened and closed
    assert ModelCard(text).data.eval_results[0].dataset_name == "T|<script>alert(1) (default)"
    ((name, _),) = eval_results_files(find_layer(tmp_path / "results"))
    assert name == "T__script_alert_1_.yaml"


def test_results_of_a_part_say_so_and_are_not_ranked(llama_folder: Path, tmp_path: Path) -> None:
    run_sweep(llama_folder, TinySTS(), tmp_path, layers=[2], limit=20, metrics="none", show_progress=False)
    text = model_card(tmp_path)
    assert "> [!WARNING]\n> These are partial results: only 20 items of each split" in text
    assert ModelCard(text).data.eval_results[0].dataset_name == "TinySTS (default), 20 items of each split"
    assert list(eval_results_files(find_layer(tmp_path))) == []
    assert "Representation metrics" not in text
    # One task has no interval, and without metrics there are no criteria.
    score = f"{load_results(tmp_path).scores['main_score'][0] * 100:.1f}"
    assert _schemes(text) == [
        ["**best: layer 2**", f"**{score}**", "**-**", "**-**", "**1**"],
        *(
            [scheme, score, "-", "0.0", "1"]
            for scheme in ("last that ran: layer 2", "random_layer", "middle", "depth_0_7", "oracle")
        ),
    ]


def test_a_layer_that_misses_tasks_has_no_mean(llama_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"metrics": "none", "show_progress": False}
    run_sweep(llama_folder, TinySTS(), tmp_path, layers=[1], **options)
    run_sweep(llama_folder, renamed(TinySTS, "Other"), tmp_path, layers=[2], **options)
    text = model_card(tmp_path, layer=1)
    assert "There is no mean, because this layer has no score for Other." in text
    assert [row[0] for row in _schemes(text)] == [
        "last that ran: layer 2",
        "random_layer",
        "middle",
        "depth_0_7",
        "oracle",
    ]  # none is best
    with pytest.raises(ValueError, match="no layer of local/tiny-llama has all tasks"):
        model_card(tmp_path)


def test_the_snippet_and_the_command_have_the_settings_of_the_results(
    llama_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    changes = {"bidirectional": True, "adapters": [make_adapter(llama_folder)]}
    settings = {"final_norm": False, "pooling_mode": "max", "max_seq_length": 16, "dtype": "float64", **changes}
    every = LayerwiseEncoder(llama_folder, **settings)  # type: ignore[arg-type]
    options = {"metrics": "none", "store_dtype": "float16", "show_progress": False}
    run_sweep(every, TinySTS(), tmp_path, layers=[2], **options)  # type: ignore[arg-type]
    record = find_layer(tmp_path)
    assert record.origin.settings == {**settings, "adapters": ["path/to/adapter-0"]}
    snippet = encoder_snippet(record.origin.loaded_from, record.layer, record.origin.settings)
    made: dict[str, Any] = {}
    code = snippet.splitlines()[-1].removeprefix("encoder = ")
    eval(code, {"MidLayerEncoder": lambda model, **keywords: made.update(model=model, **keywords)})
    assert made == {"model": "path/to/tiny-llama", "layer": 2, **record.origin.settings}
    command = shlex.split(
        export_command(record.origin.loaded_from, "tiny-llama-layer-2", record.layer, record.origin.settings)
    )
    arguments = _parser().parse_args(command[1:])
    assert (arguments.model, arguments.folder, arguments.layer) == ("path/to/tiny-llama", "tiny-llama-layer-2", "2")
    found = model_options(arguments)
    assert {key: found[key] for key in record.origin.settings} == record.origin.settings
    text = model_card(tmp_path)
    assert snippet in text and shlex.join(command) in text
    for said in ("| pooling | max |", "| longest text | 16 tokens |", "without the final norm", "made bidirectional"):
        assert said in text
    assert "merged into the weights, in this order: adapter-0" in text


@pytest.mark.parametrize(
    ("name", "revision", "base_model", "loaded_from", "settings"),
    [
        ("org/m", "c0ffee", "org/m", "org/m", {"revision": "c0ffee"}),
        ("hub/gpt2", "c0ffee-bidirectional", "gpt2", "gpt2", {"revision": "c0ffee"}),
        ("starter/M-Q4_1", "b179", "HuggingFaceTB/SmolLM2-135M-Instruct", "starter", {}),
        ("local/mine", "b179", None, "path/to/mine", {}),
    ],
)
def test_the_base_model_is_what_it_is_called_on_the_hub(
    name: str, revision: str, base_model: str | None, loaded_from: str, settings: dict[str, str]
) -> None:
    record = _record("TinySTS", [{"hf_subset": "default", "main_score": 0.5}], "tests/tiny", "1")
    record.provenance.update(bidirectional=False, adapters=[])  # type: ignore[attr-defined]
    meta = ModelMeta.create_empty({"name": name, "revision": revision})
    record = LayerRecord(Leaderboard.empty(), name, revision, 1, meta, record.results)
    assert record.origin == Origin(base_model, loaded_from, settings)
