"""One way to make vectors, timed and scored in a process of its own, for `quality_and_cost`.

    python -m benchmarks.serving.one_way JOB

JOB is a JSON file: what makes the vectors, the texts, the tasks to score. Answers are lines of JSON on stdout. Without
tasks, the process says when it has loaded the model, and encodes all texts once for every line that it reads.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench import Timing, time_call
from midlayer_embed.ground.whole_files import read_json

if TYPE_CHECKING:
    from typing_extensions import Self

THREADS = 2
PLAIN, OURS, ONNX, INT8, WORDS = "SentenceTransformer", "MidLayerEncoder", "ONNX", "ONNX int8", "scikit-learn"
BATCH_OF_BLOCKS = 16


@dataclass(frozen=True)
class Measured:
    """What a process measured of one way.

    Attributes:
        texts: Seconds and CPU seconds of all texts.
        blocks: Those of all blocks of 64 tokens.
        joules: Of the package of the processor for all texts; None where they cannot be read.
    """

    texts: Timing
    blocks: Timing
    joules: float | None

    @classmethod
    def best(cls, rounds: "Sequence[Self]") -> "Self":
        """The smallest of each number."""
        texts, blocks = Timing.best(one.texts for one in rounds), Timing.best(one.blocks for one in rounds)
        return cls(texts, blocks, min((one.joules for one in rounds if one.joules is not None), default=None))


class OneWay:
    """A way in a process of its own.

    Several are kept waiting, to be timed in turns: times taken minutes apart differ by what else the machine does.

    Args:
        scratch: A folder for the job and the vectors; it is made.
        **job: What `do` reads.
    """

    def __init__(self, scratch: Path, **job: Any) -> None:
        scratch.mkdir()
        self._vectors, said = scratch / "vectors.npy", scratch / "job.json"
        said.write_text(json.dumps({**job, "vectors": str(self._vectors)}), encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "benchmarks.serving.one_way", str(said)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self) -> Any:
        """What it says next."""
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"a process of benchmarks.serving.one_way ended with exit code {self._process.wait()}")
        return json.loads(line)

    def round(self) -> Measured:
        """Let it encode all texts."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        texts, blocks, joules = self.answer()
        return Measured(Timing(*texts), Timing(*blocks), joules)

    def vectors(self) -> np.ndarray:
        """Vectors of the texts, after a round."""
        return np.asarray(np.load(self._vectors, allow_pickle=False))


class Joules:
    """Counters of energy of the processors' packages, where this user may read them (RAPL, Linux)."""

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self._counters = []
        for folder in sorted(root.glob("intel-rapl:?")):
            try:
                most = int((folder / "max_energy_range_uj").read_text())
                int((folder / "energy_uj").read_text())
            except OSError:
                continue
            self._counters.append((folder / "energy_uj", most))

    def read(self) -> list[int]:
        """The counters now, in microjoules."""
        return [int(path.read_text()) for path, _ in self._counters]

    def since(self, before: list[int]) -> float | None:
        """Joules since a reading; None without counters."""
        if not self._counters:
            return None
        now = self.read()
        steps = zip(now, before, self._counters, strict=True)
        return sum((after - earlier) % (most + 1) for after, earlier, (_, most) in steps) / 1e6


class Encoding:
    """Vectors of one way, for mteb: each distinct text is encoded once."""

    def __init__(self, encode: Callable[[list[str]], np.ndarray]) -> None:
        self._encode = encode
        self._known: dict[str, np.ndarray] = {}

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n_texts, dim)."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            self._known.update(zip(missing, self._encode(missing), strict=True))
        return np.stack([self._known[text] for text in texts])


