"""Benchmarks: programs that compare this project with plain sentence-transformers, mteb and numpy in the same run.

Run one from a checkout with `python -m benchmarks.encoding.cold_start`, or all of them with `make bench`.
"""
