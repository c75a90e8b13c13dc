"""The model card (README.md) of a saved encoder: what it is, where it comes from, how to use it with stock libraries.

Callers add sections; those about scores are written by `leaderboard.report.card`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from huggingface_hub import ModelCard, ModelCardData

from midlayer_embed.ground.markdown import escaped, table
from midlayer_embed.options import Recipe
from midlayer_embed.recipes.names import TEMPLATES, TEXT, find_template
from midlayer_embed.selection.criteria import end_of, said_of, selection_summary
from midlayer_embed.selection.curves import curve_markdown, measured_on

if TYPE_CHECKING:
    from midlayer_embed.selection.criteria import LayerSelection

# File name of the curve, next to README.md.
CURVE_PICTURE = "layer_selection.png"
# Placeholder for the name of a model that is not published yet.
NAME_TO_COME = "path/or/name/of/this/model"
# As many tokens as no text has.
_NO_LIMIT = 10**9
# Of every saved layer.
_TAG = "midlayer-embed"
# Entries of a base model's card that also apply to its first blocks.
_INHERITED = ("license", "license_name", "license_link", "language")


# What the Hub is told of a layer.
_OF_TEXTS: dict[str, Any] = {
    "library_name": "sentence-transformers",
    "pipeline_tag": "sentence-similarity",
    "tags": ["sentence-transformers", "feature-extraction", "sentence-similarity", _TAG],
}
_OF_IMAGES: dict[str, Any] = {
    "library_name": _TAG,
    "pipeline_tag": "image-feature-extraction",
    "tags": ["image-feature-extraction", _TAG],
}


@dataclass(frozen=True)
class CardFacts:
    """The facts that a card states.

    Attributes:
        base_name: Name of the base model to show.
        base_model: Its Hub id, or None.
        license: Its licence, if known without its card.
        base_card: Metadata of the base model's own card.
        layer: The layer that is pooled.
        n_blocks: L of the base model.
        recipe: How a text becomes a vector; its max_seq_length is the effective limit.
        dim: Width of a vector.
        how_chosen: How the layer was chosen, in a few words.
        name: Name to load the model by.
        trained_further: Whether the weights were trained further.
        modules: Class names of the modules after pooling, in order.
        left_out: What the base model has at its last layer only, in words.
        bidirectional: Whether a causal decoder was made bidirectional.
        adapters: Labels of the adapters that were merged into the weights, in order.
        has_final_norm: False if the architecture is known to have no final norm.
        quantization: How the base model's weights were quantised in the file that was read; None if they were not.
        n_transform_texts: Number of texts that the recipe's transform was fitted on.
        fitted_on: What these texts are, in words; None: the number says all.
        answer: The sentence that a reader looks for, at the top of the card; empty if there is none.
        of_images: Of a layer of an image encoder, the code that embeds images with it; None for texts.
    """

    base_name: str
    base_model: str | None
    license: str | None
    base_card: ModelCardData
    layer: int
    n_blocks: int
    recipe: Recipe
    dim: int
    how_chosen: str
    name: str = NAME_TO_COME
    trained_further: bool = False
    modules: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    bidirectional: bool = False
    adapters: tuple[str, ...] = ()
    has_final_norm: bool = True
    quantization: str | None = None
    n_transform_texts: int | None = None
    fitted_on: str | None = None
    answer: str = ""
    of_images: str | None = None


def base_card_of(location: str) -> ModelCardData:
    """Metadata of a base model's README, from its folder or the Hub's cache; empty if there is none."""
    readme = Path(location) / "README.md"
    if not readme.is_file():
        from huggingface_hub import try_to_load_from_cache

        cached = None if Path(location).is_dir() else try_to_load_from_cache(location, "README.md")
        if not isinstance(cached, str):
            return ModelCardData()
        readme = Path(cached)
    try:
        return ModelCard(readme.read_text(encoding="utf-8"), ignore_metadata_errors=True).data  # type: ignore[return-value]
    except (ValueError, OSError):  # a README that cannot be read must not prevent saving
        return ModelCardData()


def base_model_of(base_card: ModelCardData) -> str | None:
    """The base model of a folder that is itself a layer that was saved; None for other folders.

    Args:
        base_card: From `base_card_of`.
    """
    named = base_card.get("base_model")
    return named if isinstance(named, str) and _TAG in (base_card.get("tags") or ()) else None


def card(facts: CardFacts, sections: Sequence[str] = (), *, tags: Sequence[str] = (), **metadata: Any) -> str:
    """The text of the card, with metadata for the Hub.

    Args:
        facts: The facts to state.
        sections: More sections, in Markdown.
        tags: Tags in addition to those of every card.
        **metadata: Metadata in addition to those of the facts.
    """
    inherited = {key: facts.base_card.get(key) for key in _INHERITED if facts.base_card.get(key)}
    if facts.license is not None:
        inherited["license"] = facts.license
    kind = _OF_TEXTS if facts.of_images is None else _OF_IMAGES
    data = ModelCardData(base_model=facts.base_model, **{**kind, "tags": [*kind["tags"], *tags]}, **inherited)
    for key, value in metadata.items():
        data[key] = value
    return f"---\n{data.to_yaml()}\n---\n\n{_body(facts, sections)}"


def _body(facts: CardFacts, sections: Sequence[str]) -> str:
    place = f"{facts.layer} of {facts.n_blocks}"
    name = escaped(facts.base_name)
    base = f"[{name}](https://huggingface.co/{quote(facts.base_model)})" if facts.base_model else name
    added = "\n".join(f"{section.strip()}\n" for section in sections)
    answer = f"{facts.answer}\n\n" if facts.answer else ""
    if facts.of_images is not None:
        return f"""# {name}, layer {place}

