"""Where results are: a folder, or an object store. Whole files, of which some can be created by one process only."""
