"""MidLayerEncoder: one layer of a language model as an ordinary SentenceTransformer.

Built from sentence-transformers' stock modules only, so that what it saves loads without this package.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import PretrainedConfig, PreTrainedModel

from midlayer_embed.atomic import atomic_file
from midlayer_embed.backbone import (
    Checkpoint,
    check_max_seq_length,
    default_max_seq_length,
    find_checkpoint,
    resolve_device,
    resolve_dtype,
)
from midlayer_embed.errors import InputError
from midlayer_embed.layers import layer_number
from midlayer_embed.loading import load_base_model, loading_errors
from midlayer_embed.model_card import CardFacts, base_card_of, card
from midlayer_embed.pooling import check_pooling_mode
from midlayer_embed.quiet import quiet_transformers
from midlayer_embed.starter import STARTER_HUB_ID, STARTER_LICENSE
from midlayer_embed.stock_form import oldest_transformers, stock_form, truncating_entries


class MidLayerEncoder(SentenceTransformer):
    """A SentenceTransformer that pools one layer; the blocks above it are never loaded.

    Everything of SentenceTransformer works: `encode`, `similarity`, prompts, `save_pretrained`, `push_to_hub`. What
    `save_pretrained` writes is a plain sentence-transformers folder: `SentenceTransformer(folder)` gives the same
    vectors, without this package and without `trust_remote_code`.

    Args:
        model_name_or_path: A folder, a hub id, or "starter".
        layer: 17, or -1 from the end, or a depth as a float in [0, 1]. Layer 0 is what enters block 1.
        final_norm: True: pool the states after the model's own final norm; False: the residual stream as the block
            leaves it. The same for models without a final norm.
        pooling_mode: "mean" over attended tokens, "cls", "lasttoken", "weightedmean" or "max".
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

    Raises:
        InputError: (a ValueError) an argument is not what it should be; the message names it.

    Example:
        >>> enc = MidLayerEncoder("starter", layer=0.4)                              # doctest: +SKIP
        >>> enc.layer, enc.n_layers, enc.encode(["a text"]).shape                    # doctest: +SKIP
        (12, 31, (1, 576))
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        layer: int | float,
        *,
        final_norm: bool = True,
        pooling_mode: str = "mean",
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
    ) -> None:
        checkpoint = find_checkpoint(
            model_name_or_path,
            revision=revision,
            gguf_file=gguf_file,
            trust_remote_code=trust_remote_code,
            bidirectional=bidirectional,
            adapters=adapters,
        )
        number = layer_number(layer, checkpoint.n_blocks)
        check_pooling_mode(pooling_mode)
        found_device = resolve_device(device)
        transformer = _truncated_transformer(
            checkpoint, number, final_norm, check_max_seq_length(max_seq_length), resolve_dtype(dtype), found_device
        )
        super().__init__(
            modules=[transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling_mode)],
            device=str(found_device),
            prompts=prompts,
            default_prompt_name=default_prompt_name,
            similarity_fn_name=similarity_fn_name,  # type: ignore[arg-type]
            truncate_dim=truncate_dim,
            trust_remote_code=trust_remote_code,
        )
        self._checkpoint = checkpoint
        self._layer = number
        self._final_norm = final_norm

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

    def save(self, path: str, *args: Any, **kwargs: Any) -> None:
        """As SentenceTransformer's, without transformers' progress bars."""
        with quiet_transformers():
            super().save(path, *args, **kwargs)

    def _get_model_config(self) -> dict[str, Any]:
        """As SentenceTransformer's; says which transformers is too old to give these vectors."""
        config = super()._get_model_config()
        form = stock_form(self._checkpoint, self._layer, self._final_norm)
        oldest = oldest_transformers(self._checkpoint, form)
        return config | ({"requirements": {"transformers": f">={oldest}"}} if oldest else {})

    def _create_model_card(self, path: str, model_name: str | None = None, train_datasets: Any = None) -> None:
        """Writes the README.md of a saved folder, where SentenceTransformer would tell of a training."""
        checkpoint = self._checkpoint
        facts = CardFacts(
            base_name=checkpoint.hub_id or checkpoint.name.removeprefix("local/"),
            base_model=checkpoint.hub_id,
            license=STARTER_LICENSE if checkpoint.hub_id == STARTER_HUB_ID else None,
            base_card=base_card_of(checkpoint.location),
            layer=self.layer,
            n_blocks=checkpoint.n_blocks,
            final_norm=None if checkpoint.family.final_norm is None else self._final_norm,
            pooling_mode=str(self[1].pooling_mode),
            dim=int(self.get_embedding_dimension() or 0),
            max_seq_length=int(self.max_seq_length or 0),
            bidirectional=checkpoint.bidirectional,
            adapters=tuple(adapter.name for adapter in checkpoint.adapters),
        )
        with atomic_file(Path(path) / "README.md") as partial:
            partial.write_text(str(card(facts)), encoding="utf-8")

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As SentenceTransformer's; a batch of nothing but empty texts becomes masked padding, hence zero vectors."""
        features = super().preprocess(inputs, prompt=prompt, **kwargs)  # type: ignore[arg-type]
        if features["input_ids"].shape[1] == 0:
            shape = (len(inputs), 1)
            features["input_ids"] = torch.full(shape, self.tokenizer.pad_token_id, dtype=torch.int64)
            features["attention_mask"] = torch.zeros(shape, dtype=torch.int64)
        return features


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
