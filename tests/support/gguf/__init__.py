"""Tiny GGUF files, and what the package gguf reads in one."""
