"""Servers that read a saved folder by their own rules compute the same vectors; `--check` says where they do not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.other_stacks.servers import Refused, tei_vectors, vllm_vectors
from support.tiers import sampled
from support.tiny_models import save_model

from midlayer_embed import MidLayerEncoder
from midlayer_embed.encoder.serve.readers import read_by_others

pytestmark = pytest.mark.model
_BY_TEI = ["bert", "camembert", "distilbert", "gemma3", "llama", "mistral", "modernbert", "roberta", "xlm-roberta"]
_NOT_BY_TEI = ["albert", "falcon", "gemma", "gpt2", "gpt_neox", "mamba", "opt", "phi3", "t5"]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Callable[[list[str]], np.ndarray]]]:
    """Saves a layer; returns the folder, and its vectors of length 1."""

    def save(base: Path, layer: int = 2, **options: Any) -> tuple[Path, Callable[[list[str]], np.ndarray]]:
        encoder = MidLayerEncoder(base, layer, **options)
        encoder.save_pretrained(str(tmp_path / "out"))
        return tmp_path / "out", lambda texts: encoder.encode(texts, normalize_embeddings=True)

    return save


def _verdict(folder: Path, reader: str) -> str:
    return next(reading.verdict for reading in read_by_others(folder) if reading.reader == reader)


@pytest.mark.parametrize("name", sampled(_BY_TEI, "bert", "llama"))
@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_both_servers_compute_the_vectors_of_an_export(
    name: str, mode: str, tiny_model: Callable[[str], Path], sentences: list[str], saved: Callable[..., Any]
) -> None:
    folder, vectors = saved(tiny_model(name), pooling_mode=mode)
    long = [" ".join(sentences * 3)]
    for read in (tei_vectors, vllm_vectors):
        np.testing.assert_allclose(read(folder, sentences + long), vectors(sentences + long), atol=1e-5)
    np.testing.assert_allclose(vllm_vectors(folder, sentences, knows_new_names=True), vectors(sentences), atol=1e-5)
    assert _verdict(folder, "TEI") == _verdict(folder, "vLLM") == "right"


def test_qwen3_is_read_with_the_end_token_that_its_real_configs_name(
    tmp_path: Path, sentences: list[str], saved: Callable[..., Any]
) -> None:
    from support.architectures import GROUPED

    save_model("qwen3", {**GROUPED, "head_dim": 8, "eos_token_id": 0}, tmp_path / "qwen3")
    folder, vectors = saved(tmp_path / "qwen3")
    np.testing.assert_allclose(tei_vectors(folder, sentences), vectors(sentences), atol=1e-5)
    assert _verdict(folder, "TEI") == "right"


@pytest.mark.parametrize("name", _NOT_BY_TEI)
def test_tei_refuses_other_architectures(
    name: str, tiny_model: Callable[[str], Path], sentences: list[str], saved: Callable[..., Any]
) -> None:
    folder, _ = saved(tiny_model(name))
    with pytest.raises(Refused):
        tei_vectors(folder, sentences)
    assert _verdict(folder, "TEI") == "refused"


@pytest.mark.parametrize("transform", ["center", "standardize", "whiten"])
def test_a_transform_is_a_dense_to_both_servers(
    llama_folder: Path, sentences: list[str], saved: Callable[..., Any], transform: str
) -> None:
    texts = [f"{text} {number}" for text in sentences for number in range(10)]
    folder, vectors = saved(llama_folder, transform=transform, transform_texts=texts)
    for read in (tei_vectors, vllm_vectors):
        np.testing.assert_allclose(read(folder, sentences), vectors(sentences), atol=1e-5)
    assert _verdict(folder, "TEI") == _verdict(folder, "vLLM") == "right"
    assert _verdict(folder, "llama.cpp") == "other vectors"


@pytest.mark.parametrize("template", ["eol", "echo", "In short, {text} says"])
def test_a_template_reaches_both_servers(
    llama_folder: Path, sentences: list[str], saved: Callable[..., Any], template: str
) -> None:
    folder, vectors = saved(llama_folder, template=template, pooling_mode="mean")
    short = ["word", "A short one."]
    for read in (tei_vectors, vllm_vectors):
        np.testing.assert_allclose(read(folder, short), vectors(short), atol=1e-5)
    assert _verdict(folder, "TEI") == _verdict(folder, "vLLM") == "right"
    assert _verdict(folder, "llama.cpp") == "refused"
    if template == "echo":  # the limit counts one copy, and a server all
        with pytest.raises(Refused, match="must have less than"):
            tei_vectors(folder, [" ".join(sentences * 3)])


@pytest.mark.parametrize("template", ["A{text}", "{text}.", "<eos>{text}", "the long words {text}"])
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_template_of_one_token_is_a_template(
    tiny_model: Callable[[str], Path], saved: Callable[..., Any], name: str, template: str
) -> None:
    folder, _ = saved(tiny_model(name), template=template, pooling_mode="mean")
    assert _verdict(folder, "llama.cpp") == "refused"
    plain = saved(tiny_model(name))[0]
    assert _verdict(plain, "llama.cpp") in ("right", "with an option")


@pytest.mark.parametrize("mode", ["weightedmean", "max"])
def test_a_pooling_that_servers_lack_is_told(
    llama_folder: Path, sentences: list[str], saved: Callable[..., Any], mode: str
) -> None:
    folder, vectors = saved(llama_folder, pooling_mode=mode)
    with pytest.raises(Refused, match="is not supported"):
        tei_vectors(folder, sentences)
    assert not np.allclose(vllm_vectors(folder, sentences), vectors(sentences), atol=1e-2)
    assert (_verdict(folder, "TEI"), _verdict(folder, "vLLM")) == ("refused", "other vectors")


def test_raw_states_are_refused_or_told(llama_folder: Path, sentences: list[str], saved: Callable[..., Any]) -> None:
    folder, vectors = saved(llama_folder, final_norm=False)
    with pytest.raises(Refused, match="pooling_mode_cls_token"):
        tei_vectors(folder, sentences)
    assert not np.allclose(vllm_vectors(folder, sentences, knows_new_names=True), vectors(sentences), atol=1e-2)
    assert (_verdict(folder, "TEI"), _verdict(folder, "vLLM")) == ("refused", "other vectors")


def test_folders_of_newer_sentence_transformers_are_what_servers_misread(
    llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    """So that the tests above can fail: what this package wrote before, and others still do."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(str(llama_folder))
    transformer.tokenizer.pad_token = "<eos>"
    plain = SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")
    plain.save(str(tmp_path / "new"), create_model_card=False)
    vectors = plain.encode(sentences, normalize_embeddings=True)
    with pytest.raises(Refused, match="missing field"):
        tei_vectors(tmp_path / "new", sentences)
    assert not np.allclose(vllm_vectors(tmp_path / "new", sentences), vectors, atol=1e-2)
    np.testing.assert_allclose(vllm_vectors(tmp_path / "new", sentences, knows_new_names=True), vectors, atol=1e-5)
    verdicts = {reading.reader: reading.verdict for reading in read_by_others(tmp_path / "new")}
    assert verdicts["sentence-transformers 3.4 to 5.3"] == verdicts["TEI"] == "refused"
    assert verdicts["vLLM"] == "with an option"


def test_gemma_3_has_no_entry_that_tei_stumbles_over(
    tiny_model: Callable[[str], Path], sentences: list[str], saved: Callable[..., Any]
) -> None:
    folder, _ = saved(tiny_model("gemma3"))
    nested = Path(shutil.copytree(folder, folder.parent / "nested"))
    config = json.loads((nested / "config.json").read_text())
    theta = {"rope_type": "default", "rope_theta": 1e4}
    config["rope_parameters"] = {"full_attention": theta, "sliding_attention": theta}
    (nested / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match="missing field `rope_theta`"):
        tei_vectors(nested, sentences)
    assert (_verdict(nested, "TEI"), _verdict(folder, "TEI")) == ("refused", "right")
