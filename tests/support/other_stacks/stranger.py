"""Run by the Python of a stack: reads exports by sentence-transformers and by transformers alone, prints JSON.

Arguments: a folder of exports, each with the vectors.npy that are expected; texts as JSON.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()


class _Heard(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def _read(folder, texts):
    expected = np.load(folder / "vectors.npy")
    model = SentenceTransformer(str(folder), device="cpu")
    found = model.encode(texts, batch_size=1)
    answer = {"difference": float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    answer["ids"] = [tokenizer(text, truncation=True)["input_ids"] for text in texts]
    return answer


def main():
    folders, texts = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    heard = _Heard()
    logging.getLogger("sentence_transformers").addHandler(heard)
    answers = {}
    for folder in sorted(folders.iterdir()):
        heard.lines.clear()
        try:
            answers[folder.name] = _read(folder, texts)
        except Exception as error:
            answers[folder.name] = {"error": f"{type(error).__name__}: {error}"}
        answers[folder.name]["warnings"] = list(heard.lines)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
