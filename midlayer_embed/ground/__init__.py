"""Building blocks for the whole project: atomic writes, checksums, Markdown, quiet libraries, argument checks."""
