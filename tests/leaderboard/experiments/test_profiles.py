"""Checkpoints of a run and models beside each other: the numbers, what is kept, what is drawn, what is refused."""

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import load_file, save_file
from support.architectures import FAMILIES

from leaderboard.experiments import checkpoints, compare_models
from leaderboard.experiments.profiles import (
    beside_published,
    draw_checkpoints,
    draw_compare_models,
    measure,
    published_checkpoints,
    published_models,
    read_published,
    summary_checkpoints,
    summary_compare_models,
    with_published,
)
from leaderboard.experiments.profiles.revisions import find_revisions, step_of
from leaderboard.experiments.profiles.table import SCHEMA
from leaderboard.report.figures import save_figure
from midlayer_embed import LayerwiseEncoder, profile_layers
from midlayer_embed.errors import InputError

FAST = ("prompt_entropy", "dataset_entropy", "curvature")
_PREFIX = r"^revisions: "
_NUMBERS = ["layer", "depth", "metric", "normalization", "value"]


@pytest.fixture(scope="module")
def run_folder(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four checkpoints of the tiny GPT-NeoX, each with more noise in the weights of its middle block."""
    run = tmp_path_factory.mktemp("runs") / "tiny-run"
    for number, name in enumerate(["step16", "main", "step2", "step1"]):
        folder = Path(shutil.copytree(tiny_model("gpt_neox"), run / name))
        weights = load_file(folder / "model.safetensors")
        noise = torch.Generator().manual_seed(number)
        for key, value in weights.items():
            if ".1." in key and value.ndim == 2:
                weights[key] = value + 0.1 * number * torch.randn(value.shape, generator=noise)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return run


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders of models that are measured."""
    measured: list[str] = []

    def noted(model: Any, *args: Any, **options: Any) -> Any:
        checkpoint = getattr(model, "checkpoint", model)
        measured.append(Path(checkpoint.location).name)
        return profile_layers(model, *args, **options)

    monkeypatch.setattr(measure, "profile_layers", noted)
    return measured


def _values(table: pl.DataFrame, **where: Any) -> pl.DataFrame:
    return table.filter(**where).select(_NUMBERS)


# --- checkpoints


def test_checkpoints_are_profiles_in_the_order_of_their_steps(run_folder: Path, sentences: list[str]) -> None:
    table = checkpoints(run_folder, sentences, ["main", "step16", "step1", "step2"], metrics=FAST, seed=3)
    assert table.schema == SCHEMA
    assert table.select("revision", "step").unique(maintain_order=True).rows() == [
        ("step1", 1),
        ("step2", 2),
        ("step16", 16),
        ("main", None),
    ]
    for name in ("step1", "main"):
        expected = profile_layers(run_folder / name, sentences, FAST, seed=3).to_frame()
        assert_frame_equal(_values(table, revision=name), expected)
    constant = table.select("model", "source", "n_blocks", "n_texts", "final_norm", "max_seq_length", "seed").unique()
    assert constant.rows() == [("local/tiny-run", "measured", 3, 8, False, 128, 3)]


def test_the_metrics_of_views_are_those_of_a_profile(run_folder: Path, sentences: list[str]) -> None:
    table = checkpoints(run_folder, sentences, ["step1"], metrics=["infonce", "dime"])
    assert_frame_equal(_values(table), profile_layers(run_folder / "step1", sentences, ["infonce", "dime"]).to_frame())


def test_all_checkpoints_of_a_folder_are_taken_if_none_is_named(run_folder: Path, sentences: list[str]) -> None:
    table = checkpoints(run_folder, sentences, metrics=["curvature"], model_name="org/tiny")
    assert table["revision"].unique(maintain_order=True).to_list() == ["step1", "step2", "step16", "main"]
    assert set(table["model"]) == {"org/tiny"}


def test_a_trainers_last_weights_beside_its_checkpoints_are_main(run_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_folder / "main", tmp_path / "out"))
    shutil.copytree(run_folder / "step2", run / "checkpoint-500")
    (run / "1_Pooling").mkdir()
    (run / "1_Pooling" / "config.json").write_text("{}")
    found = find_revisions(run, None, {})
    assert [(one.name, one.step, Path(one.checkpoint.location)) for one in found] == [
        ("checkpoint-500", 500, run / "checkpoint-500"),
        ("main", None, run),
    ]


