"""Checkpoints of a run: the numbers, what is kept, what is refused."""

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from leaderboard.experiments import checkpoints, compare_models
from leaderboard.experiments.profiles import measure
from leaderboard.experiments.profiles.revisions import find_revisions, step_of
from leaderboard.experiments.profiles.table import SCHEMA
from midlayer_embed import LayerwiseEncoder, profile_layers
from midlayer_embed.errors import InputError

FAST = ("prompt_entropy", "dataset_entropy", "curvature")
_PREFIX = r"^revisions: "
_NUMBERS = ["layer", "depth", "metric", "normalization", "value"]


def _values(table: pl.DataFrame, **where: Any) -> pl.DataFrame:
    return table.filter(**where).select(_NUMBERS)


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


@pytest.mark.slow
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
