"""The parts of the page: its data, its layout and its behaviour."""