def test_folders_elsewhere_are_revisions_by_their_paths(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_revisions("org/not-asked", [run_folder / "step2", f"{run_folder}/step1"], {})
    assert [(one.name, one.step) for one in found] == [("step1", 1), ("step2", 2)]
    monkeypatch.chdir(run_folder)  # "main" of a model on the Hub is not the folder that happens to be here
    with pytest.raises(InputError, match=rf"{_PREFIX}main: 'org/not-there' is neither a folder nor a model on the Hub"):
        find_revisions("org/not-there", ["main"], {})


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step0", 0),
        ("global_step1000", 1000),
        ("checkpoint-0500", 500),
        ("stage1-step7-tokens5B", 7),
        ("iter_0000012", 12),
        ("143000", 143000),
        ("main", None),
        ("v2", None),
        ("footsteps", None),
    ],
)
def test_the_number_in_a_name_is_the_step(name: str, step: int | None) -> None:
    assert step_of(name) == step


def test_one_model_is_in_memory_at_a_time(
    run_folder: Path, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    load = LayerwiseEncoder._load

    def noted(self: LayerwiseEncoder, *args: Any) -> None:
        assert [one for one in loaded if one() is not None] == []
        load(self, *args)
        loaded.append(weakref.ref(self.backbone.model))

    monkeypatch.setattr(LayerwiseEncoder, "_load", noted)
    gc.unfreeze()
    checkpoints(run_folder, sentences, metrics=["curvature"])
    assert len(loaded) == 4


def test_what_is_finished_is_not_measured_again(
    run_folder: Path, sentences: list[str], passes: list[str], tmp_path: Path
) -> None:
    names = ["step1", "step2", "step16"]
    whole = checkpoints(run_folder, sentences, names, metrics=FAST)
    passes.clear()
    checkpoints(run_folder, sentences, names[:2], metrics=FAST, folder=tmp_path)
    resumed = checkpoints(run_folder, sentences[::-1], names, metrics=FAST[::-1], folder=tmp_path)
    assert passes == ["step1", "step2", "step16"]
    assert_frame_equal(resumed, whole, check_row_order=False)
    compare_models([run_folder / "step2"], sentences, metrics=FAST, folder=tmp_path)
    assert passes == names  # models beside each other take it, too
    for changed in ({"seed": 1}, {"max_texts": 4}, {"final_norm": True}, {"min_tokens": 4}):
        checkpoints(run_folder, sentences, ["step1"], **{"metrics": FAST, "folder": tmp_path, **changed})
    checkpoints(run_folder, sentences[1:], ["step1"], metrics=FAST, folder=tmp_path)
    assert passes[3:] == ["step1"] * 5


def test_other_weights_in_a_folder_of_the_same_name_are_measured(
    run_folder: Path, sentences: list[str], passes: list[str], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    first = checkpoints(run, sentences, ["step1"], metrics=FAST, folder=tmp_path)
    shutil.copyfile(run / "step16" / "model.safetensors", run / "step1" / "model.safetensors")
    second = checkpoints(run, sentences, ["step1", "step16"], metrics=FAST, folder=tmp_path)
    assert passes == ["step1", "step1"]  # the same weights under two names are measured once
    assert not first["value"].equals(second.filter(revision="step1")["value"])


def test_a_failure_loses_nothing_that_is_finished(
    run_folder: Path, sentences: list[str], passes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = measure.profile_layers

    def fails_at_16(model: Any, *args: Any, **options: Any) -> Any:
        if Path(model.location).name == "step16":
            raise OSError("out of memory")
        return noted(model, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="out of memory"):
        patch.setattr(measure, "profile_layers", fails_at_16)
        checkpoints(run_folder, sentences, metrics=FAST, folder=tmp_path)
    left = tmp_path / f".{'0' * 16}.parquet.partial-0"
    left.touch()
    next(tmp_path.glob("*.parquet")).write_bytes(b"PAR1 and nothing else")
    checkpoints(run_folder, sentences, metrics=FAST, folder=tmp_path)
    assert len(passes) == 5 and passes[:2] == ["step1", "step2"]  # a damaged file is one of them, measured again
    assert not left.exists()


@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        (["step1", "step7"], "there is no checkpoint 'step7' in the folder .*; it has step1, step2, step16, main$"),
        (["step1", "step1"], "'step1' is named twice$"),
        ([], "expected at least one, got none$"),
        ("step1", "expected a list of names, got 'step1'$"),
        (["step1", ""], "expected a path, got an empty string$"),
    ],
)
def test_wrong_revisions_are_told_in_one_line_before_a_model_is_loaded(
    run_folder: Path, sentences: list[str], passes: list[str], revisions: Any, message: str
) -> None:
    with pytest.raises(InputError, match=_PREFIX + message):
        checkpoints(run_folder, sentences, revisions, metrics=FAST)
    assert passes == []


def test_wrong_models_are_told_in_one_line(
    run_folder: Path, llama_folder: Path, llama: LayerwiseEncoder, sentences: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"{_PREFIX}name those of EleutherAI/pythia-70m, such as step1"):
        checkpoints("EleutherAI/pythia-70m", sentences)
    with pytest.raises(InputError, match=rf"{_PREFIX}step3: expected a commit or a revision of .* such as step3"):
        checkpoints("EleutherAI/pythia-70m", sentences, ["step1", "step3"])
    with pytest.raises(InputError, match=rf"{_PREFIX}there is no checkpoint 'step1' .*; a folder has no revisions"):
        checkpoints(llama_folder, sentences, ["step1"])
    with pytest.raises(InputError, match="^model: expected a folder or a Hub id, .* got LayerwiseEncoder$"):
        checkpoints(llama, sentences, ["step1"])  # type: ignore[arg-type]
    damaged = Path(shutil.copytree(run_folder / "step1", tmp_path / "run" / "step1"))
    (damaged / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=rf"{_PREFIX}step1: .*model.safetensors cannot be read, it is truncated"):
        checkpoints(tmp_path / "run", sentences, ["step1"])
    with pytest.raises(TypeError, match="revision"):
        checkpoints(run_folder, sentences, ["step1"], revision="step1")  # type: ignore[call-arg]


def test_checkpoints_of_other_models_are_refused(
    run_folder: Path, make_model: Callable[..., Path], sentences: list[str]
) -> None:
    small = make_model("gpt_neox", num_hidden_layers=2)
    with pytest.raises(InputError, match=rf"{_PREFIX}expected checkpoints of one model, but step1 has 3 blocks and"):
        checkpoints(run_folder, sentences, ["step1", small])


# --- models beside each other


def test_models_of_all_families_are_beside_each_other(tiny_folders: dict[str, Path], sentences: list[str]) -> None:
    folders = [tiny_folders[name] for name in FAMILIES]
    table = compare_models(folders, sentences, metrics=FAST)
    assert table["model"].unique(maintain_order=True).to_list() == [f"local/tiny-{name}" for name in FAMILIES]
    for folder in folders:
        expected = profile_layers(folder, sentences, FAST).to_frame()
        assert_frame_equal(_values(table, model=f"local/{folder.name}"), expected)
    sizes = dict(table.select("model", "n_parameters").unique().iter_rows())
    from transformers import AutoModel

    counted = sum(value.numel() for value in AutoModel.from_pretrained(folders[0]).parameters())
    assert sizes[f"local/{folders[0].name}"] == counted


def test_a_base_model_is_beside_its_finetuned_one(
    llama_folder: Path, make_adapter: Callable[..., Path], sentences: list[str]
) -> None:
    adapter = make_adapter(llama_folder)
    finetuned = LayerwiseEncoder(llama_folder, bidirectional=True, adapters=[adapter])
    table = compare_models({"base": llama_folder, "finetuned": finetuned}, sentences, metrics=FAST)
    base, changed = (_values(table, model=name, metric="prompt_entropy") for name in ("base", "finetuned"))
    assert (base["value"][0], changed["value"][0]) == (pytest.approx(changed["value"][0]), changed["value"][0])
    assert (base["value"] - changed["value"]).abs().max() > 1e-3  # type: ignore[operator]
    assert set(table["final_norm"]) == {False}  # raw states of both
    raw = profile_layers(finetuned, sentences, FAST, final_norm=False).to_frame()
    assert_frame_equal(_values(table, model="finetuned"), raw)
    assert table.filter(model="finetuned")["revision"][0].endswith(finetuned.checkpoint.revision[-12:])


def test_folders_of_the_same_name_are_told_apart_and_one_model_is_not_taken_twice(
    run_folder: Path, llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(run_folder / "step2", tmp_path / "step1"))
    table = compare_models([run_folder / "step1", other], sentences, metrics=["curvature"])
    assert table["model"].n_unique() == 2 and all(name.startswith("local/step1 (") for name in table["model"])
    with pytest.raises(InputError, match=r"^models: local/tiny-llama .* is named twice; different settings"):
        compare_models([llama_folder, llama_folder], sentences)
    with pytest.raises(InputError, match="^models: expected at least one, got none$"):
        compare_models([], sentences)


def test_scores_are_one_more_metric_over_the_tasks_that_all_have(
    tiny_folders: dict[str, Path], sentences: list[str]
) -> None:
    models = ["local/tiny-bert", "local/tiny-llama"]
    rows = [
        (model, "main", layer, layer / 3, task, "STS", 0.1 * layer + (0.02 if task == "b" else 0))
        for model in models
        for layer in range(4)
        for task in ("a", "b", "only-of-bert")
        if (model, task) != (models[1], "only-of-bert") and (model, layer, task) != (models[0], 2, "b")
    ]
    columns = ["model", "revision", "layer", "depth", "task", "task_type", "main_score"]
    scores = pl.DataFrame(rows, schema=columns, orient="row")
    folders = [tiny_folders["bert"], tiny_folders["llama"], tiny_folders["mamba"]]
    table = compare_models(folders, sentences, metrics=["curvature"], scores=scores)
    found = table.filter(metric="score").select("model", "layer", "value").rows()
    whole = {(model, layer): 10 * layer + 1 for model in models for layer in range(4)}
    del whole[models[0], 2]  # without a score of task b
    assert {(model, layer): value for model, layer, value in found} == pytest.approx(whole)
    assert table.schema == SCHEMA
    with pytest.raises(
        InputError, match=r"^scores: expected scores of local/tiny-mamba; there are those of local/tiny"
    ):
        compare_models([folders[2]], sentences, metrics=["curvature"], scores=scores)
    apart = scores.filter((pl.col("model") == models[0]) == (pl.col("task") == "a"))
    with pytest.raises(InputError, match=r"^scores: there is no task that all of local/tiny-bert, local/tiny-llama"):
        compare_models(folders, sentences, metrics=["curvature"], scores=apart)


# --- what a table shows


def _run(values: dict[str, list[float]], metric: str = "dime", model: str = "m") -> pl.DataFrame:
    """A table of one metric: for each revision its value at each layer."""
    n_blocks = len(next(iter(values.values()))) - 1
    rows = [
        {
            **dict.fromkeys(SCHEMA),
            **{"model": model, "revision": name, "source": "measured", "step": step_of(name), "n_blocks": n_blocks},
            **{"layer": layer, "depth": layer / n_blocks, "metric": metric, "normalization": "raw", "value": value},
        }
        for name, curve in values.items()
        for layer, value in enumerate(curve)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def test_the_summary_tells_what_moved_most_and_where() -> None:
    table = _run(
        {
            "step1": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            "step4": [2.0, 1.0, 1.0, 1.0, 3.0, 1.0],
            "step16": [2.0, 1.0, 0.5, 1.0, 1.0, 1.0],
            "main": [2.0, 1.0, 0.0, -1.0, 1.0, 1.5],
        }
    )
    (row,) = summary_checkpoints(table).to_dicts()
    assert row == {
        **{"source": "measured", "model": "m", "metric": "dime", "checkpoints": "step1 to main"},
        **{"moved_layer": 4, "moved": 4.0, "changed_layer": 3, "changed": -2.0},
        **{"early": 0.5, "middle": 1.5, "late": 0.25, "since": "step4"},
        **{"since_early": 0.0, "since_middle": 1.5, "since_late": 1.25},
    }
    with pytest.raises(InputError, match="^table: expected two checkpoints of a model or more, got one of each$"):
        summary_checkpoints(table.filter(revision="main"))
    (two,) = summary_checkpoints(table.filter(pl.col("revision").is_in(["step1", "main"]))).to_dicts()
    assert two["since"] is None and two["since_early"] is None and two["changed"] == -2.0


def test_the_summary_of_models_tells_how_deep_each_dips() -> None:
    entropy = _run({"main": [4.0, 3.0, 1.5, 3.5]}, "prompt_entropy")
    score = _run({"main": [1.0, 5.0, 9.0, 2.0]}, "score")
    (row,) = summary_compare_models(pl.concat([entropy, score])).to_dicts()
    assert (row["dip"], row["dip_depth"], row["prompt_entropy"], row["score"]) == (2.5, pytest.approx(2 / 3), 3.0, 9.0)
    (row,) = summary_compare_models(entropy.filter(pl.col("layer") > 0)).to_dicts()
    assert row["dip"] is None and row["prompt_entropy"] == pytest.approx(8 / 3)


def test_figure_and_summary_need_only_the_table_also_from_a_file(
    run_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    table = checkpoints(run_folder, sentences, metrics=FAST)
    table.write_parquet(tmp_path / "table.parquet")
    again = pl.read_parquet(tmp_path / "table.parquet")
    assert_frame_equal(again, table)
    assert_frame_equal(summary_checkpoints(again), summary_checkpoints(table))
    assert set(summary_checkpoints(table)["moved_layer"]) <= {2, 3}  # what was changed is block 2
    save_figure(draw_checkpoints(again), tmp_path / "figure.svg")
    legend = (tmp_path / "figure.svg").read_text("utf-8")
    assert all(f">{name}<" in legend for name in ("main", "16", "prompt entropy (nats)"))
    models = table.with_columns(model="revision")
    save_figure(draw_compare_models(models), tmp_path / "models.svg")
    assert ">step16<" in (tmp_path / "models.svg").read_text("utf-8")


def test_later_checkpoints_are_darker_on_a_scale_of_log_steps() -> None:
    steps = ["step0", "step1", "step1000", "final", "main"]
    spec = draw_checkpoints(_run({name: [0.0, 1.0] for name in steps})).to_dict()
    colour = spec["concat"][0]["encoding"]["color"]
    assert colour["scale"]["type"] == "log"
    assert colour["legend"]["values"] == [0.5, 1, 1000, 2000, 4000]
    assert 'datum.value == 2000.0 ? "final" : datum.value == 4000.0 ? "main"' in colour["legend"]["labelExpr"]


# --- what was published


@pytest.fixture
def published_file(tmp_path: Path) -> Path:
    rows = [
        ("Pythia-70m", revision, metric, layer, value + layer)
        for revision, value in (("main", 3.0), ("step10", 1.0), ("step2", 2.0))
        for metric in ("entropy_prompt", "infonce", "intrinsic_dimension")
        for layer in range(3)
    ]
    rows += [("Pythia-70m", "main", "entropy_prompt", 0, 5.0)]  # of a second run
    rows += [("Pythia-1.4b", "main", "entropy_sentence", layer, 1.0) for layer in range(2)]
    table = pl.DataFrame(rows, schema=["model", "revision", "metric", "layer", "value"], orient="row")
    table.with_columns(normalization=pl.lit("raw")).write_csv(tmp_path / "published.csv")
    return tmp_path / "published.csv"


def test_a_published_table_is_read_as_one_that_was_measured(published_file: Path) -> None:
    published = read_published(published_file)
    assert published.schema == SCHEMA
    assert set(published["metric"]) == {"prompt_entropy", "infonce"}
    run = published_checkpoints(published)
    assert run["revision"].unique(maintain_order=True).to_list() == ["step2", "step10", "main"]
    first = run.filter(metric="prompt_entropy", revision="main", layer=0).to_dicts()[0]
    assert first["value"] == 4.0  # the mean of two rows
    assert (first["n_blocks"], first["n_parameters"], first["depth"]) == (2, 70_000_000, 0.0)
    sources = dict(published.select("model", "source").unique().iter_rows())
    assert sources == {"Pythia-70m": "published", "Pythia-1.4b": "published earlier"}
    models = published_models(published)
    assert set(models.select("model", "revision").iter_rows()) == {("Pythia-70m", "main")}
    named = published_models(published, ["eleutherai/pythia-1.4B", "Pythia-70m"])
    assert named["model"].unique(maintain_order=True).to_list() == ["Pythia-1.4b", "Pythia-70m"]


def test_what_was_published_is_drawn_beside_what_was_measured(
    run_folder: Path, sentences: list[str], published_file: Path, tmp_path: Path
) -> None:
    measured = checkpoints(run_folder, sentences, metrics=["prompt_entropy"])
    table = with_published(measured, published_checkpoints(read_published(published_file), "EleutherAI/pythia-70m"))
    assert table.schema == SCHEMA
    assert summary_checkpoints(table).select("source", "model").unique(maintain_order=True).rows() == [
        ("measured", "local/tiny-run"),
        ("published", "Pythia-70m"),
    ]
    save_figure(draw_checkpoints(table), tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text("utf-8")
    assert "local/tiny-run, measured" in drawn and "Pythia-70m, published" in drawn
    assert with_published(None, table) is table
    beside = beside_published(measured, published_file, "checkpoints")  # the only run of the file
    assert_frame_equal(beside, table)
    alone = beside_published(None, published_file, "compare_models", ["pythia-70m"])
    assert alone.select("model", "revision").unique().rows() == [("Pythia-70m", "main")]


def test_a_wrong_published_table_is_told_in_one_line(published_file: Path, tmp_path: Path) -> None:
    published = read_published(published_file)
    with pytest.raises(
        InputError, match=r"^metrics: there is no model 'x' with several revisions; there are Pythia-70m$"
    ):
        published_checkpoints(published, "x")
    with pytest.raises(InputError, match=r"^metrics: expected one model with several revisions, got none; name one$"):
        published_checkpoints(published.filter(revision="main"))
    with pytest.raises(InputError, match="^model: checkpoints takes one model of the published table, got 2$"):
        beside_published(None, published_file, "checkpoints", ["a", "b"])
    of_tasks = tmp_path / "tasks.csv"
    pl.read_csv(published_file).with_columns(task=pl.lit("STS12")).write_csv(of_tasks)
    with pytest.raises(
        InputError, match=r"^metrics: .*tasks.csv has a column 'task'; expected metrics over one corpus$"
    ):
        read_published(of_tasks)
    pl.read_csv(published_file).filter(metric="intrinsic_dimension").write_csv(of_tasks)
    with pytest.raises(InputError, match=r"^metrics: .*tasks.csv has no values of prompt_entropy, "):
        read_published(of_tasks)


def test_the_papers_table_shows_what_the_guide_says(paper_folder: Path, tmp_path: Path) -> None:
    published = read_published(paper_folder / "metrics_wikitext.csv.gz")
    run = published_checkpoints(published, "Pythia-410m")
    found = {row["metric"]: row for row in summary_checkpoints(run).to_dicts()}
    entropy, lidar = found["prompt_entropy"], found["lidar"]
    assert (entropy["changed_layer"], round(entropy["changed"], 2)) == (12, -1.26)
    assert entropy["early"] < entropy["late"] < entropy["middle"]
    assert (lidar["changed_layer"], round(lidar["changed"], 2)) == (9, -2.98)
    assert all(row["since_early"] < row["since_middle"] for row in found.values())
    models = {row["model"]: row for row in summary_compare_models(published_models(published)).to_dicts()}
    dips = [round(models[f"Pythia-{size}"]["dip"], 2) for size in ("14m", "70m", "160m", "410m", "1b", "6.9b")]
    assert dips == [0.46, 0.4, 0.63, 1.2, 1.26, 0.86]
    base, unsupervised, supervised = (
        models[name] for name in ("Llama3-8B", "LLM2Vec-mntp-unsup-simcse-8B", "LLM2Vec-mntp-supervised-8B")
    )
    assert supervised["prompt_entropy"] < base["prompt_entropy"] < unsupervised["prompt_entropy"]
    for metric in ("infonce", "dime"):
        assert supervised[metric] < unsupervised[metric] < base[metric]
    sizes = ["Pythia-14m", "Pythia-70m", "Pythia-410m", "Pythia-1b"]
    save_figure(draw_compare_models(published_models(published, sizes)), tmp_path / "sizes.svg")
    drawn = (tmp_path / "sizes.svg").read_text("utf-8")
    assert all(f">{name}<" in drawn for name in sizes)
