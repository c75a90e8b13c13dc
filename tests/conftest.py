"""What every test may use, and how the session goes: nothing here imports a library that takes long to import.

pytest-xdist's controller loads this module, too; what needs torch imports it when it is used.
"""

import gc
import json
import multiprocessing
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from support import forks, schedule, tiers
from support.architectures import ARCHITECTURES, FAMILIES, GROUPED, MODELS, SENTENCES
from support.spoilt_models import SPOILT
from support.vision.architectures import IMAGE_FAMILIES, IMAGE_MODELS

if TYPE_CHECKING:
    from midlayer_embed import LayerwiseEncoder, MidLayerEncoder


def is_controller(config: pytest.Config) -> bool:
    """Whether this is the process that has workers."""
    return bool(getattr(config.option, "tx", None)) and not hasattr(config, "workerinput")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"write {schedule.DURATIONS.name} anew")
    parser.addoption("--gpu", action="store_true", help="let tests see the GPUs; most expect the CPU's last digits")


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # encoders take the fastest device they find
    for tier, meaning in tiers.TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {meaning}")
    if config.option.record_durations and not hasattr(config, "workerinput"):
        config.pluginmanager.register(schedule.Recorder())


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    tiers.set_tier(item)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = schedule.in_order(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with tiers.within_tier(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Iterator[None]:
    """The controller has a process that workers and tests are forked from."""
    if config.option.collectonly or hasattr(config, "workerinput"):
        return (yield)
    with forks.server():
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Workers are forks: the libraries are imported once for all of them."""
    for spec in specs:
        spec.python = shlex.quote(forks.as_python())


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Nothing is garbage while modules are imported; what they define stays, and is not searched for garbage later."""
    config = session.config
    if not config.option.hypothesis_profile and not is_controller(config):
        from hypothesis import settings

        # The same examples in every run. More of them: --hypothesis-profile default.
        settings.register_profile("tests", derandomize=True, deadline=None, database=None)
        settings.load_profile("tests")
    gc.disable()
    yield
    gc.enable()
    gc.freeze()


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    tiers.watch()
    if environment := sys.modules.get("sentence_transformers.util.environment"):
        environment.metadata = cache(environment.metadata)  # which every encoder asks four times about packages
    multiprocessing.set_executable(forks.as_python())  # a process of a pool would import for five seconds
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # tiny tensors: more threads cost more than they save


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a model of any config, 3 blocks, 32 dimensions, random but reproducible weights."""

    def make(model_type: str, **entries: Any) -> Path:
        from support.tiny_models import save_model

        folder = tmp_path_factory.mktemp("models") / f"tiny-{model_type}"
        return save_model(model_type, {**GROUPED, **entries}, folder)

    return make


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves an adapter of a model, of random weights, as peft saves it after a training."""

    def make(base: Path, config: Any = None, *, head: Any = None, seed: int = 0, **entries: Any) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModel

        given = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], **entries}
        torch.manual_seed(seed)
        model = get_peft_model((head or AutoModel).from_pretrained(base), (config or LoraConfig)(**given))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and "modules_to_save" not in name:
                    parameter.add_(0.15 * torch.randn_like(parameter))
                elif parameter.requires_grad:
                    parameter.mul_(1.5)
        folder: Path = tmp_path_factory.mktemp("adapters") / f"adapter-{seed}"
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(shared_folder: Path) -> Callable[[str], Path]:
    """The folder of one of `ARCHITECTURES`, made when it is first asked for. To be read only."""

    def save(name: str, folder: Path) -> None:
        from support.tiny_models import save_model

        save_model(*MODELS[name], folder)

    return _made_once(shared_folder / "models", save)


@pytest.fixture(scope="session")
def tiny_image_model(shared_folder: Path) -> Callable[[str], Path]:
    """The folder of one of `IMAGE_MODELS`, made when it is first asked for. To be read only."""

    def save(name: str, folder: Path) -> None:
        from support.vision.tiny_vision import save_image_model

        save_image_model(name, folder)

    return _made_once(shared_folder / "image_models", save)


@pytest.fixture(params=IMAGE_MODELS)
def every_image_folder(request: pytest.FixtureRequest, tiny_image_model: Callable[[str], Path]) -> tuple[str, Path]:
    """One name and folder after the other, of every image encoder that is known, in every run."""
    return request.param, tiny_image_model(request.param)


@pytest.fixture(params=tiers.sampled(IMAGE_MODELS, *IMAGE_FAMILIES))
def any_image_folder(request: pytest.FixtureRequest, tiny_image_model: Callable[[str], Path]) -> tuple[str, Path]:
    """As `every_image_folder`; `make test` takes those of `IMAGE_FAMILIES` only."""
    return request.param, tiny_image_model(request.param)


