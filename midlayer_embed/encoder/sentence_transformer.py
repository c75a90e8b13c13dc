"""MidLayerEncoder: one layer of a language model as an ordinary SentenceTransformer.

It is built from stock modules of sentence-transformers, so that a saved folder loads without this package.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from midlayer_embed.encoder.arguments import check_prompts, check_transform_options
from midlayer_embed.encoder.batched import batched_inference
from midlayer_embed.encoder.card import CURVE_PICTURE, NAME_TO_COME, card, selection_section
from midlayer_embed.encoder.choice import check_choice, chosen
from midlayer_embed.encoder.identity import (
    EncoderCardData,
    changed,
    result_name,
    result_revision,
    said_by,
    settings_of,
    weights_stamp,
)
from midlayer_embed.encoder.saving import facts_of, saved_form
from midlayer_embed.encoder.serve.common_form import write_common_form
from midlayer_embed.encoder.stock_form import oldest_transformers, stock_form
from midlayer_embed.encoder.transforming import check_tells_apart, fitted_transform, kept_dim
from midlayer_embed.encoder.truncated_transformer import truncated_transformer
from midlayer_embed.errors import InputError
from midlayer_embed.forward.after_pooling import AfterPooling
from midlayer_embed.forward.devices.room import Room
from midlayer_embed.ground.atomic import atomic_file, atomic_folder
from midlayer_embed.ground.checks import check_bool, check_optional_int
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.layers import LAYER_SITE, check_is_layer, layer_number
from midlayer_embed.models.backbone import check_embeds_texts, limit_in_force, load_tokenizer
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint, n_tokens_of
from midlayer_embed.models.weights import resolve_device, resolve_dtype
from midlayer_embed.options import AnyModelOptions, Recipe, Source, fold, pooling_modes, takes_options
from midlayer_embed.recipes.names import template_name
from midlayer_embed.recipes.template import length_of_all_copies, length_of_one_copy
from midlayer_embed.recipes.transform import Transform
from midlayer_embed.selection.curves import can_draw, draw_selection
from midlayer_embed.texts.tokens import TOKENIZING, check_token_ids

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.selection.criteria import LayerSelection


class MidLayerEncoder(SentenceTransformer):
    """A SentenceTransformer that pools one layer; the blocks above it are never loaded.

    The last layer of a sentence-transformers model is that model. What lower layers share of it, such as its pooling,
    prompts and limit, is a table in docs/concepts/layers.md; an argument that is given wins at every layer.

    Everything of SentenceTransformer works: `encode`, `similarity`, prompts, `save_pretrained`, `push_to_hub`. What
    `save_pretrained` writes is a plain sentence-transformers folder: `SentenceTransformer(folder)` gives the same
    vectors, without this package and without `trust_remote_code`.

    `encode` returns the same vectors as `SentenceTransformer.encode`, faster: duplicate texts are encoded once, and
    texts of similar length share a forward pass of at most `batch_size` texts and `batch_tokens` tokens.

    Args:
        model_name_or_path: A folder, a GGUF file, a Hub id, "starter", or a checkpoint that has been found already.
        layer: An int (17, or -1 from the end; layer 0 is what enters block 1), a depth as a float in [0, 1], the name
            of a criterion such as "min-dime" that chooses a layer from `selection_texts`, or the result of
            `select_layer`.
        include_prompt: Whether the tokens of a prompt are pooled with those of the text. None: as the model says, else
            True.
        prompts: Prompts by name, as for SentenceTransformer; they are added to those of the model.
        default_prompt_name: Name of the prompt that is used by default. None: the model's own, if it has one.
        similarity_fn_name: Name of the similarity function. None: the model's own, else cosine.
        truncate_dim: Number of dimensions that `encode` keeps. None: at the last layer the model's own, else all.
        seed: Seed of the random draws of a criterion.
        selection_texts: Texts like those that will be embedded, without labels, for a criterion. The whole model is
            loaded to measure them and released afterwards. Their raw states are measured, pooled as here;
            `select_layer` has more options.
        transform: "center", "standardize", "remove:k", "whiten:r" or "whiten" (whiten:10), fitted on the pooled vectors
            of `transform_texts`; or a Transform that is fitted already. None: none.
        transform_texts: Texts like those that will be embedded, without labels: at least a tenth as many as vectors
            have dimensions, better twice as many or more.
        dim: Number of dimensions that whitening keeps. None: all.
        **options: The fields of `Recipe` and `Source` (see `midlayer_embed.options`):

            - final_norm: True: pool the states after the model's own final norm; False: pool the residual stream as the
              block leaves it. No difference for models without a final norm. None (default): what the model's own
              sentence-transformers config says, else True.
            - template: "eol", "echo", or a text with {text} in it once or twice, which is put around every text, around
              its prompt too. It becomes part of the tokenizer. None (default): none.
            - pooling_mode: "mean" over attended tokens, "cls", "lasttoken", "weightedmean", "max",
              "mean_sqrt_len_tokens", or several joined by "+", which are concatenated. None (default): "weightedmean"
              under the templates "eol" and "echo", else what the model's own sentence-transformers config says, else
              "mean".
            - max_seq_length: Number of tokens to which a text is truncated; its template and both copies count. None
              (default): the limit of the folder's own sentence-transformers config if it has one, else the smaller of
              the model's limit and 512.
            - site: The place in block `layer` whose states are pooled, see LayerwiseEncoder. "resid_post" (default) is
              its output, the layer. Encoders of other sites encode, but cannot be saved: stock models do not return
              these states.
            - device: None (default): CUDA, MPS or CPU, the fastest that is available.
            - dtype: dtype of the weights, "float32" by default.
            - revision: Branch, tag or commit on the Hub.
            - gguf_file: Name of a GGUF file in the folder.
            - trust_remote_code: Let the model's own code run. Leave it off unless you trust its author.
            - bidirectional: Let every token of a causal decoder attend to every other token, as LLM2Vec does. An error
              where the architecture cannot do this, or does it already.
            - adapters: PEFT adapters (folders or Hub ids) to merge into the weights, in this order.

    Attributes:
        batch_tokens: Maximum number of tokens in a forward pass of `encode`, padding included (a longer text goes
            alone); a batch that does not fit into the device's memory is halved. None: a default for the device.
        on_progress: Function that `encode` calls after each forward pass with the share that is done, up to 1; or None.

    Raises:
        InputError: (a ValueError) an argument is invalid; the message names it.

    Example:
        >>> enc = MidLayerEncoder("starter", layer=0.4)                              # doctest: +SKIP
        >>> enc.layer, enc.n_layers, enc.encode(["a text"]).shape                    # doctest: +SKIP
        (12, 31, (1, 576))
    """

    batch_tokens: int | None = None
    on_progress: Callable[[float], None] | None = None
    # Whether adapters that were added to the encoder are merged into what is being saved.
    _has_merged = False

    @takes_options()
    def __init__(
        self,
        model_name_or_path: str | Path | Checkpoint,
        layer: "int | float | str | LayerSelection",
        *,
        include_prompt: bool | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        seed: int = 0,
        selection_texts: Sequence[str] | None = None,
        transform: str | Transform | None = None,
        transform_texts: Sequence[str] | None = None,
        dim: int | None = None,
        **options: "Unpack[AnyModelOptions]",
    ) -> None:
        check_choice(layer, selection_texts)
        transform_texts, transform_name = check_transform_options(transform, transform_texts, dim)
        truncate_dim = check_optional_int("truncate_dim", truncate_dim, 1)
        include_prompt = None if include_prompt is None else check_bool("include_prompt", include_prompt)
        prompts = check_prompts(prompts)
        source, recipe = fold(options)
        checkpoint = find_checkpoint(model_name_or_path, source)
        check_embeds_texts(checkpoint)
        own, recipe = checkpoint.own, checkpoint.resolved(recipe)
        if recipe.template is not None and include_prompt is False:
            raise InputError("include_prompt: expected True under a template, which surrounds the prompt, got False")
        selection = chosen(layer, checkpoint, selection_texts, seed, source, recipe)
        number = (
            layer_number(layer, checkpoint.n_blocks, recipe.site)  # type: ignore[arg-type]
            if selection is None
            else selection.layer
        )
        checkpoint.check_layers([number], recipe.site)
        device = resolve_device(source.device)
        transformer = truncated_transformer(checkpoint, number, recipe, resolve_dtype(source.dtype), device)
        pooling = Pooling(
            transformer.get_embedding_dimension(),
            pooling_modes(recipe.pooling_mode),
            own.include_prompt if include_prompt is None else include_prompt,
        )
        pooled_dim = pooling.get_embedding_dimension()
        after = AfterPooling.of(checkpoint, number, pooled_dim, recipe.site)
        if transform is not None:
            after.check_takes_transform()
        super().__init__(
            modules=[transformer, pooling],
            device=str(device),
            prompts={**own.prompts, **prompts},
            default_prompt_name=own.default_prompt_name if default_prompt_name is None else default_prompt_name,
            similarity_fn_name=similarity_fn_name or own.similarity_fn_name,  # type: ignore[arg-type]
            trust_remote_code=source.trust_remote_code,
            model_card_data=EncoderCardData(),
        )
        self._room = Room()
        self._checkpoint = checkpoint
        self._selection = selection
        self._recipe = replace(recipe, layer=number)
        self._transform = None
        if recipe.template is not None:
            check_tells_apart(self)
        if transform is not None:
            self._transform = fitted_transform(self, transform, transform_texts, dim)
            self._recipe = replace(self._recipe, transform=transform_name, dim=kept_dim(self._transform, dim))
            after = after.transformed(self._transform, pooled_dim, resolve_dtype(source.dtype))
        for module in after.modules:
            self.append(module.to(self.device))
        self.truncate_dim = after.truncate_dim if truncate_dim is None else truncate_dim
        self._defaults = {**settings_of(self), "dtype": Source().dtype, **said_by(checkpoint, after.truncate_dim)}
        if recipe.max_seq_length is not None:
            self._defaults["max_seq_length"] = None
        self._stamp = weights_stamp(self)

    @property
    def checkpoint(self) -> Checkpoint:
        """Checkpoint of the whole model: where its files are, its name and revision."""
        return self._checkpoint

    @property
    def layer(self) -> int:
        """The layer that is pooled, 0..L."""
        return int(self._recipe.layer or 0)

    @property
    def n_layers(self) -> int:
        """L + 1, where L is the number of blocks of the whole model."""
        return self._checkpoint.n_blocks + 1

    @property
    def depth(self) -> float:
        """Layer / L, 0..1."""
        return self.layer / self._checkpoint.n_blocks

    @property
    def selection(self) -> "LayerSelection | None":
        """How the layer was chosen, or None if it was given as a number or depth."""
        return self._selection

    @property
    def recipe(self) -> Recipe:
        """How a text becomes a vector: the layer, the final norm, the pooling and the limit that are in force."""
        pooling_mode = settings_of(self)["pooling_mode"]
        return replace(self._recipe, pooling_mode=pooling_mode, max_seq_length=self.max_seq_length)

    @property
    def transform(self) -> Transform | None:
        """The transform of the pooled vectors, as it was fitted, or None."""
        return self._transform

    @property
    def max_seq_length(self) -> int:
        """Number of tokens to which a text is truncated; None sets the limit that the model has by default.

        The template and both copies of the text count. A saved model has the number that its tokenizer takes, which
        counts one copy.
        """
        transformer: Any = self[0]
        return length_of_all_copies(self.tokenizer, self._recipe.template, int(transformer.max_seq_length))

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        limit = check_optional_int("max_seq_length", value, 1)
        # the tokenizer at hand has the limit in force as its own
        template = self._recipe.template
        tokenizer = load_tokenizer(self._checkpoint, template) if limit is None else self.tokenizer
        transformer: Any = self[0]
        limit = limit_in_force(self._checkpoint, tokenizer, limit, template)
        transformer.max_seq_length = length_of_one_copy(tokenizer, template, limit)

    @property
    def result_name(self) -> str:
        """The name that mteb stores results under: the model, its layer, and settings that are not the model's own."""
        settings = changed(settings_of(self), self._defaults)
        own, recipe = self._checkpoint.resolved(Recipe()), self._recipe
        if recipe.final_norm != own.final_norm and self._checkpoint.family.final_norm:
            settings["final_norm"] = recipe.final_norm
        if recipe.template is not None:
            settings["template"] = template_name(recipe.template)
        if recipe.site != LAYER_SITE:
            settings["site"] = recipe.site
        if self._transform is not None:
            settings["transform"] = f"{recipe.transform}-{self._transform.fingerprint}"
        return result_name(self._checkpoint.name, {"layer": self.layer, **settings})

    @property
    def result_revision(self) -> str:
        """The revision that mteb stores results under: the checkpoint's, and a hash of weights that were changed."""
        return result_revision(self._checkpoint, self, self._stamp)

    def save(self, path: str, *args: Any, **kwargs: Any) -> None:
        """Like the parent's method; `save_pretrained`, `push_to_hub` and the trainer call it.

        What is saved gives the same vectors in plain sentence-transformers: adapters that were added to the encoder are
        merged. The folder's new files appear when all of them are complete.

        Raises:
            InputError: (a ValueError) plain sentence-transformers could not load the encoder, or would give other
                vectors. Nothing is written.
        """
        check_is_layer(self._recipe.site, "saved")
        folder = target_folder(path)
        with quiet_transformers(), saved_form(self, folder) as merged, atomic_folder(folder, add=True) as partial:
            self._has_merged = merged
            super().save(str(partial), *args, **kwargs)
            write_common_form(partial, self[0])  # type: ignore[arg-type]

    @wraps(SentenceTransformer.push_to_hub)
    def push_to_hub(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        """Like the parent's method.

        Raises:
            InputError: (a ValueError) the encoder is of a site, which cannot be saved; no repository is created then.
        """
        check_is_layer(self._recipe.site, "saved")
        return str(super().push_to_hub(*args, **kwargs))

    @classmethod
    def _load_with_module_classes(cls, *args: Any, **kwargs: Any) -> Any:
        """Like the parent's method. The trainer reloads its checkpoints with it, which are plain folders."""
        return SentenceTransformer._load_with_module_classes(*args, **kwargs)

    def _get_model_config(self) -> dict[str, Any]:
        """Like the parent's method, with the oldest version of transformers that gives these vectors."""
        config = super()._get_model_config()
        form = stock_form(self._checkpoint, self.layer, bool(self._recipe.final_norm))
        oldest = oldest_transformers(self._checkpoint, form)
        return config | ({"requirements": {"transformers": f">={oldest}"}} if oldest else {})

    def _create_model_card(self, path: str, model_name: str | None = None, train_datasets: Any = None) -> None:
        """Write the README.md of a saved folder: our card instead of the parent's, which describes training."""
        selection = self.selection
        facts = facts_of(self, name=model_name or NAME_TO_COME, merged=self._has_merged)
        sections = []
        if selection is not None and selection.values is not None:
            picture = CURVE_PICTURE if can_draw() else None
            if picture is not None:
                draw_selection(selection, Path(path) / picture)
            sections.append(selection_section(selection, picture))
        with atomic_file(Path(path) / "README.md") as partial:
            partial.write_text(card(facts, sections), encoding="utf-8")

    def _push_to_hub_usage_tip(self, repo_id: str) -> str:
        """Like the parent's tip, but for a plain SentenceTransformer: the folder does not need this package."""
        tip: str = super()._push_to_hub_usage_tip(repo_id)
        return tip.replace(type(self).__name__, SentenceTransformer.__name__)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Like the parent's method, but a batch of only empty texts becomes masked padding, so its vectors are zero."""
        with TOKENIZING:
            features = super().preprocess(inputs, prompt=prompt, **kwargs)  # type: ignore[arg-type]
        if "input_ids" in features and features["input_ids"].shape[1] == 0:
            shape = (len(inputs), 1)
            features["input_ids"] = torch.full(shape, self.tokenizer.pad_token_id, dtype=torch.int64)
            features["attention_mask"] = torch.zeros(shape, dtype=torch.int64)
        if "input_ids" in features:
            model: Any = self.transformers_model  # as it is now: tokens may have been added to it
            check_token_ids(self.tokenizer, int(features["input_ids"].max()), n_tokens_of(model.config))
        return features

    @torch.inference_mode()
    def _inference(self, inputs: list[Any], **kwargs: Any) -> Any:
        """Like the parent's method, but with our own batches. `encode` calls it, also in each process of a pool."""
        return batched_inference(self, super()._inference, inputs, **kwargs)
