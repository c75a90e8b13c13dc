"""What mteb finds by name once `leaderboard` is imported: our benchmarks and the models of `configs/models`.

Importing this module registers them. `leaderboard` does so when mteb is imported; for that it must not need a module of
ours that needs mteb: what makes tasks and loads models is imported when somebody asks for one.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

import mteb
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.model_meta import ModelMeta, ScoringFunction
from wrapt import register_post_import_hook, wrap_function_wrapper

from leaderboard.config_files import read_config
from leaderboard.models.known import MAIN, KnownModel, known_models
from midlayer_embed.errors import InputError

if TYPE_CHECKING:
    from mteb.models import SentenceTransformerEncoderWrapper

logger = logging.getLogger(__name__)

STARTER_BENCHMARK = "starter"
PAPER_BENCHMARK = "paper"
FAST_BENCHMARK = "paper-fast"
BENCHMARKS = (STARTER_BENCHMARK, PAPER_BENCHMARK, FAST_BENCHMARK)


def make_benchmark(name: str, tasks: Sequence[AbsTask]) -> Benchmark:
    """An mteb Benchmark as `configs/benchmarks` describes it."""
    config = read_config("benchmarks", name)
    return Benchmark(
        name=name,
        tasks=tasks,
        description=config["description"],
        display_name=config["display_name"],
        language_view=["eng-Latn"],
    )


class _TasksOf(Sequence[AbsTask]):
    """The tasks of a benchmark of ours, made when they are first looked at."""

    def __init__(self, benchmark: str) -> None:
        self._benchmark = benchmark

    @cached_property
    def _made(self) -> Sequence[AbsTask]:
        from leaderboard.tasks.benchmarks import get_benchmark

        return get_benchmark(self._benchmark).tasks

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index: Any) -> Any:
        return self._made[index]


class LayerModelMeta(ModelMeta):
    """What mteb is told about a known model of which no layer is loaded yet.

    Its experiment is the last layer, which is loaded unless another one is asked for. What is loaded says itself which
    layer it is, under the name, revision and experiment that a sweep gives it.
    """

    def load_model(
        self, device: str | None = None, *, embed_dim: int | None = None, **kwargs: Any
    ) -> "SentenceTransformerEncoderWrapper":
        """Loads a layer: keywords as in `leaderboard.get_model`."""
        if embed_dim not in (None, self.embed_dim):
            raise InputError(f"embed_dim: {self.name} has {self.embed_dim}, got {embed_dim}")
        asked = {"revision": self.revision, "device": device, **(self.experiment_kwargs or {}), **kwargs}
        return load_layer(str(self.name), **asked)


def load_layer(name: str, **kwargs: Any) -> "SentenceTransformerEncoderWrapper":
    """The loader of every known model: `leaderboard.get_model`."""
    from leaderboard.models.layer import get_model

    return get_model(name, **kwargs)


def register_benchmarks(benchmarks: ModuleType) -> None:
    """Lets `mteb.get_benchmark` find ours: it goes by what stands in its module of benchmarks, under whatever name."""
    for name in BENCHMARKS:
        setattr(benchmarks, f"leaderboard {name}", make_benchmark(name, _TasksOf(name)))
    lookup = import_module("mteb.benchmarks.get_benchmark")
    lookup._build_registry.cache_clear()
    lookup._build_aliases_registry.cache_clear()


def register_models(models: dict[str, KnownModel]) -> None:
    """Lets `mteb.get_model` find models by name. One that mteb knows already stays mteb's."""
    for name, model in models.items():
        if name in MODEL_REGISTRY:
            logger.debug("%s is mteb's own; leaderboard.get_model loads a layer of it", name)
        else:
            MODEL_REGISTRY[name] = _meta(model)


def _meta(model: KnownModel) -> LayerModelMeta:
    return LayerModelMeta.create_empty(
        {
            "loader": load_layer,
            "name": model.name,
            "revision": MAIN,
            "languages": ["eng-Latn"],
            "max_tokens": model.max_tokens,
            "embed_dim": model.embed_dim,
            "license": model.license,
            "open_weights": True,
            "framework": ["Sentence Transformers", "PyTorch"],
            "reference": f"https://huggingface.co/{model.name}",
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
            "adapted_from": model.base,
            "experiment_kwargs": {"layer": model.n_blocks},
        }
    )


def _of_any_revision(
    get_model_meta: Callable[..., ModelMeta], _instance: None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ModelMeta:
    """Mteb's `get_model_meta`, which knows one revision a model, for ours with any revision that they have."""
    asked = signature(get_model_meta).bind(*args, **kwargs).arguments
    known = MODEL_REGISTRY.get(asked["model_name"])
    if not isinstance(known, LayerModelMeta) or not asked.get("revision"):
        return get_model_meta(*args, **kwargs)
    revision = asked.pop("revision")
    known_models()[asked["model_name"]].check_revision(revision)
    return get_model_meta(**asked).model_copy(update={"revision": revision})


def _register_revisions() -> None:
    lookup = import_module("mteb.models.get_model_meta")  # for `mteb.get_model`, which looks there
    wrap_function_wrapper(lookup, "get_model_meta", _of_any_revision)
    mteb.get_model_meta = lookup.get_model_meta


# mteb imports its benchmarks, which takes a while, when it is first asked for one.
register_post_import_hook(register_benchmarks, "mteb.benchmarks.benchmarks")
register_models(known_models())
_register_revisions()
