"""Image encoders: where each architecture keeps its blocks, norm and patches, and how pixels are prepared."""
