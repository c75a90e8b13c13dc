"""A sweep over tasks on images does all that one over texts does: jobs, limits, transforms, metrics, resuming."""

import json
import logging
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import polars as pl
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.sts import AbsTaskSTS
from support.forks import Fork
from support.tiny_tasks import TinySTS
from support.vision.image_mirror import encoded

from leaderboard import load_results, run_sweep
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.results.provenance import provenance_of
from leaderboard.sweep.plan import Plan
from leaderboard.sweep.run import TasksFailed
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.images import pictures
from leaderboard.tasks.images.starter import STARTER_TASKS, StarterVisualSTS
from midlayer_embed import ImageLayerwiseEncoder, profile_layers
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.images.pictures import Picture, check_images

pytestmark = pytest.mark.usefixtures("quiet_libraries")

_FLOWERS, _DOGS, _STS, _OXFORD = (
    "OxfordFlowersClassification",
    "ImageNetDog15Clustering",
    "STS16VisualSTS",
    "ROxfordEasyI2IRetrieval",
)


def sweep(model: Any, tasks: Any, results: Path, **options: Any) -> Any:
    asked = [tasks] if isinstance(tasks, str) else tasks
    return run_sweep(model, asked, results, **{"metrics": "none", "show_progress": False, **options})


def scores_of(board: Any) -> pl.DataFrame:
    keys = ["task", "layer", "transform", "fitted_on"]
    return board.scores.select(*keys, "main_score").sort(keys)  # type: ignore[no-any-return]


def provenances(results: Path, task: str) -> list[dict[str, Any]]:
    found = [provenance_of(result) for _, result in ResultsFolder(results).results() if result.task_name == task]
    return [one for one in found if one is not None]


@pytest.mark.process
@pytest.mark.slow
def test_processes_give_the_same_scores(vit_folder: Path, image_mirror: Path, tmp_path: Path) -> None:
    tasks = [_FLOWERS, _OXFORD, "VOC2007.v2"]
    options: dict[str, Any] = {"data_dir": image_mirror, "layers": [0, 3], "transforms": ["none", "center"]}
    one = sweep(vit_folder, tasks, tmp_path / "one", **options)
    two = sweep(vit_folder, tasks, tmp_path / "two", jobs=2, **options)
    assert scores_of(one).height == 3 * 2 * 2
    assert scores_of(two).equals(scores_of(one))


