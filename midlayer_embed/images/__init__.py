"""Images: reading them, and augmented views of them. No model is needed here."""
