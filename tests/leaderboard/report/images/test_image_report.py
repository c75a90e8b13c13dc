"""A model of texts and a model of images in one folder: tables, page, cards and regrets make sense side by side."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.tiny_tasks import TinyClassification, TinySTS

from leaderboard import load_results, run_sweep
from leaderboard.cli.program import main
from leaderboard.report.card import model_card
from leaderboard.tasks.images.starter import StarterImageClassification, StarterVisualSTS

pytestmark = pytest.mark.usefixtures("quiet_libraries")

_IMAGES = "local/tiny-vit (limit=12)"


@pytest.fixture(scope="module")
def both(llama_folder: Path, tiny_image_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    options: dict[str, Any] = {"metrics": ["dataset_entropy", "curvature"], "metric_texts": 12, "show_progress": False}
    run_sweep(llama_folder, [TinySTS(), TinyClassification()], folder, **options)
    tasks = [StarterVisualSTS(), StarterImageClassification()]
    run_sweep(tiny_image_model("vit"), tasks, folder, limit=12, transforms=("none", "center"), **options)
    return folder


def test_models_that_share_no_task_are_told_apart(both: Path) -> None:
    board = load_results(both)
    assert {model for model, _ in board.models()} >= {_IMAGES}
    assert board.schemes()["n_tasks"].min() >= 1
    assert "The models and recipes share no task: do not compare their means." in board.to_markdown()


def test_the_page_says_what_each_kind_of_tasks_is_and_how_to_load_each_model(both: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    load_results(both).to_html(path)
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert [remark.partition(":")[0] for remark in data["remarks"]][:1] == ["Starter (vision) tasks"]
    used = {one["model"]: one["use"] for one in data["models"] if "center" not in one["label"]}
    images, texts = used.pop(_IMAGES), used.popitem()[1]
    assert images["python"][2].splitlines()[2:] == [
        'encoder = ImageLayerwiseEncoder("path/to/tiny-vit")',
        "vectors = encoder.encode(images, layers=[2])[:, 0]",
    ]
    assert images["command"][2] == (
        "midlayer-embed encode path/to/tiny-vit --layer 2 --images photos --output vectors.npy"
    )
    assert images["way"] == "Or embed a folder of images, as a file of vectors:"
    assert "MidLayerEncoder" in texts["python"][2] and texts["command"][2].startswith("midlayer-embed export")


def test_the_card_of_an_image_encoder_embeds_images(both: Path) -> None:
    text = model_card(both, _IMAGES, 2)
    assert "MidLayerEncoder" not in text and "SentenceTransformer" not in text and "longest text" not in text
    assert "pipeline_tag: image-feature-extraction" in text and "library_name: midlayer-embed" in text
    assert "built from the\n> handwritten digits of scikit-learn" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert code.splitlines()[-1] == "vectors = encoder.encode(images, layers=[2])[:, 0]"


def test_the_code_of_a_card_gives_the_vectors_that_were_scored(both: Path, tiny_image_model: Any) -> None:
    from support.vision.tiny_vision import images

    text = model_card(both, _IMAGES, 2, transform="center", fitted_on="train")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "the task's other split" in code
    names: dict[str, Any] = {"images": images(3), "others": images(5, seed=1)}
    exec(code.replace("path/to/tiny-vit", str(tiny_image_model("vit"))), names)
    from midlayer_embed import ImageLayerwiseEncoder

    every = ImageLayerwiseEncoder(tiny_image_model("vit"))
    expected = every.encode(names["images"], [2])[:, 0] - every.encode(names["others"], [2])[:, 0].mean(axis=0)
    assert names["vectors"] == pytest.approx(expected, abs=1e-5)


def test_a_layer_of_an_image_encoder_is_not_pushed(
    both: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderboard.report.publish.check_push", lambda _: None)
    assert main(["card", str(both), "--model", _IMAGES, "--layer", "2", "--push", "me/mine"]) == 2
    error = capsys.readouterr().err
    assert "takes images, and only layers of models of texts can be saved" in error and error.count("\n") == 1


def test_auto_takes_the_last_layer_of_an_image_encoder(both: Path) -> None:
    board = load_results(both)
    (key,) = (key for key in board.models() if key[0] == _IMAGES)
    assert board.known.autos == {key: "last"}
    rows = board.regret(criteria=["auto", "min-entropy"], model=_IMAGES)
    assert "auto" in rows["criterion"].to_list()
