"""mteb's own scores, faster. README.md says what is replaced."""
