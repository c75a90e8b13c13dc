"""Scores the layers of one task, in this process or in several."""
