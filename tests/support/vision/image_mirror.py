"""Made-up images for real task classes of mteb, in a folder of datasets that is laid out as on the hub."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from PIL import Image as Pillow

from support.tiny_mirror import write_readme

# A task of each kind, and what is particular to it.
IMAGE_TASKS = {
    "OxfordFlowersClassification": "mteb/oxford-flowers",
    "CIFAR10": "mteb/cifar10",  # its column is "img"
    "VOC2007.v2": "mteb/VOC2007",  # several labels; evaluated by a method of its own
    "ImageNetDog15Clustering": "mteb/imagenet-dog-15",
    "STS16VisualSTS": "mteb/rendered-sts16",
    "ROxfordEasyI2IRetrieval": "mteb/r-oxford-easy-multi",
    "CUB200I2IRetrieval": "mteb/cub200_retrieval",  # leaves the first result out
    "NIGHTSI2IRetrieval": "mteb/mbeir_nights_task4",  # has a column of texts that is no input
}


def picture(label: int, number: int) -> Pillow.Image:
    """An image of a colour for each label, and of noise; grey, RGB, or with transparency."""
    rng = np.random.default_rng([label, number])
    noise = rng.integers(0, 90, (10 + number % 5, 12, 3))
    noise[..., label % 3] += 40 * (1 + label % 4)
    image = Pillow.fromarray(noise.astype(np.uint8))
    return image.convert(("RGB", "L", "RGBA", "P")[number % 4])


def encoded(label: int, number: int) -> dict[str, Any]:
    """The same as a file: PNG, or JPEG."""
    image, file = picture(label, number), BytesIO()
    image.save(file, format="JPEG" if image.mode in ("RGB", "L") and number % 3 == 0 else "PNG")
    return {"bytes": file.getvalue(), "path": f"{label}-{number}.png"}


def labelled(n: int, n_labels: int, start: int = 0) -> tuple[list[dict[str, Any]], list[int]]:
    """Images with their labels."""
    labels = [number % n_labels for number in range(n)]
    return [encoded(label, start + number) for number, label in enumerate(labels)], labels


def write_table(path: Path, features: dict[str, Any], columns: dict[str, Any]) -> None:
    """A table in Parquet, with the features of datasets in its metadata, as it is on the hub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns, features=Features(features)).to_parquet(path)


def write_image_mirror(root: Path) -> None:
    """All datasets of `IMAGE_TASKS`."""
    for task, (column, label) in {
        "OxfordFlowersClassification": ("image", "label"),
        "CIFAR10": ("img", "label"),
        "VOC2007.v2": ("image", "classes"),
    }.items():
        for split, (n, start) in {"train": (36, 0), "test": (24, 100)}.items():
            images, labels = labelled(n, 3, start)
            kind: Any = ClassLabel(names=["a", "b", "c"])
            values: list[Any] = labels
            if label == "classes":
                kind = Sequence(Value("int64"))
                values = [sorted({one, (one + number) % 3}) for number, one in enumerate(labels)]
            features = {column: Image(), label: kind}
            path = root / IMAGE_TASKS[task] / f"data/{split}-00000-of-00001.parquet"
            write_table(path, features, {column: images, label: values})
    images, labels = labelled(30, 4)
    path = root / IMAGE_TASKS["ImageNetDog15Clustering"] / "data/test-00000-of-00001.parquet"
    write_table(path, {"image": Image(), "label": Value("int64")}, {"image": images, "label": labels})
    one, other = labelled(20, 4)[0], labelled(20, 3, 7)[0]
    path = root / IMAGE_TASKS["STS16VisualSTS"] / "data/test-00000-of-00001.parquet"
    features = {"sentence1": Image(), "sentence2": Image(), "score": Value("float64")}
    scores = [float(number % 6) for number in range(20)]
    write_table(path, features, {"sentence1": one, "sentence2": other, "score": scores})
    for task in ("ROxfordEasyI2IRetrieval", "CUB200I2IRetrieval", "NIGHTSI2IRetrieval"):
        write_retrieval(root / IMAGE_TASKS[task], with_texts=task == "NIGHTSI2IRetrieval")


def write_retrieval(folder: Path, *, with_texts: bool) -> None:
    """Queries, documents and what is relevant: documents of the label of a query."""
    documents, labels = labelled(24, 4)
    queries, asked = labelled(6, 4, 50)
    for name, images in {"corpus": documents, "queries": queries}.items():
        ids = [f"{name[0]}{number}" for number in range(len(images))]
        columns: dict[str, Any] = {"id": ids, "image": images, "modality": ["image"] * len(images)}
        features: dict[str, Any] = {"id": Value("string"), "image": Image(), "modality": Value("string")}
        if with_texts:
            columns["text"], features["text"] = [None] * len(images), Value("string")
        write_table(folder / name / "test-00000-of-00001.parquet", features, columns)
    pairs = [
        (f"q{query}", f"c{document}")
        for query, label in enumerate(asked)
        for document, other in enumerate(labels)
        if label == other and (query + document) % 3
    ]
    relevant = {
        "query-id": [query for query, _ in pairs],
        "corpus-id": [document for _, document in pairs],
        "score": [1] * len(pairs),
    }
    kinds = {"query-id": Value("string"), "corpus-id": Value("string"), "score": Value("int64")}
    write_table(folder / "qrels" / "test-00000-of-00001.parquet", kinds, relevant)
    write_readme(folder, {name: {"test": f"{name}/test-*"} for name in ("corpus", "queries", "qrels")})
