"""Models: finding a checkpoint, loading its weights, and locating its blocks."""
