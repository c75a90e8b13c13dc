"""Small rooms that everything else may use: atomic writes, checksums, Markdown, quiet libraries, argument checks."""
