"""Shards: the parts of a sweep that one process does whole, who does them, and how far they are."""
