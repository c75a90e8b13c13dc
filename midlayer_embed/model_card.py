"""The README.md of a saved encoder: what it is, where it comes from, how to use it with stock libraries."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import ModelCard, ModelCardData

from midlayer_embed.curves import LABELS, curve_markdown, selection_summary

if TYPE_CHECKING:
    from midlayer_embed.selection import LayerSelection

# Beside the README.md.
CURVE_PICTURE = "layer_selection.png"
# What a base model's card may say that holds for its first blocks, too.
_CARRIED = ("license", "license_name", "license_link", "language")


@dataclass(frozen=True)
class CardFacts:
    """What the card says.

    Attributes:
        base_name: The base model as people know it.
        base_model: Its hub id, or None where it has none.
        license: Its licence where that is known without its card.
        base_card: Metadata of the base model's own card.
        layer: The layer that is pooled.
        n_blocks: L of the base model.
        final_norm: Whether normed states are pooled; None where the architecture has no final norm.
        pooling_mode: How tokens become a vector.
        dim: Width of a vector.
        max_seq_length: Tokens a text is cut at.
        selection: How the layer was chosen; None where its author named it.
        picture: The file beside the card that shows the selection's curve, if any.
        name: What people load it by.
        trained_further: Whether the weights are no longer the base model's.
        normalized: Whether vectors are scaled to length 1.
        bidirectional: Whether a causal decoder was made bidirectional.
        adapters: What was merged into the weights, in order.
    """

    base_name: str
    base_model: str | None
    license: str | None
    base_card: ModelCardData
    layer: int
    n_blocks: int
    final_norm: bool | None
    pooling_mode: str
    dim: int
    max_seq_length: int
    selection: "LayerSelection | None"
    picture: str | None
    name: str
    trained_further: bool = False
    normalized: bool = False
    bidirectional: bool = False
    adapters: tuple[str, ...] = ()


def base_card_of(location: str) -> ModelCardData:
    """The metadata of a base model's README, from its folder or from the hub's cache; empty where there is none."""
    readme = Path(location) / "README.md"
    if not readme.is_file():
        from huggingface_hub import try_to_load_from_cache

        cached = None if Path(location).is_dir() else try_to_load_from_cache(location, "README.md")
        if not isinstance(cached, str):
            return ModelCardData()
        readme = Path(cached)
    try:
        return ModelCard(readme.read_text(encoding="utf-8"), ignore_metadata_errors=True).data  # type: ignore[return-value]
    except (ValueError, OSError):  # somebody else's README shall not keep a model from being saved
        return ModelCardData()


def card(facts: CardFacts) -> ModelCard:
    """The card, with metadata that the Hub takes."""
    carried = {key: facts.base_card.get(key) for key in _CARRIED if facts.base_card.get(key)}
    if facts.license is not None:
        carried["license"] = facts.license
    data = ModelCardData(
        base_model=facts.base_model,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "sentence-similarity", "midlayer-embed"],
        **carried,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(facts)}")


def _body(facts: CardFacts) -> str:
    depth = facts.layer / facts.n_blocks
    norm = {
        True: "after the model's own final norm",
        False: "as the block leaves them, without the final norm",
        None: "as the block leaves them (the architecture has no final norm)",
    }[facts.final_norm]
    weights = "the base model's, trained further" if facts.trained_further else "the base model's"
    base = f"[{facts.base_name}](https://huggingface.co/{facts.base_model})" if facts.base_model else facts.base_name
    changes = ""
    if facts.bidirectional:
        changes += "| attention | made bidirectional (`is_causal` is false in config.json) |\n"
    if facts.adapters:
        changes += f"| adapters | merged into the weights, in this order: {', '.join(facts.adapters)} |\n"
    return f"""# {facts.base_name}, layer {facts.layer} of {facts.n_blocks}

A [sentence-transformers](https://www.sbert.net) model: layer {facts.layer} of {facts.n_blocks} of {base},
pooled to vectors of {facts.dim} dimensions. The blocks above that layer are left out.

| | |
| --- | --- |
| base model | {facts.base_name} |
| layer | {facts.layer} of {facts.n_blocks} (depth {depth:.2f}; layer 0 is what enters the first block) |
| weights | {weights} |
{changes}| states | {norm} |
| pooling | {facts.pooling_mode}{", then scaled to length 1" if facts.normalized else ""} |
| dimensions | {facts.dim} |
| longest text | {facts.max_seq_length} tokens |
| how the layer was chosen | {_how_chosen(facts.selection)} |

## Use

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{facts.name}")
vectors = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
print(model.similarity(vectors, vectors))
```
{_curve(facts)}
Middle layers of language models often embed text better than the last one: see
[Layer by Layer](https://arxiv.org/abs/2502.02013) (ICML 2025).
"""


def _how_chosen(selection: "LayerSelection | None") -> str:
    return "given by the author" if selection is None else "; ".join(selection_summary(selection))


def _curve(facts: CardFacts) -> str:
    selection = facts.selection
    if selection is None or selection.profile is None or selection.metric is None:
        return ""
    profile = selection.profile
    states = "normed" if profile.final_norm else "raw"
    picture = f"![{selection.metric} over layers]({facts.picture})\n\n" if facts.picture else ""
    return f"""
## How the layer was chosen

Without labels: {selection.criterion} takes the layer where {LABELS[selection.metric]} is {selection.criterion[:3]}imal,
measured on the {states} states of {profile.n_texts} texts (seed {profile.settings.seed}).

{picture}{curve_markdown(selection)}
"""
