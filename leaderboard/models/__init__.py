"""Which models have names of ours, and what mteb is told about a layer."""
