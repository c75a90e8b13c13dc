"""MidLayerEncoder: one layer of a language model as an ordinary SentenceTransformer.

Built from sentence-transformers' stock modules only, so that what it saves loads without this package.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tqdm.auto import tqdm
from transformers import PretrainedConfig, PreTrainedModel

from midlayer_embed.encoder.card import (
    CURVE_PICTURE,
    NAME_TO_COME,
    CardFacts,
    base_card_of,
    card,
    how_chosen,
    selection_section,
)
from midlayer_embed.encoder.stock_form import oldest_transformers, stock_form, truncating_entries
from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import distinct, row_batches, token_budget, token_counts
from midlayer_embed.forward.pooling import check_pooling_mode
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.layers import layer_number
from midlayer_embed.models.backbone import (
    LOCAL,
    Checkpoint,
    check_max_seq_length,
    default_max_seq_length,
    find_checkpoint,
    load_tokenizer,
    resolve_device,
    resolve_dtype,
)
from midlayer_embed.models.starter import STARTER_HUB_ID, STARTER_LICENSE
from midlayer_embed.models.weights import load_base_model, loading_errors
from midlayer_embed.selection.curves import can_draw, draw_selection

if TYPE_CHECKING:
    from midlayer_embed.selection.select import LayerSelection


class MidLayerEncoder(SentenceTransformer):
    """A SentenceTransformer that pools one layer; the blocks above it are never loaded.

    Of a sentence-transformers model that ends with vectors of length 1, every layer's vectors are of length 1.

    Everything of SentenceTransformer works: `encode`, `similarity`, prompts, `save_pretrained`, `push_to_hub`. What
    `save_pretrained` writes is a plain sentence-transformers folder: `SentenceTransformer(folder)` gives the same
    vectors, without this package and without `trust_remote_code`.

    `encode` gives what SentenceTransformer's gives, sooner: of strings, each distinct one goes through the model once,
    with others of its length, at most `batch_size` of them and at most `batch_tokens` tokens in a forward pass.

    Args:
        model_name_or_path: A folder, a hub id, or "starter".
        layer: 17, or -1 from the end, or a depth as a float in [0, 1]; layer 0 is what enters block 1. Or the name of
            a criterion, such as "min-dime", that chooses by `selection_texts`; or what `select_layer` gave.
        final_norm: True: pool the states after the model's own final norm; False: the residual stream as the block
            leaves it. The same for models without a final norm.
        pooling_mode: "mean" over attended tokens, "cls", "lasttoken", "weightedmean" or "max".
        include_prompt: Whether the tokens of a prompt are pooled with those of the text.
        max_seq_length: Tokens a text is cut at. None: the folder's own sentence-transformers limit if it has one,
            else the smaller of the model's limit and 512.
        device: None: CUDA, MPS or CPU, whichever is there.
        dtype: Of the weights.
        revision: Branch, tag or commit on the hub.
        gguf_file: Name of a GGUF file in the folder.
        trust_remote_code: Let the model's own code run. Off unless you trust its author.
        bidirectional: Let every token of a causal decoder attend to every other one, as LLM2Vec does. Refused where the
            architecture cannot, or does already.
        adapters: PEFT adapters (folders or hub ids) to merge into the weights, in this order.
        prompts: As in SentenceTransformer.
        default_prompt_name: As in SentenceTransformer.
        similarity_fn_name: As in SentenceTransformer.
        truncate_dim: As in SentenceTransformer.
        seed: Of the choice, where a criterion chooses.
        selection_texts: Texts like those that shall be embedded, without labels, where a criterion chooses. The whole
            model is loaded to measure them, then let go. Measured are raw states, pooled as here; `select_layer` has
            more to set.

    Attributes:
        batch_tokens: Tokens a forward pass of `encode` has at most, padding included (a longer text goes alone).
            None: what suits the device.
        on_progress: Called after each forward pass of `encode` with the share that is done, up to 1; or None.

    Raises:
        InputError: (a ValueError) an argument is not what it should be; the message names it.

    Example:
        >>> enc = MidLayerEncoder("starter", layer=0.4)                              # doctest: +SKIP
        >>> enc.layer, enc.n_layers, enc.encode(["a text"]).shape                    # doctest: +SKIP
        (12, 31, (1, 576))
    """

    batch_tokens: int | None = None
    on_progress: Callable[[float], None] | None = None

    def __init__(
        self,
        model_name_or_path: str | Path,
        layer: "int | float | str | LayerSelection",
        *,
        final_norm: bool = True,
        pooling_mode: str = "mean",
        include_prompt: bool = True,
        max_seq_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        revision: str | None = None,
        gguf_file: str | None = None,
        trust_remote_code: bool = False,
        bidirectional: bool = False,
        adapters: Sequence[str | Path] = (),
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        seed: int = 0,
        selection_texts: Sequence[str] | None = None,
    ) -> None:
        _check_choice(layer, selection_texts)
        checkpoint = find_checkpoint(
            model_name_or_path,
            revision=revision,
            gguf_file=gguf_file,
            trust_remote_code=trust_remote_code,
            bidirectional=bidirectional,
            adapters=adapters,
        )
        check_pooling_mode(pooling_mode)
        selection = _selected(
            layer,
            checkpoint,
            selection_texts,
            seed,
            pooling_mode=pooling_mode,
            max_seq_length=max_seq_length,
            device=device,
            dtype=dtype,
        )
        number = layer_number(layer, checkpoint.n_blocks) if selection is None else selection.layer  # type: ignore[arg-type]
        found_device = resolve_device(device)
        transformer = _truncated_transformer(
            checkpoint, number, final_norm, check_max_seq_length(max_seq_length), resolve_dtype(dtype), found_device
        )
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode, include_prompt)
        super().__init__(
            modules=[transformer, pooling, *([Normalize()] if checkpoint.normalizes else [])],
            device=str(found_device),
            prompts=prompts,
            default_prompt_name=default_prompt_name,
            similarity_fn_name=similarity_fn_name,  # type: ignore[arg-type]
            truncate_dim=truncate_dim,
            trust_remote_code=trust_remote_code,
        )
        self._checkpoint = checkpoint
        self._layer = number
        self._selection = selection
        self._final_norm = final_norm

    @property
    def checkpoint(self) -> Checkpoint:
        """The whole model: where its files are, its name and revision."""
        return self._checkpoint

    @property
    def layer(self) -> int:
        """The layer that is pooled, 0..L."""
        return self._layer

    @property
    def n_layers(self) -> int:
        """L + 1, of the whole model."""
        return self._checkpoint.n_blocks + 1

    @property
    def depth(self) -> float:
        """Layer / L, 0..1."""
        return self._layer / self._checkpoint.n_blocks

    @property
    def selection(self) -> "LayerSelection | None":
        """How the layer was chosen, where a criterion chose it."""
        return self._selection

    def save(self, path: str, *args: Any, **kwargs: Any) -> None:
        """As SentenceTransformer's, without transformers' progress bars."""
        with quiet_transformers():
            super().save(path, *args, **kwargs)

    @classmethod
    def _load_with_module_classes(cls, *args: Any, **kwargs: Any) -> Any:
        """As SentenceTransformer's, whose trainer goes back to its checkpoints this way: plain folders, cut already."""
        return SentenceTransformer._load_with_module_classes(*args, **kwargs)

    def _get_model_config(self) -> dict[str, Any]:
        """As SentenceTransformer's; says which transformers is too old to give these vectors."""
        config = super()._get_model_config()
        form = stock_form(self._checkpoint, self._layer, self._final_norm)
        oldest = oldest_transformers(self._checkpoint, form)
        return config | ({"requirements": {"transformers": f">={oldest}"}} if oldest else {})

    def _create_model_card(self, path: str, model_name: str | None = None, train_datasets: Any = None) -> None:
        """Writes the README.md of a saved folder, where SentenceTransformer would tell of a training."""
        checkpoint = self._checkpoint
        selection = self.selection
        facts = CardFacts(
            base_name=checkpoint.hub_id or checkpoint.name.removeprefix(LOCAL),
            base_model=checkpoint.hub_id,
            license=STARTER_LICENSE if checkpoint.hub_id == STARTER_HUB_ID else None,
            base_card=base_card_of(checkpoint.location),
            layer=self.layer,
            n_blocks=checkpoint.n_blocks,
            final_norm=None if checkpoint.family.final_norm is None else self._final_norm,
            pooling_mode=str(self[1].pooling_mode),
            dim=int(self.get_embedding_dimension() or 0),
            max_seq_length=int(self.max_seq_length or 0),
            how_chosen=how_chosen(selection),
            name=model_name or NAME_TO_COME,
            trained_further="generated_from_trainer" in (self.model_card_data.tags or ()),
            normalized=checkpoint.normalizes,
            bidirectional=checkpoint.bidirectional,
            adapters=tuple(adapter.label for adapter in checkpoint.adapters),
        )
        sections = []
        if selection is not None and selection.values is not None:
            picture = CURVE_PICTURE if can_draw() else None
            if picture is not None:
                draw_selection(selection, Path(path) / picture)
            sections.append(selection_section(selection, picture))
        with atomic_file(Path(path) / "README.md") as partial:
            partial.write_text(card(facts, sections), encoding="utf-8")

    def _push_to_hub_usage_tip(self, repo_id: str) -> str:
        """As SentenceTransformer's; those whom it tells load a plain one."""
        tip: str = super()._push_to_hub_usage_tip(repo_id)
        return tip.replace(type(self).__name__, SentenceTransformer.__name__)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As SentenceTransformer's; a batch of nothing but empty texts becomes masked padding, hence zero vectors."""
        features = super().preprocess(inputs, prompt=prompt, **kwargs)  # type: ignore[arg-type]
        if "input_ids" in features and features["input_ids"].shape[1] == 0:
            shape = (len(inputs), 1)
            features["input_ids"] = torch.full(shape, self.tokenizer.pad_token_id, dtype=torch.int64)
            features["attention_mask"] = torch.zeros(shape, dtype=torch.int64)
        return features

    @torch.inference_mode()
    def _inference(self, inputs: list[Any], **kwargs: Any) -> Any:
        """As SentenceTransformer's, which is behind `encode` and runs in each process of a pool, but batch by batch.

        A text without tokens (the empty one, where the tokenizer adds none) is a zero vector.
        """
        inherited: Callable[..., Any] = super()._inference
        strings = all(isinstance(item, str) for item in inputs)
        if not inputs or not strings or kwargs["output_value"] != "sentence_embedding":
            return inherited(inputs, **kwargs)
        one_pass = {**kwargs, "show_progress_bar": False}
        unique, where = distinct(inputs)
        max_length = int(self.max_seq_length or self.tokenizer.model_max_length)
        counts = token_counts(self.tokenizer, unique, max_length, prompt=kwargs["prompt"] or "")
        budget = token_budget(self.batch_tokens, torch.device(kwargs.get("device") or self.device))
        vectors: torch.Tensor | None = None
        total, done = int(counts.sum()), 0
        bar = tqdm(total=total, desc="Encoding", unit="tok", unit_scale=True, disable=not kwargs["show_progress_bar"])
        with bar:
            for rows in row_batches(counts, budget, kwargs["batch_size"]):
                found = inherited([unique[row] for row in rows], **{**one_pass, "batch_size": len(rows)})
                if vectors is None:
                    vectors = found.new_zeros((len(unique), found.shape[1]))
                vectors[rows] = found
                n_tokens = int(counts[rows].sum())
                bar.update(n_tokens)
                done += n_tokens
                if self.on_progress is not None:
                    self.on_progress(done / total)
        if vectors is None:  # not one token in all of them
            vectors = torch.zeros_like(inherited(unique, **one_pass))
        return vectors if len(unique) == len(inputs) else vectors[where]


