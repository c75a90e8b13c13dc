"""The vectors of a corpus that transforms are fitted on: encoded once for each template, and kept during the sweep."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from leaderboard.sweep.layers.layer_job import FitRows
from leaderboard.sweep.layers.layer_view import StoreFiller
from leaderboard.sweep.options import SweepOptions
from leaderboard.sweep.plan import TaskPlan, count_tokens
from leaderboard.sweep.store import VectorStore, layer_bytes
from leaderboard.tasks.fitting_texts import FitOn
from midlayer_embed.forward.one_pass import OnePassEncoder

# The share of the store budget that a corpus may take; a larger one is encoded with the texts of each task.
_SHARE = 0.5


@dataclass
class Corpus:
    """Vectors of a corpus at all layers of a sweep, by template.

    Args:
        fit_on: What transforms are fitted on.
        options: Options of the sweep.
        scratch: Existing folder for the vectors.
        n_templates: Number of templates that it is encoded under.
        dim: Width of the widest vector.
    """

    fit_on: FitOn
    options: SweepOptions
    scratch: Path
    n_templates: int
    dim: int
    _encoded: dict[str | None, tuple[VectorStore, StoreFiller]] = field(default_factory=dict, init=False)

    @property
    def disk(self) -> int:
        """Bytes of the vectors under all templates."""
        return self.n_templates * self._bytes(self.dim)

    @property
    def is_apart(self) -> bool:
        """Whether the corpus is encoded once; else its texts are encoded with those of each task."""
        return self.disk <= _SHARE * self.options.store_budget

    def _bytes(self, dim: int) -> int:
        return layer_bytes(len(self.fit_on.texts), dim, self.options.store_dtype) * len(self.options.layers)

    def plan(self, encoder: OnePassEncoder) -> TaskPlan:
        """Estimates the cost of one template."""
        texts = encoder.prompted(self.fit_on.texts)
        return TaskPlan(
            task=self.fit_on.name,
            n_texts=len(texts),
            groups=(tuple(self.options.layers),),
            score_tokens=count_tokens(encoder, texts),
            metric_tokens=0,
            disk=self._bytes(encoder.dim),
            template=encoder.recipe.template,
        )

    def rows(self, encoder: OnePassEncoder, layer: int) -> FitRows:
        """The vectors at a layer; the first call for a template encodes the corpus at every layer."""
        template = encoder.recipe.template
        if template not in self._encoded:
            store = VectorStore(self.scratch, self.options.layers, encoder.dim, self.options.store_dtype)
            filler = StoreFiller(
                encoder,
                store,
                final_norm=encoder.final_norm,
                label=self.fit_on.name,
                show_progress=self.options.show_progress,
            )
            filler.fill(encoder.prompted(self.fit_on.texts))
            store.publish()
            self._encoded[template] = store, filler
        store, filler = self._encoded[template]
        rows = np.arange(len(store))
        return FitRows(rows, refused(filler.n_not_finite(layer, range(len(store))), len(store)), store.folder)


def refused(n_not_finite: int, n: int) -> str | None:
    """Why nothing can be fitted on some texts; None if it can."""
    return f"{n_not_finite} of the {n} texts to fit on have no finite vector" if n_not_finite else None
