"""Intervals of means from bootstrap resamples."""

import numpy as np
import polars as pl

N_RESAMPLES = 1000
_ENDS = (2.5, 97.5)


def intervals(values: pl.Series, seed: int, resamples: dict[tuple[int, int], np.ndarray] | None = None) -> np.ndarray:
    """The 95% interval of the mean of each list of values, shape (n_lists, 2).

    Args:
        values: A list of values per row.
        seed: Seed of the resamples.
        resamples: Weights (N_RESAMPLES, n) by (n, seed); missing ones are added. Lists of the same length share them,
            so that their intervals are comparable.
    """
    resamples = {} if resamples is None else resamples
    found = np.empty((len(values), 2))
    for row, of_row in enumerate(values):
        n = len(of_row)
        if (n, seed) not in resamples:
            drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_RESAMPLES)
            resamples[n, seed] = drawn / n
        found[row] = np.percentile(resamples[n, seed] @ of_row.to_numpy(), _ENDS)
    return found
