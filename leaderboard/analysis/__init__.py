"""Schemes, associations and means over tasks, on tables alone: polars, no torch, no mteb."""
