"""The keywords that mteb passes on to `encode`, which it records with each result. mteb is not imported here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mteb.types import EncodeKwargs

# Texts per batch of mteb. It does not affect forward passes: the store encodes all texts of a call together.
ENCODE_KWARGS: "EncodeKwargs" = {"batch_size": 512, "show_progress_bar": False}
