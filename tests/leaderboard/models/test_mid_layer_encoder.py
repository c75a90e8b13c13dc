"""mteb calls a MidLayerEncoder as it calls any SentenceTransformer, and gets the same vectors."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from mteb.cache import ResultCache
from mteb.models.model_meta import ModelMeta
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from support.tiny_tasks import TinySTS, tiny_tasks

from midlayer_embed import MidLayerEncoder

PROMPTS = {"query": "A question: ", "STS": "Alike or not: "}


def test_scores_equal_those_of_plain_sentence_transformers(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, prompts=PROMPTS)
    plain = SentenceTransformer(modules=list(encoder), device="cpu", prompts=PROMPTS)
    scores: list[list[float]] = []
    vectors: list[list[np.ndarray]] = []
    real = SentenceTransformer.encode

    def recorded(model: SentenceTransformer, *args: Any, **kwargs: Any) -> Any:
        found = real(model, *args, **kwargs)
        vectors[-1].append(np.asarray(found))
        return found

    monkeypatch.setattr(SentenceTransformer, "encode", recorded)
    for model in (encoder, plain):
        scores.append([])
        vectors.append([])
        for task in tiny_tasks():
            result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
            scores[-1].append(result.task_results[0].get_score())
    assert len(vectors[0]) == len(vectors[1]) > len(scores[0])
    for ours, theirs in zip(*vectors, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # A hair's breadth may swap two pairs of the same similarity, but no more.
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert len(set(scores[0])) > 2


def _score(model: SentenceTransformer, cache: ResultCache | None) -> float:
    options: dict[str, Any] = {"show_progress_bar": False, "co2_tracker": False}
    return float(mteb.evaluate(model, TinySTS(), cache=cache, **options).task_results[0].get_score())


def _meta(model: SentenceTransformer) -> ModelMeta:
    return ModelMeta.from_sentence_transformer_model(model)


def test_no_layer_is_given_the_results_of_another_one(llama_folder: Path, tmp_path: Path) -> None:
    """mteb stores results by name and revision; a SentenceTransformer that has none is no_model_name."""
    cache = ResultCache(tmp_path)
    scores = {}
    for layer in (1, 2, 1, 3):
        encoder = MidLayerEncoder(llama_folder, layer)
        scores[layer] = _score(encoder, cache)
        assert scores[layer] == pytest.approx(_score(encoder, None), abs=1e-6)
        meta = _meta(encoder)
        assert (meta.name, meta.revision) == (f"local/tiny-llama (layer={layer})", encoder.checkpoint.revision)
    assert len(set(scores.values())) == 3
    table = cache.load_results(validate_and_filter=False).to_dataframe()
    assert [table[f"local/tiny-llama (layer={layer})"][0] for layer in (1, 2, 3)] == pytest.approx(
        [scores[layer] for layer in (1, 2, 3)]
    )


def test_settings_are_part_of_the_name(llama_folder: Path, tmp_path: Path) -> None:
    def named(**options: Any) -> str:
        name = _meta(MidLayerEncoder(llama_folder, 2, **options)).name
        assert name is not None
        return name.removeprefix("local/tiny-llama (").removesuffix(")")

    assert named() == named(pooling_mode="mean", final_norm=True, dtype="float") == "layer=2"
    assert named(dtype="float64", final_norm=False) == "dtype=float64, final_norm=False, layer=2"
    assert named(pooling_mode="cls", truncate_dim=8) == "layer=2, pooling_mode=cls, truncate_dim=8"
    assert named(max_seq_length=16) == "layer=2, max_seq_length=16"
    assert named(similarity_fn_name="dot", include_prompt=False) == (
        "include_prompt=False, layer=2, similarity_fn_name=dot"
    )
    prompts = [named(prompts={"query": prompt}) for prompt in ("Q: ", "A question: ", "Q: " * 999)]
    assert len({*prompts, named()}) == 4
    assert max(map(len, prompts)) < 60
    many = {"pooling_mode": "lasttoken", "prompts": {"query": "Q: "}, "default_prompt_name": "query", "truncate_dim": 8}
    assert len(named(dtype="float64", max_seq_length=16, include_prompt=False, final_norm=False, **many)) < 180


def test_what_is_changed_afterwards_is_another_model(llama_folder: Path) -> None:
    def with_adapter(encoder: MidLayerEncoder) -> None:
        from peft import LoraConfig

        encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))

    def trained(encoder: MidLayerEncoder) -> None:
        optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
        encoder(encoder.preprocess(["a text"]))["sentence_embedding"].sum().backward()
        optimizer.step()

    changes: list[Callable[[MidLayerEncoder], Any]] = [
        trained,
        with_adapter,
        lambda encoder: encoder.half(),
        lambda encoder: encoder.append(Normalize()),
        lambda encoder: setattr(encoder, "max_seq_length", 5),
        lambda encoder: setattr(encoder, "truncate_dim", 5),
        lambda encoder: setattr(encoder[1], "include_prompt", False),
        lambda encoder: next(encoder.parameters()).data.mul_(2),
        lambda encoder: encoder[0].model.layers[0].mlp.up_proj.weight.data[5, 3].add_(1),  # torch does not count it
        lambda encoder: setattr(encoder.tokenizer, "truncation_side", "left"),
        lambda encoder: encoder.load_state_dict({name: value + 1 for name, value in encoder.state_dict().items()}),
    ]
    seen = set()
    for change in changes:
        encoder = MidLayerEncoder(llama_folder, 2)
        before = (_meta(encoder).name, _meta(encoder).revision)
        assert before == ("local/tiny-llama (layer=2)", encoder.checkpoint.revision)
        encoder.encode(["a text"])
        moved = copy.deepcopy(encoder).to("cpu").eval()
        assert (_meta(moved).name, _meta(moved).revision) == before
        change(encoder)
        seen.add((_meta(encoder).name, _meta(encoder).revision))
        assert before not in seen
    assert len(seen) == len(changes)


def test_folders_of_the_same_name_are_not_mixed(
    llama_folder: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """The revision tells them apart."""
    cache = ResultCache(tmp_path / "cache")
    for place, source in (("one", llama_folder), ("other", tiny_model("gpt_neox"))):
        folder = Path(shutil.copytree(source, tmp_path / place / "model"))
        encoder = MidLayerEncoder(folder, 2)
        assert _meta(encoder).name == "local/model (layer=2)"
        assert _score(encoder, cache) == pytest.approx(_score(encoder, None), abs=1e-6)


def test_adapters_and_attention_are_part_of_the_revision(llama_folder: Path, make_adapter: Callable[..., Path]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, adapters=[make_adapter(llama_folder, seed=1)], bidirectional=True)
    assert _meta(encoder).revision == encoder.checkpoint.revision
    assert "-bidirectional-adapters-" in encoder.checkpoint.revision


def test_a_name_that_is_given_is_kept(llama_folder: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    encoder.model_card_data.model_name = "me/my-model"
    assert _meta(encoder).name == "me/my-model"
