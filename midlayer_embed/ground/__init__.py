"""Building blocks for the whole project: atomic writes, checks, progress bars, colours, quiet libraries, ..."""
