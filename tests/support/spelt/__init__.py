"""What users type, in all its spellings."""
