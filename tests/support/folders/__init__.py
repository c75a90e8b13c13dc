"""Folders of results and of a cache that tests start from."""
