"""The files of results: their layout, reading, writing and joining them."""
