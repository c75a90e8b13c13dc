"""Time of the paper's other experiments."""
