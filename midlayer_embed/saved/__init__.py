"""A saved layer without the libraries that made it: ONNX Runtime or torch, the tokenizer, and numpy."""