def _made_once(models: Path, save: Callable[[str, Path], None]) -> Callable[[str], Path]:
    """A function that saves a model when it is first asked for, in whichever process that is."""

    def folder_of(name: str) -> Path:
        folder = models / f"tiny-{name}"
        made = models / f"{name}.made"
        models.mkdir(exist_ok=True)
        with FileLock(models / f"{name}.lock"):
            if not made.exists():
                save(name, folder)
                made.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def tiny_folders(tiny_model: Callable[[str], Path]) -> dict[str, Path]:
    """A folder of each of `FAMILIES`."""
    return {family: tiny_model(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def tiny_folder(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Path:
    """One folder after the other, of each of `FAMILIES`."""
    return tiny_model(request.param)


@pytest.fixture(params=ARCHITECTURES)
def every_folder(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Path:
    """One folder after the other, of every architecture that is known, in every run."""
    return tiny_model(request.param)


@pytest.fixture(params=tiers.sampled(ARCHITECTURES, *FAMILIES))
def any_folder(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Path:
    """As `every_folder`; `make test` takes those of `FAMILIES` only."""
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def llama_folder(tiny_model: Callable[[str], Path]) -> Path:
    """The folder of the tiny Llama, for what does not depend on the family."""
    return tiny_model("llama")


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> Iterator["LayerwiseEncoder"]:
    """The tiny Llama, every layer. To be read only: what a test changes in it fails the session."""
    from support.read_only import unchanged

    from midlayer_embed import LayerwiseEncoder

    with unchanged(LayerwiseEncoder(llama_folder)) as encoder:
        yield encoder


@pytest.fixture(scope="session")
def llama_raw(llama_folder: Path) -> Iterator["LayerwiseEncoder"]:
    """As `llama`, without the final norm."""
    from support.read_only import unchanged

    from midlayer_embed import LayerwiseEncoder

    with unchanged(LayerwiseEncoder(llama_folder, final_norm=False)) as encoder:
        yield encoder


@pytest.fixture(scope="session")
def llama_2(llama_folder: Path) -> Iterator["MidLayerEncoder"]:
    """Layer 2 of the tiny Llama, as a SentenceTransformer; to be read only, too."""
    from support.read_only import unchanged

    from midlayer_embed import MidLayerEncoder

    with unchanged(MidLayerEncoder(llama_folder, 2).eval()) as encoder:
        yield encoder


@pytest.fixture(params=sorted(SPOILT))
def spoilt_folder(request: pytest.FixtureRequest, llama_folder: Path, tmp_path: Path) -> tuple[Path, str]:
    """One folder after the other that is not what a model's folder should be, and a pattern of what to say of it."""
    spoil, message = SPOILT[request.param]
    folder = Path(shutil.copytree(llama_folder, tmp_path / "spoilt"))
    spoil(folder)
    return folder, message


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A temporary folder that all workers of the session have."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def once(shared_folder: Path) -> Callable[[str, Callable[[], Any]], Any]:
    """A function that gives, by a name, what a function returns; it is called once for all workers of the session."""

    def once(name: str, make: Callable[[], Any]) -> Any:
        path = shared_folder / f"{name}.json"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.write_text(json.dumps(make()))
            return json.loads(path.read_text())

    return once


@pytest.fixture(scope="session")
def fresh_answers(llama_folder: Path, once: Callable[[str, Callable[[], Any]], Any]) -> dict[str, Any]:
    """What a fresh process answers to the questions of `support.fresh`."""
    from support.fresh import ask

    answers: dict[str, Any] = once("fresh-answers", lambda: ask(llama_folder))
    return answers


@pytest.fixture
def forked_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stranger that tries an export is a fork; what a process of its own would show more, one test shows."""
    monkeypatch.setattr("midlayer_embed.encoder.export.subprocess", SimpleNamespace(run=forks.run))


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Eight sentences of very different lengths."""
    return list(SENTENCES)


def _beside_the_repository(name: str, variable: str, what: str) -> Path:
    """A folder that is no part of the repository: beside it, or where an environment variable says."""
    folder = Path(os.environ.get(variable, Path(__file__).parents[2] / "shared" / name))
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} with {what}")
    return folder


@pytest.fixture(scope="session")
def mteb_mirror() -> Path:
    """Real data of MTEB tasks."""
    return _beside_the_repository("mteb_mirror", "MTEB_MIRROR", "real data of MTEB tasks")


@pytest.fixture(scope="session")
def paper_folder() -> Path:
    """The paper's published results."""
    return _beside_the_repository("paper", "PAPER_TABLES", "the paper's published results")
