"""Tasks on images: starter tasks that need no download, and their images."""