def test_every_image_goes_through_the_model_once_and_a_rerun_needs_no_model(
    vit_folder: Path, image_mirror: Path, tmp_path: Path, passes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sweep(vit_folder, [_FLOWERS, _OXFORD], tmp_path, data_dir=image_mirror)
    assert [len(items) for _, items in passes] == [36 + 24, 24 + 6]
    assert all(len(set(items)) == len(items) for _, items in passes)
    assert all(isinstance(picture, Picture) for _, items in passes for picture in items)

    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(OnePassEncoder, "from_checkpoint", must_not_run)
    again = sweep(vit_folder, [_FLOWERS, _OXFORD], tmp_path, data_dir=image_mirror)
    assert scores_of(again).equals(scores_of(first))


def test_nothing_is_decoded_but_for_the_model_and_no_image_is_copied(
    vit_folder: Path, image_mirror: Path, tmp_path: Path, passes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    kept: list[int] = []
    real = PIL.Image.open

    def spy(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(PIL.Image, "open", spy)

    def on_plan(plan: Plan) -> bool:
        kept.append(len(opened))
        kept.append(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))
        return True

    monkeypatch.setattr("leaderboard.sweep.model_sweep._speed", lambda *_: 1.0)
    sweep(vit_folder, [_FLOWERS, _DOGS, _STS], tmp_path, data_dir=image_mirror, on_plan=on_plan)
    assert kept[0] == 0 and kept[1] < 40_000
    assert len(opened) == sum(len(items) for _, items in passes) > 100


def test_each_image_that_is_asked_for_is_read_once_to_score_all_layers(
    vit_folder: Path, image_mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    encoded_bytes = pictures._encoded

    def spy(value: Any, name: str) -> bytes:
        read.append(name)
        return encoded_bytes(value, name)

    monkeypatch.setattr(pictures, "_encoded", spy)
    monkeypatch.setattr("leaderboard.sweep.model_sweep._speed", lambda *_: 1.0)
    sweep(vit_folder, [_FLOWERS], tmp_path, data_dir=image_mirror, layers="all")
    # for the plan, for the scores of all layers, and for the model
    assert Counter(read) == dict.fromkeys(read, 3) and len(set(read)) == 36 + 24


def test_metrics_are_those_of_a_profile_of_the_evaluated_images(
    vit_folder: Path, image_mirror: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    board = run_sweep(vit_folder, [_FLOWERS], tmp_path, data_dir=image_mirror, show_progress=False)
    assert "left out, since images have no words: half_retrieval, drop_retrieval" in caplog.messages
    task = get_task(_FLOWERS)
    rows = Dataset.from_parquet(str(image_mirror / "mteb/oxford-flowers/data/test-00000-of-00001.parquet"))
    assert task.metadata.modalities == ["image"]
    values = rows.cast_column("image", Image(decode=False))["image"][:]  # type: ignore[union-attr,index]
    names = [name for name in board.metrics["metric"].unique().to_list() if name != "half_retrieval"]
    assert {"prompt_entropy", "curvature", "dime", "infonce", "lidar", "dataset_entropy"} <= set(names)
    profile = profile_layers(ImageLayerwiseEncoder(vit_folder), check_images(values), metrics=names, final_norm=False)
    found = board.metrics.filter(normalization="raw").sort("metric", "layer")
    for name in names:
        np.testing.assert_allclose(found.filter(metric=name)["value"], profile.values[name], rtol=1e-5, atol=1e-7)


def test_a_limit_keeps_items_of_each_split(vit_folder: Path, image_mirror: Path, tmp_path: Path) -> None:
    counted: dict[str, int] = {}

    def on_plan(plan: Plan) -> bool:
        counted.update({one.task: one.n_texts for one in plan.tasks})
        return False

    options = {"data_dir": image_mirror, "limit": 6, "on_plan": on_plan}
    sweep(vit_folder, [_FLOWERS, _DOGS, _STS, _OXFORD], tmp_path, **options)
    assert counted == {_FLOWERS: 36 + 6, _DOGS: 6, _STS: 12, _OXFORD: 24 + 6}


def test_transforms_are_fitted_on_images_of_other_splits(
    vit_folder: Path, image_mirror: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"data_dir": image_mirror, "layers": [2], "transforms": ["none", "whiten:4"]}
    board = sweep(vit_folder, [_FLOWERS, _DOGS], tmp_path, fit_texts=20, **options)
    fitted = board.scores.filter(pl.col("transform") == "whiten:4").select("task", "fitted_on")
    assert dict(fitted.iter_rows()) == {_FLOWERS: "train", _DOGS: "task"}
    told = next(one for one in provenances(tmp_path, _FLOWERS) if one.get("transform"))
    assert told["n_fit_texts"] == 20
    folder = image_mirror / "mteb/oxford-flowers/data/train-00000-of-00001.parquet"
    rows = Dataset.from_parquet(str(folder)).cast_column("image", Image(decode=False))  # type: ignore[union-attr]
    keys = {picture.key for picture in check_images(rows["image"][:])}  # type: ignore[index]
    from leaderboard.tasks.data import TaskData
    from leaderboard.tasks.fitting_texts import draw, other_items, sha256_of
    from leaderboard.tasks.items import content_of

    task = get_task(_FLOWERS)
    data = TaskData(task, limit=None, seed=0)
    data.find(image_mirror)
    with data.loaded():
        drawn = [content_of(item) for item in draw(other_items(task, 20, 0), 20, 0)]
    assert set(drawn) < keys and len(drawn) == 20
    assert told["fit_sha256"] == sha256_of(drawn)


def test_results_say_what_made_them(vit_folder: Path, image_mirror: Path, tmp_path: Path) -> None:
    sweep(vit_folder, _DOGS, tmp_path, data_dir=image_mirror, layers=[1], metrics=["curvature"])
    (told,) = provenances(tmp_path, _DOGS)
    assert told["modality"] == "image" and told["max_seq_length"] is None and told["prompt"] is None
    assert told["image_processor"]["size"] == {"height": 24, "width": 24}
    assert {"pillow", "kornia"} <= set(told["versions"])
    (meta,) = (meta for meta, _ in ResultsFolder(tmp_path).results())
    assert meta.modalities == ["image"] and meta.framework == ["PyTorch"]


@pytest.mark.parametrize("kind", STARTER_TASKS, ids=lambda kind: kind.metadata.name)
def test_starter_tasks_that_are_loaded_already_keep_their_data(
    kind: type[AbsTask], vit_folder: Path, tmp_path: Path
) -> None:
    task = kind()
    task.load_data()
    data: Any = task.dataset
    before = {split: table.features for split, table in data.items()}
    board = sweep(vit_folder, task, tmp_path, layers=[1])
    assert board.scores.height == 1
    assert task.data_loaded and task.dataset is data
    assert {split: table.features for split, table in data.items()} == before


def test_an_encoder_that_is_open_is_used_with_its_own_settings(
    vit_folder: Path, image_mirror: Path, tmp_path: Path
) -> None:
    encoder = ImageLayerwiseEncoder(vit_folder, pooling_mode="cls", final_norm=False)
    board = sweep(encoder, _DOGS, tmp_path, data_dir=image_mirror, layers=[1])
    assert board.scores["model"][0].endswith("(final_norm=False, pooling_mode=cls)")


class _Broken(AbsTaskSTS):
    metadata = StarterVisualSTS.metadata.model_copy(update={"name": "Broken"})
    makes_its_own_data = True
    second: ClassVar[Any] = {"bytes": b"no image at all", "path": None}

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        features = Features({"sentence1": Image(), "sentence2": Image(), "score": Value("float64")})
        images = [encoded(0, number) for number in range(4)]
        rows = {"sentence1": images, "sentence2": [*images[1:], self.second], "score": [1.0, 2.0, 3.0, 4.0]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows, features=features)})
        self.data_loaded = True


class _Empty(_Broken):
    metadata = StarterVisualSTS.metadata.model_copy(update={"name": "Empty"})
    second: ClassVar[Any] = None


@pytest.mark.parametrize(
    ("kind", "message"),
    [(_Broken, "or broken"), (_Empty, "expected an image, got none")],
)
def test_a_broken_image_fails_its_task_in_a_line_that_says_where(
    kind: type[AbsTask], message: str, vit_folder: Path, image_mirror: Path, tmp_path: Path
) -> None:
    with pytest.raises(TasksFailed) as failed:
        sweep(vit_folder, [kind(), _DOGS], tmp_path, data_dir=image_mirror)
    (error,) = failed.value.failures.values()
    assert str(error).startswith("test/sentence2[3]") and message in str(error) and "\n" not in str(error)
    assert load_results(tmp_path).scores["task"].unique().to_list() == [_DOGS]


_TAKES = "and local/tiny-vit takes images; expected tasks on images alone, such as the benchmark starter-vision"
_OF_TEXTS = "and this model takes images"


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        (["StarterSTS"], {}, f"tasks: StarterSTS is on texts, {_TAKES}"),
        (["CIRRIT2IRetrieval"], {}, f"tasks: CIRRIT2IRetrieval is on texts and images, {_TAKES}"),
        ([_DOGS], {"templates": [None, "echo"]}, f"templates: only texts have one, {_OF_TEXTS}; got 'echo'"),
        (
            [_DOGS],
            {"transforms": ["center"], "transform_texts": ["a", "b"]},
            "this model takes images; expected train",
        ),
        ([_DOGS], {"metrics": ["dime", "half_retrieval"]}, f"half_retrieval compares views made of words, {_OF_TEXTS}"),
        ([_DOGS], {"layers": [9]}, "layer: 9 is out of range"),
    ],
)
def test_what_images_do_not_have_is_refused_before_any_work(
    tasks: list[str], options: dict[str, Any], message: str, vit_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        sweep(vit_folder, tasks, tmp_path / "new", **options)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("tasks", [[_DOGS], [TinySTS(), _STS], ["CIRRIT2IRetrieval"]])
def test_a_model_of_texts_is_not_run_on_images(tasks: list[Any], llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^tasks: .* takes texts; expected tasks on texts alone, such as .* starter$"):
        sweep(llama_folder, tasks, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_kept_pictures_are_found_again_in_the_data(image_mirror: Path, tmp_path: Path) -> None:
    from leaderboard.scoring.score import prepared
    from leaderboard.scoring.texts import collect_texts
    from leaderboard.sweep.kept_texts import KeptTexts
    from leaderboard.tasks.data import TaskData

    for name in (
        _OXFORD,
        "VOC2007.v2",
    ):  # the second is evaluated by a method of its own, so its pictures have no place
        task = get_task(name)
        data = TaskData(task, limit=None, seed=0)
        data.find(image_mirror)
        with data.loaded():
            with prepared(task):
                found = collect_texts(task)
            KeptTexts(found.all, found.evaluated[:2], found.all[:3]).save(tmp_path / "kept")
            kept = KeptTexts.load(tmp_path / "kept", task.dataset)
            assert (kept.all, kept.sample, kept.fit) == (found.all, found.evaluated[:2], found.all[:3])
            for one, other in zip(kept.all, found.all, strict=True):
                assert isinstance(one, Picture) and isinstance(other, Picture)
                assert one.key == other.key and one.pil().tobytes() == other.pil().tobytes()
        lines = (tmp_path / "kept").read_text().splitlines()
        assert set(json.loads(lines[2])) == ({"image", "at"} if name == _OXFORD else {"image", "name", "png"})


@pytest.mark.process
def test_a_sweep_that_is_killed_goes_on_where_it_stopped(vit_folder: Path, image_mirror: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"layers": [0, 2], "metrics": ["curvature"], "show_progress": False}
    code = f"""
import os, signal, sys
from leaderboard import run_sweep
replace, left = os.replace, 3
def replace_or_die(source, target):
    global left
    if not os.path.exists(target) and ".scratch" not in str(target):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    replace(source, target)
os.replace = replace_or_die
run_sweep(sys.argv[1], {[_FLOWERS, _STS]!r}, sys.argv[2], data_dir=sys.argv[3], **{options!r})
"""
    command = [sys.executable, "-c", code, str(vit_folder), str(tmp_path / "killed"), str(image_mirror)]
    assert Fork(command).wait(120) == -signal.SIGKILL
    whole = run_sweep(vit_folder, [_FLOWERS, _STS], tmp_path / "whole", data_dir=image_mirror, **options)
    board = run_sweep(vit_folder, [_FLOWERS, _STS], tmp_path / "killed", data_dir=image_mirror, **options)
    assert scores_of(board).equals(scores_of(whole)) and scores_of(board).height == 4
    folders = {"results", "metrics", "shards", "sweeps", "workers"}
    assert {path.name for path in (tmp_path / "killed").iterdir()} == folders
