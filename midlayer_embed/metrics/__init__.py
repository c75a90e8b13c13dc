"""Representation metrics as pure functions on arrays. Nothing here loads a model or reads a file.

All logarithms are natural. Computations are in float64, whatever the dtype of the input.
"""

from midlayer_embed.metrics.distances import neighbour_agreement, two_nn, uniformity
from midlayer_embed.metrics.invariance import dime, infonce, lidar, mi_lower_bound
from midlayer_embed.metrics.nearest import retrieval
from midlayer_embed.metrics.spectrum import alpha_req, dataset_entropy, effective_rank, isotropy, matrix_entropy
from midlayer_embed.metrics.trajectory import curvature, prompt_entropy, sink
from midlayer_embed.terms import NORMALIZATIONS

__all__ = [
    "NORMALIZATIONS",
    "alpha_req",
    "curvature",
    "dataset_entropy",
    "dime",
    "effective_rank",
    "infonce",
    "isotropy",
    "lidar",
    "matrix_entropy",
    "mi_lower_bound",
    "neighbour_agreement",
    "prompt_entropy",
    "retrieval",
    "sink",
    "two_nn",
    "uniformity",
]
