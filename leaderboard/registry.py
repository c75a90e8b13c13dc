"""Registers our benchmarks and the models of `configs/models` with mteb, so that mteb finds them by name.

Importing this module registers them; `leaderboard` imports it as soon as mteb is imported. Modules of ours that import
mteb themselves are therefore imported on first use only.
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
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.model_meta import ModelMeta, ScoringFunction
from wrapt import register_post_import_hook, wrap_function_wrapper

from leaderboard.models.known import MAIN, KnownModel, known_models
from leaderboard.tasks.names import BENCHMARKS
from leaderboard.tasks.pins import make_benchmark
from midlayer_embed.errors import InputError

if TYPE_CHECKING:
    from mteb.models import SentenceTransformerEncoderWrapper

logger = logging.getLogger(__name__)


class _LazyTasks(Sequence[AbsTask]):
    """The tasks of one of our benchmarks, made on first access."""

    def __init__(self, benchmark: str) -> None:
        self._benchmark = benchmark

    @cached_property
    def _tasks(self) -> Sequence[AbsTask]:
        from leaderboard.tasks.benchmarks import get_benchmark

        return get_benchmark(self._benchmark).tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, index: Any) -> Any:
        return self._tasks[index]


class LayerModelMeta(ModelMeta):
    """mteb's ModelMeta of a known model before a layer of it is loaded.

    Its experiment is the last layer, the default of `load_model`. The loaded model has a meta of its own, with the
    name, revision and experiment that a sweep would store its results under.
    """

    def load_model(
        self, device: str | None = None, *, embed_dim: int | None = None, **kwargs: Any
    ) -> "SentenceTransformerEncoderWrapper":
        """Loads a layer.

        Args:
            device: Device of the weights.
            embed_dim: None or the width of the model; mteb passes it.
            **kwargs: Keywords of `leaderboard.get_model`.

        Raises:
            InputError: (a ValueError) `embed_dim` is not the model's, or an argument of `get_model` is invalid.
        """
        if embed_dim not in (None, self.embed_dim):
            raise InputError(f"embed_dim: {self.name} has {self.embed_dim}, got {embed_dim}")
        asked = {"revision": self.revision, "device": device, **(self.experiment_kwargs or {}), **kwargs}
        return load_layer(str(self.name), **asked)


def load_layer(name: str, **kwargs: Any) -> "SentenceTransformerEncoderWrapper":
    """The loader of every known model: `leaderboard.get_model`."""
    from leaderboard.models.layer import get_model

    return get_model(name, **kwargs)


def register_benchmarks(benchmarks: ModuleType) -> None:
    """Lets `mteb.get_benchmark` find our benchmarks: it collects the attributes of mteb's module of benchmarks."""
    for name in BENCHMARKS:
        setattr(benchmarks, f"leaderboard {name}", make_benchmark(name, _LazyTasks(name)))
    lookup = import_module("mteb.benchmarks.get_benchmark")
    lookup._build_registry.cache_clear()
    lookup._build_aliases_registry.cache_clear()


def register_models(models: dict[str, KnownModel]) -> None:
    """Lets `mteb.get_model` find models by name. Models that mteb implements itself are not replaced."""
    for name, model in models.items():
        if name in MODEL_REGISTRY:
            logger.debug("mteb implements %s itself; leaderboard.get_model loads a layer of it", name)
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


def _accept_any_revision(
    get_model_meta: Callable[..., ModelMeta], _instance: None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ModelMeta:
    """Wraps `mteb.get_model_meta`, which accepts one revision per model, to accept every revision of our models."""
    asked = signature(get_model_meta).bind(*args, **kwargs).arguments
    known = MODEL_REGISTRY.get(asked["model_name"])
    if not isinstance(known, LayerModelMeta) or not asked.get("revision"):
        return get_model_meta(*args, **kwargs)
    revision = asked.pop("revision")
    known_models()[asked["model_name"]].check_revision(revision)
    return get_model_meta(**asked).model_copy(update={"revision": revision})


def _register_revisions() -> None:
    lookup = import_module("mteb.models.get_model_meta")  # `mteb.get_model` looks the function up there
    wrap_function_wrapper(lookup, "get_model_meta", _accept_any_revision)
    mteb.get_model_meta = lookup.get_model_meta


# mteb imports its benchmarks, which is slow, on the first request for one.
register_post_import_hook(register_benchmarks, "mteb.benchmarks.benchmarks")
register_models(known_models())
_register_revisions()
