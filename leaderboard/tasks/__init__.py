"""MTEB tasks: benchmarks, and where the data come from."""
