"""The states of tokens, by ONNX Runtime or by torch. A library is imported when its backend is opened."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from midlayer_embed.encoder.onnx.names import ATTENTION_MASK, INPUT_IDS, INPUTS, STATES, VECTORS
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.forward.row_batches import TOKENS_ACCELERATOR, TOKENS_CPU
from midlayer_embed.saved.parts import Parts

BACKENDS = ("onnx", "torch")
Run = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of the ids and the mask of a batch
# What works on the states that are pooled here, and may be missing.
_UNUSED = "pooler."


class Backend(Protocol):
    """Runs the model of a folder.

    Attributes:
        n_tokens: Number of tokens in a forward pass, padding included.
        vectors: Gives the float32 vectors (b, dim) of a batch; None without pooling and what follows inside.
    """

    n_tokens: int
    vectors: Run | None

    def states(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """The float32 states (b, t, d) of the tokens of a batch."""


def has_onnxruntime() -> bool:
    """Whether ONNX Runtime is installed. It is not imported."""
    return find_spec("onnxruntime") is not None


class OnnxBackend:
    """A graph of the folder, on the CPU.

    Args:
        file: The graph.
        threads: Number of threads of a forward pass; None: as many as there are cores.

    Raises:
        InputError: (a ValueError) no graph, one that cannot be read or has other inputs or outputs; no onnxruntime.
    """

    n_tokens = TOKENS_CPU

    def __init__(self, file: Path, threads: int | None) -> None:
        if not has_onnxruntime():
            raise InputError('backend: "onnx" needs onnxruntime: pip install "midlayer-embed[onnx]"')
        if not file.is_file():
            raise InputError(f"folder: there is no {file}; midlayer-embed export --onnx writes graphs")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, which are raised as well
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a class for each of its error codes
            raise InputError(f"folder: {file} cannot be read: {first_line(error)}") from error
        inputs, outputs = (
            [value.name for value in some()] for some in (self._session.get_inputs, self._session.get_outputs)
        )
        self.vectors: Run | None = partial(self._run, VECTORS) if VECTORS in outputs else None
        self._has_states = STATES in outputs
        if set(inputs) != set(INPUTS) or not (self.vectors or self._has_states):
            raise InputError(
                f"folder: {file} takes {', '.join(inputs)} and gives {', '.join(outputs)}; expected "
                f"{', '.join(INPUTS)} and {STATES} or {VECTORS}"
            )
        self._file = file

    def _run(self, output: str, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        (found,) = self._session.run([output], {INPUT_IDS: input_ids, ATTENTION_MASK: attention_mask})
        return np.asarray(found, dtype=np.float32)

    def states(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """The float32 states (b, t, d) of the tokens of a batch."""
        if not self._has_states:
            raise InputError(f"folder: {self._file} gives no {STATES}, without which a prompt cannot be left out")
        return self._run(STATES, input_ids, attention_mask)


class TorchBackend:
    """The model of the folder in transformers, from its safetensors.

    Args:
        parts: Of the folder.
        device: Name of a device; None: CUDA, MPS or CPU, the fastest that is available.

    Raises:
        InputError: (a ValueError) a device that cannot be used; weights or a config that transformers cannot load.
    """

    vectors: Run | None = None

    def __init__(self, parts: Parts, device: str | None) -> None:
        import torch

        from midlayer_embed.models.weights import resolve_device

        self._torch, self._path = torch, parts.states
        self._device = resolve_device(device)
        self.n_tokens = TOKENS_CPU if self._device.type == "cpu" else TOKENS_ACCELERATOR
        self._model = _load(parts).to(self._device).eval()

    def states(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """The float32 states (b, t, d) of the tokens of a batch."""
        torch = self._torch
        more = {"output_hidden_states": True} if self._path[0] == "hidden_states" else {}
        with torch.inference_mode():
            found = self._model(
                input_ids=torch.from_numpy(input_ids).to(self._device),
                attention_mask=torch.from_numpy(attention_mask).to(self._device),
                return_dict=True,
                **more,
            )
            for step in self._path:
                found = found[step]
            states: np.ndarray = found.float().cpu().numpy()
        return states


def _load(parts: Parts) -> Any:
    """The model as sentence-transformers loads it, by the class of transformers that the config says."""
    import transformers
    from transformers import AutoConfig

    from midlayer_embed.ground.quiet import quiet_transformers
    from midlayer_embed.models.families import family_of

    root = str(parts.folder.root)
    kwargs: dict[str, Any] = {} if parts.attention is None else {"attn_implementation": parts.attention}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(root, local_files_only=True)
            config.use_cache = False
            family = family_of(config)
            name = (family and family.model_class) or "AutoModel"
            if name == "AutoModel" and getattr(config, "is_encoder_decoder", False):
                raise InputError(f"folder: {root} holds an encoder and a decoder, which this reader does not know")
            model, report = getattr(transformers, name).from_pretrained(
                root, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True, **kwargs
            )
    except InputError:
        raise
    except Exception as error:  # transformers and its models may raise anything
        raise InputError(f"folder: the model of {root} cannot be loaded: {first_line(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_UNUSED))
    if missing:
        raise InputError(f"folder: the weights of {root} have no {missing[0]}")
    return model
