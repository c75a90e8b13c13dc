"""Plain versions of what is tested."""
