"""The command `export`: one layer as a folder of sentence-transformers, and in the formats of other readers."""
