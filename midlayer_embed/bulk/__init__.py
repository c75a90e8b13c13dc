"""Files of texts in, files of vectors out."""
