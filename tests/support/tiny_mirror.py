"""A small folder of datasets, laid out as on the hub, for real task classes of mteb."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PAIRS = [("The matrix factors slowly.", f"The signal {verb} at random.") for verb in "abcdefgh"]
STS_FOLDER = "mteb/stsbenchmark-sts"


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def sts_rows(shift: int = 0) -> list[dict[str, Any]]:
    return [{"sentence1": a, "sentence2": b, "score": float((i + shift) % 5)} for i, (a, b) in enumerate(PAIRS)]


def write_sts(folder: Path, shift: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "test.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in sts_rows(shift))


def write_mirror(root: Path) -> None:
    """Four datasets, each laid out in another one of the ways of the hub: gzipped JSONL, Parquet with and without
    configurations in a README.md, and the several tables of a reranking task."""
    write_sts(root / STS_FOLDER)
    counterfactual = root / "mteb/amazon_counterfactual"
    rows = {"text": [a + b for a, b in PAIRS] * 4, "label": [0, 1] * 16, "label_text": ["no", "yes"] * 16}
    for split in ("train", "test"):
        write_parquet(counterfactual / "en" / f"{split}-00000-of-00001.parquet", rows)
    write_readme(counterfactual, {"en": {split: f"en/{split}-*" for split in ("train", "test")}})
    sts17 = {name: [row[name] for row in sts_rows()] * 2 for name in ("sentence1", "sentence2", "score")}
    write_parquet(
        root / "mteb/sts17-crosslingual-sts/data/test-00000-of-00001.parquet",
        {**sts17, "lang": ["en-en"] * 8 + ["es-es"] * 8},
    )
    reranking = root / "mteb/AskUbuntuDupQuestions"
    tables: dict[str, dict[str, list[Any]]] = {
        "corpus": {"_id": ["d0", "d1", "d2"], "text": ["one text", "another text", "a third"], "title": [""] * 3},
        "queries": {"_id": ["q0", "q1"], "text": ["one query", "a query"]},
        "default": {"query-id": ["q0", "q1"], "corpus-id": ["d0", "d2"], "score": [1, 1]},
        "top_ranked": {"query-id": ["q0", "q1"], "corpus-ids": [["d0", "d1"], ["d1", "d2"]]},
    }
    for name, columns in tables.items():
        write_parquet(reranking / name / "test-00000-of-00001.parquet", columns)
    write_readme(reranking, {name: {"test": f"{name}/test-*"} for name in tables})


def write_readme(folder: Path, configs: dict[str, dict[str, str]]) -> None:
    lines = ["---", "configs:"]
    for name, files in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in files.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
