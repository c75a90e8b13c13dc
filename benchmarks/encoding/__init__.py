"""Time and memory of encoding and loading."""