def _check_choice(layer: "int | float | str | LayerSelection", texts: Sequence[str] | None) -> None:
    """Refuses a criterion that there is none of, or that lacks texts: before a model is fetched for it."""
    from midlayer_embed.selection.select import check_layer, needs_texts

    if isinstance(layer, str):
        check_layer(layer)
        if needs_texts(layer) and texts is None:
            raise InputError(f"selection_texts: layer {layer!r} is chosen by texts, so some are needed, got None")


def _selected(
    layer: "int | float | str | LayerSelection",
    checkpoint: Checkpoint,
    texts: Sequence[str] | None,
    seed: int,
    **measuring: Any,
) -> "LayerSelection | None":
    """The choice of a criterion, made now, or made before; None where a layer is named by its number or depth."""
    from midlayer_embed.forward.layerwise import LayerwiseEncoder
    from midlayer_embed.selection.select import LayerSelection, fixed_layer, needs_texts, select_layer

    if isinstance(layer, LayerSelection):
        if layer.n_layers != checkpoint.n_blocks + 1:
            raise InputError(f"layer: chosen among {layer.n_layers} layers; this model has {checkpoint.n_blocks + 1}")
        return layer
    if not isinstance(layer, str):
        return None
    if not needs_texts(layer):
        return fixed_layer(layer, checkpoint.n_blocks)
    every = LayerwiseEncoder.from_checkpoint(checkpoint, final_norm=False, **measuring)
    return select_layer(every, texts, criterion=layer, seed=seed)


