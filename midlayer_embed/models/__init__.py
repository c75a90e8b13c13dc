"""Which model, and its weights: finding a checkpoint, loading it, and where its blocks are."""
