"""Results of sweeps: files, and tables of scores and metrics."""
