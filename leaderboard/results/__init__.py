"""The files that a sweep writes, and the tables that are read from them."""