{answer}Layer {place} of {base}, an image encoder, pooled to vectors of {facts.dim} dimensions.

{_facts_table(facts)}

## Use

`images`: PIL images, paths, arrays, or values of an image column of datasets.

```python
{facts.of_images}
```

{added}
The last layer of an image encoder mostly embeds best, unlike that of a language model: see
[Layer by Layer](https://arxiv.org/abs/2502.02013) (ICML 2025).
"""
    return f"""# {name}, layer {place}

{answer}A [sentence-transformers](https://www.sbert.net) model: layer {place} of {base},
pooled to vectors of {facts.dim} dimensions. The blocks above that layer are left out.

{_facts_table(facts)}

## Use

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{facts.name}")
vectors = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
print(model.similarity(vectors, vectors))
```

{added}
Middle layers of language models often embed text better than the last one: see
[Layer by Layer](https://arxiv.org/abs/2502.02013) (ICML 2025).
"""


def _facts_table(facts: CardFacts) -> str:
    depth = facts.layer / facts.n_blocks
    if not facts.has_final_norm:
        states = "as the block leaves them (the architecture has no final norm)"
    elif facts.recipe.final_norm:
        states = "after the model's own final norm, where it has one"
    else:
        states = "as the block leaves them, without the final norm"
    rows = [
        ("", ""),
        ("base model", escaped(facts.base_name)),
        ("layer", f"{facts.layer} of {facts.n_blocks} (depth {depth:.2f}; layer 0 is what enters the first block)"),
        ("weights", _weights(facts)),
        ("states", states),
        *_template(facts.recipe),
        ("pooling", _pooling(facts)),
        *_transform(facts),
        ("dimensions", str(facts.dim)),
        *_longest_text(facts),
        ("how the layer was chosen", facts.how_chosen),
    ]
    if facts.left_out:
        rows.append(("left out", "what the base model has for its last layer: " + escaped(", ".join(facts.left_out))))
    if facts.bidirectional:
        rows.append(("attention", "made bidirectional (`is_causal` is false in config.json)"))
    if facts.adapters:
        merged = ", ".join(map(escaped, facts.adapters))
        rows.append(("adapters", f"merged into the weights, in this order: {merged}"))
    return table(rows)


def _longest_text(facts: CardFacts) -> list[tuple[str, str]]:
    """The row of the limit, of texts."""
    if facts.of_images is not None:
        return []
    limit = facts.recipe.max_seq_length or _NO_LIMIT
    return [("longest text", f"{limit} tokens" if limit < _NO_LIMIT else "no limit")]


def _template(recipe: Recipe) -> list[tuple[str, str]]:
    """The row of the template, if there is one."""
    if recipe.template is None:
        return []
    named = find_template(recipe.template)
    written = escaped(TEXT.join(named.parts))
    name = f"{recipe.template}: " if recipe.template in TEMPLATES else ""
    return [("template", f"{name}{written} (part of the tokenizer: pass texts as they are)")]


def _transform(facts: CardFacts) -> list[tuple[str, str]]:
    """The row of the transform, if there is one."""
    recipe = facts.recipe
    if recipe.transform is None:
        return []
    kept = "" if recipe.dim is None else f", the first {recipe.dim} dimensions"
    texts = facts.fitted_on or f"{facts.n_transform_texts} texts"
    return [("transform", f"{recipe.transform}{kept}, fitted on {escaped(texts)} without labels")]


def _pooling(facts: CardFacts) -> str:
    """The pooling and what follows it."""
    words = {"Normalize": "scaled to length 1"}
    after = facts.modules[1:] if facts.recipe.transform is not None else facts.modules  # the first is the transform
    shown = [words.get(name, name) for name in after if name != "Dropout"]
    return ", then ".join([escaped(str(facts.recipe.pooling_mode)), *map(escaped, shown)])


def _weights(facts: CardFacts) -> str:
    weights = "the base model's"
    if facts.quantization is not None:
        weights += f" as {facts.quantization}, dequantised"
    return weights + ", trained further" * facts.trained_further


def how_chosen(selection: "LayerSelection | None") -> str:
    """How a layer was chosen, for `CardFacts`; None: the author gave its number."""
    return "given by the author" if selection is None else "; ".join(selection_summary(selection))


def selection_section(selection: "LayerSelection", picture: str | None) -> str:
    """The section of a card that shows the curve of a criterion.

    Args:
        selection: The choice of the layer, by a criterion that measures texts.
        picture: Name of the picture of the curve in the card's folder, if any.
    """
    shown = f"![{selection.metric or selection.title} over layers]({picture})\n\n" if picture else ""
    return f"""## How the layer was chosen

{_measured(selection)}

{shown}{curve_markdown(selection)}
"""


def _measured(selection: "LayerSelection") -> str:
    if selection.profile is None:
        return f"{selection.criterion} takes the layer with the highest {selection.title}: {selection.reason}."
    profile = selection.profile
    end = said_of(end_of(selection.criterion))
    return (
        f"Without labels: {selection.criterion} takes the layer where {selection.title} is {end},\n"
        f"measured on the {measured_on(profile)} (seed {profile.settings.seed})."
    )
