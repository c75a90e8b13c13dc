"""Options of a sweep that hold for every task."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from leaderboard.tasks.fitting_texts import FitOn


@dataclass(frozen=True)
class SweepOptions:
    """Options of a sweep that hold for every task.

    Attributes:
        layers: Layers to score, 0..L.
        metrics: Metrics to measure.
        metric_texts: Maximum number of texts per task that metrics are measured on.
        seed: Seed of the choice of these texts, of those that transforms are fitted on, and of the items that `limit`
            keeps.
        limit: Evaluated items to keep of each split; None for all.
        jobs: Number of processes that score layers.
        store_budget: Bytes on disk that vectors may take at a time.
        store_dtype: dtype of the vectors on disk.
        overwrite: Whether to compute finished layers again.
        show_progress: Whether to show progress bars with an ETA on stderr.
        data_dir: Folder of datasets; None for the Hub.
        transforms: Transforms to score, by their full names; None scores the vectors as they are.
        fit_on: What transforms are fitted on.
        fit_texts: Maximum number of texts that transforms are fitted on.
    """

    layers: list[int]
    metrics: list[str]
    metric_texts: int
    seed: int
    limit: int | None
    jobs: int
    store_budget: int
    store_dtype: str
    overwrite: bool
    show_progress: bool
    data_dir: Path | None
    transforms: tuple[str | None, ...]
    fit_on: FitOn
    fit_texts: int

    @property
    def asks(self) -> str:
        """Short name of what is asked for: the same for the same layers, metrics and transforms."""
        ignored = {"jobs", "store_budget", "show_progress", "data_dir"}
        asked = {name: str(value) for name, value in vars(self).items() if name not in ignored}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
