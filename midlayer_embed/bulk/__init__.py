"""Bulk encoding: from files of texts to files of vectors."""
