"""Profiles of several models: the checkpoints of a training run, and models beside each other.

`measure` measures, `published` reads published tables, `summaries` tells what a table shows. `training` makes the
checkpoints of a tiny run.
"""
