"""What is done to vectors besides choosing a layer."""
