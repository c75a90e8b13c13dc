"""Sweeps: scores of every layer of a model on tasks, with one forward pass per task."""