class _CheckpointTransformer(Transformer):
    """sentence-transformers' own Transformer, its weights loaded as for every encoder of ours."""

    def _load_model(
        self,
        model_name_or_path: str,
        transformer_task: Any,
        config: PretrainedConfig,
        backend: str,
        is_peft_model: bool,
        **model_kwargs: Any,
    ) -> PreTrainedModel:
        for key, value in model_kwargs["form"].config_entries.items():
            setattr(config, key, value)  # from_pretrained takes only entries that the config class declares
        return load_base_model(model_kwargs["checkpoint"], config, model_kwargs["dtype"], model_kwargs["device"])


def _truncated_transformer(
    checkpoint: Checkpoint,
    layer: int,
    final_norm: bool,
    max_seq_length: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Transformer:
    """sentence-transformers' own Transformer of the blocks up to `layer`, giving that layer's states."""
    form = stock_form(checkpoint, layer, final_norm)
    load_tokenizer(checkpoint)  # or it would be missed after the weights are read, or not at all
    if checkpoint.bidirectional and form.n_blocks == 0:
        # Without a block nothing attends; one block shows whether the architecture obeys.
        _truncated_transformer(checkpoint, 1, final_norm, max_seq_length, dtype, device)
    kwargs = checkpoint.loading_kwargs()
    with quiet_transformers(), loading_errors(checkpoint):
        transformer: Transformer = _CheckpointTransformer(
            checkpoint.location,
            config_kwargs={**kwargs, **truncating_entries(checkpoint.config, form.n_blocks)},
            model_kwargs={"checkpoint": checkpoint, "form": form, "dtype": dtype, "device": device},
            # BERT breaks under left padding even with the mask.
            processor_kwargs={**kwargs, "padding_side": "right"},
            # Text only: a chat template in the folder would otherwise wrap every text.
            modality_config={"text": {"method": "forward", "method_output_name": form.output}},
            module_output_name="token_embeddings",
        )
    transformer.__class__ = Transformer  # a saved model names its classes, and these are to be stock ones
    tokenizer = transformer.tokenizer
    if tokenizer is None:
        raise InputError(f"model: {checkpoint.location} has no tokenizer, so it is no text model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    transformer.max_seq_length = (
        default_max_seq_length(checkpoint, tokenizer) if max_seq_length is None else max_seq_length
    )
    return transformer
