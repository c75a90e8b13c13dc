"""Known models, and the metadata of a layer for mteb."""
