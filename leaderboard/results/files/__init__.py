"""Files in the results folder."""
