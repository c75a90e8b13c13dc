"""Where the ONNX files of a folder are, and what their inputs and outputs are called. Imports nothing.

sentence-transformers (`backend="onnx"`) and transformers.js look for these names.
"""

FOLDER = "onnx"
MODEL_FILE = "model.onnx"
# transformers.js asks for it with `dtype: "q8"`.
QUANTIZED_FILE = "model_quantized.onnx"
# The largest graph in one file: protobuf reads 2 GiB. The weights of a larger one are in a second file, whose name ends
# so; transformers.js and optimum look for that.
LARGEST_FILE = 2**31 - 2**24
WEIGHTS_BESIDE = "_data"
INPUT_IDS, ATTENTION_MASK = "input_ids", "attention_mask"
INPUTS = (INPUT_IDS, ATTENTION_MASK)
DIMENSIONS = ("batch_size", "sequence_length")
# The states of the tokens, (texts, tokens, width); the vectors, (texts, dim), of a graph with pooling and what follows.
STATES, VECTORS = "last_hidden_state", "sentence_embedding"
