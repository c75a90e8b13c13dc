"""A saved layer as ONNX graphs, for readers without torch: ONNX Runtime, transformers.js, OpenVINO."""
