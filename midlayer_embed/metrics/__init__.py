"""Representation metrics as pure functions on arrays. Nothing here loads a model or reads a file.

All logarithms are natural. Computations are in float64, whatever the dtype of the input.
"""

from midlayer_embed.metrics.invariance import dime, infonce, lidar, mi_lower_bound
from midlayer_embed.metrics.nearest import retrieval
from midlayer_embed.metrics.spectrum import dataset_entropy, effective_rank, matrix_entropy
from midlayer_embed.metrics.trajectory import curvature, prompt_entropy
from midlayer_embed.terms import NORMALIZATIONS

__all__ = [
    "NORMALIZATIONS",
    "curvature",
    "dataset_entropy",
    "dime",
    "effective_rank",
    "infonce",
    "lidar",
    "matrix_entropy",
    "mi_lower_bound",
    "prompt_entropy",
    "retrieval",
]
