"""Results folders written by hand."""
