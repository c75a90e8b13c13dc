"""The texts that a layer is measured on: files, corpora and augmented views."""
