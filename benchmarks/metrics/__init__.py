"""Time of the representation metrics and of a profile."""
