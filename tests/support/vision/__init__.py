"""Tiny image encoders, and plain oracles of their states."""
