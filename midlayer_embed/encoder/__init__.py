"""One layer as a SentenceTransformer, and how it is saved."""
