"""SavedEncoder: the vectors of a saved folder without sentence-transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from midlayer_embed.encoder.serve.folder import SavedFolder
from midlayer_embed.errors import InputError
from midlayer_embed.forward.row_batches import padded, row_batches
from midlayer_embed.ground.checks import check_bool, check_int, check_optional_int
from midlayer_embed.ground.paths import user_path
from midlayer_embed.ground.threads import OneAtATime
from midlayer_embed.saved.backends import BACKENDS, Backend, OnnxBackend, TorchBackend, has_onnxruntime
from midlayer_embed.saved.parts import Parts
from midlayer_embed.saved.tokens import FolderTokenizer
from midlayer_embed.saved.vectors import ModuleAfter, normalized, pooled
from midlayer_embed.texts.tokens import check_text, check_texts, distinct

_AUTO = "auto"


class SavedEncoder:
    """Reads a folder that `MidLayerEncoder.save_pretrained` or `midlayer-embed export` has saved; starts in a second.

    The vectors are those of `SentenceTransformer(folder)`, up to rounding: 1e-5 with torch, 1e-4 with ONNX Runtime in
    float32. What sentence-transformers would do and this class does not know is an error, never other vectors.

    Args:
        folder: The folder.
        backend: "onnx" imports onnxruntime, tokenizers and numpy, no torch; it needs the folder's onnx/model.onnx and
            runs on the CPU. "torch" imports torch and one model of transformers. "auto" (default): "onnx" if the folder
            has a graph, onnxruntime is installed and no other device than the CPU is asked for; else "torch".
        int8: Take the graph with weights of 8 bits, onnx/model_quantized.onnx. Its vectors are close, not equal.
        device: Device of the torch backend. None: CUDA, MPS or CPU, the fastest that is available.
        threads: Number of threads of a forward pass of ONNX Runtime. None: as many as there are cores. (For torch:
            `torch.set_num_threads`.)

    Attributes:
        folder: The folder.
        backend: "onnx" or "torch".
        dim: Number of dimensions of a vector.
        max_seq_length: Number of tokens to which a text is cut; None: no limit.
        prompts: Prompts by name.
        default_prompt_name: Name of the prompt that is used by default, or None.

    Raises:
        InputError: (a ValueError) an argument is invalid; the folder is damaged, or holds what this class does not
            know; a library is missing. The message is one line.

    Example:
        >>> encoder = SavedEncoder("smollm2-layer-7")                                # doctest: +SKIP
        >>> encoder.encode(["a text", "another one"]).shape                          # doctest: +SKIP
        (2, 576)
    """

    def __init__(
        self,
        folder: str | Path,
        backend: str = _AUTO,
        *,
        int8: bool = False,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        threads, int8 = check_optional_int("threads", threads, 1), check_bool("int8", int8)
        if backend not in (_AUTO, *BACKENDS):
            raise InputError(f"backend: expected one of {', '.join((_AUTO, *BACKENDS))}, got {backend!r}")
        self.folder = user_path(folder, "folder")
        self._parts = parts = Parts.of(SavedFolder.read(self.folder))
        self.backend = _chosen(backend, parts, int8, device)
        self._tokenizer = FolderTokenizer(parts)
        self._after = [ModuleAfter(module) for module in parts.after]
        self._model: Backend
        if self.backend == "onnx":
            self._model = OnnxBackend(parts.graph(int8=int8), threads)
        else:
            self._model = TorchBackend(parts, device)
        self._one_pass = OneAtATime()
        self.dim = parts.dim
        self.max_seq_length = parts.max_seq_length
        self.prompts = parts.prompts
        self.default_prompt_name = parts.default_prompt_name

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        normalize_embeddings: bool = False,
    ) -> np.ndarray:
        """Embed texts, as `SentenceTransformer.encode` does.

        Equal texts are encoded once, and texts of similar length share a forward pass. A text without tokens has the
        vector that MidLayerEncoder gives it: zeros, and what the modules after pooling make of them.

        Args:
            sentences: Texts, or one text.
            prompt_name: Name of the prompt to put before every text.
            prompt: The prompt itself.
            batch_size: Maximum number of texts in a forward pass.
            show_progress_bar: Show a bar with an ETA on stderr.
            normalize_embeddings: Normalise the vectors to length 1.

        Returns:
            float32 (n, dim); (dim,) for one text.

        Raises:
            InputError: (a ValueError) a text is not a string; no such prompt.
        """
        batch_size = check_int("batch_size", batch_size, 1)
        if isinstance(sentences, str):
            check_text("sentences", sentences)
            texts = [sentences]
        else:
            texts = check_texts(sentences, "sentences")
        vectors = self._encode(texts, prompt_name, prompt, batch_size, show_progress_bar, normalize_embeddings)
        return vectors[0, :] if isinstance(sentences, str) else vectors

    def _encode(
        self,
        texts: list[str],
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int,
        show_progress_bar: bool,
        normalize: bool,
    ) -> np.ndarray:
        from midlayer_embed.ground.progress import progress

        prompt = self._prompt(prompt_name, prompt)
        unique, where = distinct(texts)
        ids = self._tokenizer.tokenize(unique, prompt)
        n_skipped = 0 if self._parts.include_prompt else self._tokenizer.prompt_length(prompt)
        vectors = np.zeros((len(unique), self._parts.width * len(self._parts.modes)), dtype=np.float32)
        in_graph = self._model.vectors if n_skipped == 0 else None
        if in_graph is not None:
            vectors = self._modules_after(vectors)[:, : self._parts.truncate_dim]
        with progress(int(ids.lengths.sum()), "Encoding", "tok", show_progress_bar) as bar:
            for rows in row_batches(ids.lengths, self._model.n_tokens, batch_size):
                input_ids, mask = padded(rows, ids, self._tokenizer.pad_id)
                with self._one_pass:
                    if in_graph is not None:
                        vectors[rows] = in_graph(input_ids, mask)[:, : self.dim]
                    else:
                        states = self._model.states(input_ids, mask)
                        vectors[rows] = pooled(states, mask, self._parts.modes, n_skipped)
                bar.update(int(mask.sum()))
        if in_graph is None:
            vectors = self._modules_after(vectors)[:, : self._parts.truncate_dim]
        vectors = normalized(vectors) if normalize else vectors
        return np.ascontiguousarray(vectors[where], dtype=np.float32)

    def _modules_after(self, pooled_vectors: np.ndarray) -> np.ndarray:
        vectors = pooled_vectors
        for module in self._after:
            vectors = module(vectors)
        return np.asarray(vectors, dtype=np.float32)

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        """The prompt that is in force; a prompt itself is stronger than a name, as in sentence-transformers."""
        if prompt is not None:
            check_text("prompt", prompt)
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise InputError(f"prompt_name: expected one of {', '.join(self.prompts)}, got {name!r}")
        return self.prompts[name]

    def __repr__(self) -> str:
        return f"SavedEncoder({str(self.folder)!r}, backend={self.backend!r})"


def _chosen(backend: str, parts: Parts, int8: bool, device: Any) -> str:
    """The backend that is used."""
    on_cpu = device is None or str(device) == "cpu"
    if int8 and (backend == "torch" or not on_cpu):
        raise InputError('int8: expected the backend "onnx" on the CPU, which alone has weights of 8 bits')
    if backend == "onnx" and not on_cpu:
        raise InputError(f'device: the backend "onnx" runs on the CPU, got {device!r}; use the backend "torch"')
    if backend != _AUTO:
        return backend
    if int8 or (on_cpu and has_onnxruntime() and parts.graph().is_file()):
        return "onnx"
    return "torch"
