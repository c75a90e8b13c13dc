"""The other experiments of the paper."""
