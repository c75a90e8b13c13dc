"""Executors run the workers of a sweep: as processes of this machine, one a GPU, as jobs of SLURM, or as tasks of Ray.

A worker is a process of its own, `run MODEL... --shard i/n`, so no engine takes part in a sweep: the workers share the
work by the claims in the results folder, and the results never pass through an engine.
"""