def encoder_of(by: str, folder: str, options: dict[str, Any]) -> Callable[..., np.ndarray]:
    """The function of one way that encodes texts."""
    if by in (ONNX, INT8):
        from midlayer_embed import SavedEncoder

        return SavedEncoder(folder, "onnx", int8=by == INT8, threads=THREADS).encode
    import torch

    torch.set_num_threads(THREADS)
    encoder: Any
    if by == OURS:
        from midlayer_embed import MidLayerEncoder

        encoder = MidLayerEncoder(options["model"], options["layer"], device="cpu")
    else:
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(folder, device="cpu")
    return lambda texts, **more: np.asarray(encoder.encode(texts, show_progress_bar=False, **more))


def word_counts(texts: Sequence[str]) -> Callable[..., np.ndarray]:
    """TF-IDF of the words of some texts."""
    from benchmarks.recipes import WordCounts

    counts = WordCounts(texts)._counts
    return lambda some, **_: counts.transform(some).toarray()


def measure(encode: Callable[..., np.ndarray], texts: list[str], blocks: list[str]) -> tuple[Measured, np.ndarray]:
    """Time one way; returns its vectors of the texts, too."""
    joules = Joules()
    before = joules.read()
    of_texts, vectors = time_call(partial(encode, texts))
    used = joules.since(before)
    of_blocks, _ = time_call(partial(encode, blocks, batch_size=BATCH_OF_BLOCKS))
    return Measured(of_texts, of_blocks, used), np.asarray(vectors, dtype=np.float32)


def score_of(task_name: str, data_dir: Path | None, encode: Callable[..., np.ndarray] | None) -> float:
    """The main score of mteb on a task, in points; without a function to encode, that of TF-IDF."""
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta

    from leaderboard.quiet import calm_libraries
    from leaderboard.scoring.columns import texts_in
    from leaderboard.scoring.score import prepared, score
    from leaderboard.scoring.texts import collect_texts
    from midlayer_embed.texts.tokens import spelt

    class Scored(AbsEncoder):
        """The encoder as mteb asks for it."""

        mteb_model_meta = ModelMeta.create_empty({"name": "benchmarks/quality-and-cost", "revision": "1"})

        def __init__(self, encoding: Encoding) -> None:
            self._encoding = encoding

        def encode(self, inputs: Any, **_options: Any) -> np.ndarray:
            return self._encoding.vectors(texts_in(inputs))

    with calm_libraries():
        task = loaded_task(task_name, data_dir)
        encode = encode or word_counts([spelt(text) for text in collect_texts(task).all])
        with prepared(task):
            result = score(task, Scored(Encoding(encode)))
    return float(result.get_score()) * 100


def loaded_task(name: str, data_dir: Path | None) -> Any:
    """A task of mteb with its data."""
    import leaderboard.tasks.starter  # noqa: F401  # registers its tasks
    from leaderboard.tasks.benchmarks import get_task
    from leaderboard.tasks.mirror import dataset_folder, reading_from

    task = get_task(name)
    folder = None if data_dir is None else dataset_folder(data_dir, task)
    with nullcontext() if folder is None else reading_from(folder, task):
        task.load_data()
    return task


def do(job: dict[str, Any], answers: IO[str]) -> None:
    """Measure or score one way."""

    def say(answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    texts, blocks, is_words = job["texts"], job["blocks"], job["by"] == WORDS
    encode = word_counts(texts) if is_words else encoder_of(job["by"], job["folder"], job["options"])
    if job["tasks"]:
        data_dir = None if job["data_dir"] is None else Path(job["data_dir"])
        say({task: score_of(task, data_dir, None if is_words else encode) for task in job["tasks"]})
        return
    encode(texts[: 2 * BATCH_OF_BLOCKS])
    encode(blocks[:BATCH_OF_BLOCKS], batch_size=BATCH_OF_BLOCKS)
    say("ready")
    for _ in sys.stdin:
        measured, vectors = measure(encode, texts, blocks)
        np.save(job["vectors"], vectors, allow_pickle=False)
        say(astuple(measured))


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # what libraries print is no answer
        do(read_json(Path(sys.argv[1]), "job"), out)
