"""Texts to measure layers on: files, corpora and augmented views."""
