"""Representation metrics: pure functions on arrays. No model, no file, no text is known here.

All logarithms are natural; everything is computed in float64 whatever comes in.
"""

from midlayer_embed.metrics.spectrum import dataset_entropy, matrix_entropy

__all__ = ["dataset_entropy", "matrix_entropy"]
