"""Probes: small classifiers that are trained on the frozen states of every layer."""
