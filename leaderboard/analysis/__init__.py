"""Schemes, associations and means over tasks, computed from tables with polars. Imports neither torch nor mteb."""
