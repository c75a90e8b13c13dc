"""The README.md of a saved encoder: what it is, where it comes from, how to use it with stock libraries.

What else a card tells comes in sections; those about scores are made where scores are known, not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from huggingface_hub import ModelCard, ModelCardData

from midlayer_embed.ground.markdown import escaped, table
from midlayer_embed.selection.curves import LABELS, curve_markdown, selection_summary

if TYPE_CHECKING:
    from midlayer_embed.selection.select import LayerSelection

# Beside the README.md.
CURVE_PICTURE = "layer_selection.png"
# What a card calls a model that has no name to be loaded by yet.
NAME_TO_COME = "path/or/name/of/this/model"
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
        how_chosen: How the layer was chosen, in some words.
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
    how_chosen: str
    name: str = NAME_TO_COME
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


def card(facts: CardFacts, sections: Sequence[str] = (), *, tags: Sequence[str] = (), **metadata: Any) -> str:
    """The text of the card, with metadata that the Hub takes.

    Args:
        facts: What it says.
        sections: What it says besides, in Markdown.
        tags: Besides those that every card has.
        **metadata: Besides what the facts give.
    """
    carried = {key: facts.base_card.get(key) for key in _CARRIED if facts.base_card.get(key)}
    if facts.license is not None:
        carried["license"] = facts.license
    data = ModelCardData(
        base_model=facts.base_model,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "sentence-similarity", "midlayer-embed", *tags],
        **carried,
    )
    for key, value in metadata.items():
        data[key] = value
    return f"---\n{data.to_yaml()}\n---\n\n{_body(facts, sections)}"


def _body(facts: CardFacts, sections: Sequence[str]) -> str:
    place = f"{facts.layer} of {facts.n_blocks}"
    name = escaped(facts.base_name)
    base = f"[{name}](https://huggingface.co/{quote(facts.base_model)})" if facts.base_model else name
    told = "\n".join(f"{section.strip()}\n" for section in sections)
    return f"""# {name}, layer {place}

A [sentence-transformers](https://www.sbert.net) model: layer {place} of {base},
pooled to vectors of {facts.dim} dimensions. The blocks above that layer are left out.

{_facts_table(facts)}

## Use

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{facts.name}")
vectors = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
print(model.similarity(vectors, vectors))
```

{told}
Middle layers of language models often embed text better than the last one: see
[Layer by Layer](https://arxiv.org/abs/2502.02013) (ICML 2025).
"""


def _facts_table(facts: CardFacts) -> str:
    depth = facts.layer / facts.n_blocks
    states = {
        True: "after the model's own final norm, where it has one",
        False: "as the block leaves them, without the final norm",
        None: "as the block leaves them (the architecture has no final norm)",
    }[facts.final_norm]
    rows = [
        ("", ""),
        ("base model", escaped(facts.base_name)),
        ("layer", f"{facts.layer} of {facts.n_blocks} (depth {depth:.2f}; layer 0 is what enters the first block)"),
        ("weights", "the base model's, trained further" if facts.trained_further else "the base model's"),
        ("states", states),
        ("pooling", escaped(facts.pooling_mode) + ", then scaled to length 1" * facts.normalized),
        ("dimensions", str(facts.dim)),
        ("longest text", f"{facts.max_seq_length} tokens"),
        ("how the layer was chosen", facts.how_chosen),
    ]
    if facts.bidirectional:
        rows.append(("attention", "made bidirectional (`is_causal` is false in config.json)"))
    if facts.adapters:
        merged = ", ".join(map(escaped, facts.adapters))
        rows.append(("adapters", f"merged into the weights, in this order: {merged}"))
    return table(rows)


def how_chosen(selection: "LayerSelection | None") -> str:
    """How a layer was chosen, for `CardFacts`; None: its author named it."""
    return "given by the author" if selection is None else "; ".join(selection_summary(selection))


def selection_section(selection: "LayerSelection", picture: str | None) -> str:
    """The curve of a criterion that measured something, as a section of a card.

    Args:
        selection: How the layer was chosen.
        picture: The file beside the card that shows the curve, if any.
    """
    assert selection.profile is not None
    assert selection.metric is not None
    profile = selection.profile
    states = "normed" if profile.final_norm else "raw"
    shown = f"![{selection.metric} over layers]({picture})\n\n" if picture else ""
    return f"""## How the layer was chosen

Without labels: {selection.criterion} takes the layer where {LABELS[selection.metric]} is {selection.criterion[:3]}imal,
measured on the {states} states of {profile.n_texts} texts (seed {profile.settings.seed}).

{shown}{curve_markdown(selection)}
"""
