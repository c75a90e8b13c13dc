"""Leaderboards and browsers for tests of pages."""
