"""Saved folders with an ONNX graph that is a lookup in the table of token embeddings. Imports no torch."""

import json
import shutil
from pathlib import Path

import numpy as np

from midlayer_embed.encoder.onnx.names import ATTENTION_MASK, FOLDER, INPUT_IDS, MODEL_FILE, STATES, VECTORS

_MODULES = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]


def write_lookup(folder: Path, *, width: int = 0) -> Path:
    """Writes the graph of a folder that pools what enters the first block.

    Args:
        folder: A saved folder of such a layer.
        width: If given, the graph also returns vectors of this width, all of them zero.

    Returns:
        The file.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    (table,) = (weight for name, weight in weights.items() if name.endswith("embed_tokens.weight"))
    ints, floats = TensorProto.INT64, TensorProto.FLOAT
    nodes = [helper.make_node("Gather", ["table", INPUT_IDS], [STATES])]
    outputs = [helper.make_tensor_value_info(STATES, floats, ["b", "t", table.shape[1]])]
    tables = [numpy_helper.from_array(table, "table")]
    if width:
        tables.append(numpy_helper.from_array(np.zeros((1, width), dtype=np.float32), "zero"))
        nodes.append(helper.make_node("ReduceMax", [STATES], ["highest"], axes=[1], keepdims=0))
        nodes.append(helper.make_node("Mul", ["highest", "zero"], [VECTORS]))
        outputs.append(helper.make_tensor_value_info(VECTORS, floats, ["b", width]))
    inputs = [helper.make_tensor_value_info(name, ints, ["b", "t"]) for name in (INPUT_IDS, ATTENTION_MASK)]
    graph = helper.make_graph(nodes, "lookup", inputs, outputs, tables)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / FOLDER).mkdir()
    onnx.save(model, str(folder / FOLDER / MODEL_FILE))
    return folder / FOLDER / MODEL_FILE


def saved_by_hand(model: Path, folder: Path) -> Path:
    """A folder of sentence-transformers around a tiny model, as the oldest versions write it, with such a graph."""
    shutil.copytree(model, folder)

    def put(file: str, content: object) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content))

    put("modules.json", [{"idx": n, "name": str(n), "path": p, "type": t} for n, (p, t) in enumerate(_MODULES)])
    put("1_Pooling/config.json", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    put("sentence_bert_config.json", {"max_seq_length": 64})
    config = json.loads((folder / "tokenizer_config.json").read_text())
    padding = next(token for name in ("pad", "eos", "unk") if (token := config.get(f"{name}_token")))
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "right", "pad_token": padding}
    put("tokenizer_config.json", {**config, **plain})
    write_lookup(folder)
    return folder
