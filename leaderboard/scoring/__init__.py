"""mteb's own scores, computed faster. README.md lists what is replaced."""
