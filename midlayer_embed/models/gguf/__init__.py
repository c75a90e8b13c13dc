"""GGUF files: their heads, and their conversion to safetensors."""
