import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from support.architectures import TINY_TYPES
from support.forks import vectors_of_a_stranger
from transformers import AutoModel

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.options import Source

_SLIDING = ["gemma2", "gemma3", "mistral", "qwen2"]
_FULL = ["falcon", "falcon-new", "gemma", "gpt2", "gpt_neox", "llama", "opt", "phi", "phi3", "qwen3"]
_DECODERS = [*_FULL, *_SLIDING, "falcon-alibi", "opt-projected"]
_RECURRENT = ["mamba", "mamba2"]
_ENCODERS = [
    *("albert", "albert-groups", "bert", "camembert", "distilbert", "modernbert", "mt5", "roberta", "t5", "umt5"),
    "xlm-roberta",
]

# Alike but for the last token.
_PAIR = ("The weather is lovely today a", "The weather is lovely today b")


def test_every_architecture_is_of_one_kind() -> None:
    kinds = [*_DECODERS, *_RECURRENT, *_ENCODERS]
    assert len(kinds) == len(set(kinds))
    names = {"gemma3": "gemma3_text"}
    assert {names.get(kind, kind) for kind in kinds if "-" not in kind or kind == "xlm-roberta"} == TINY_TYPES


def _change_of_the_first_token(encoder: LayerwiseEncoder) -> np.ndarray:
    """At each layer, by how much another last token changes the first token's state: alone, and padded."""
    tokens = [encoder.backbone.tokenizer(text)["input_ids"] for text in _PAIR]
    assert tokens[0][:-1] == tokens[1][:-1] and tokens[0][-1] != tokens[1][-1]
    alone = [encoder.encode(text) for text in _PAIR]
    padded = [encoder.encode([text, text * 3])[0] for text in _PAIR]
    changes = [np.abs(two - one).max(axis=1) for one, two in (alone, padded)]
    return np.min(changes, axis=0) if changes[0][-1] else np.max(changes, axis=0)


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("name", _DECODERS)
def test_the_last_token_changes_the_first_ones_state_if_and_only_if_bidirectional(
    tiny_model: Callable[[str], Path], name: str, attention: str | None
) -> None:
    for bidirectional in (False, True):
        encoder = LayerwiseEncoder(tiny_model(name), pooling_mode="cls", bidirectional=bidirectional)
        if attention:
            encoder.backbone.model.set_attn_implementation(attention)
        change = _change_of_the_first_token(encoder)
        assert change[0] == 0
        if bidirectional:
            assert (change[1:] > 1e-3).all()
        else:
            assert (change == 0).all()


@pytest.mark.parametrize("name", _FULL)
def test_states_are_those_of_full_attention(tiny_model: Callable[[str], Path], sentences: list[str], name: str) -> None:
    encoder = LayerwiseEncoder(tiny_model(name), bidirectional=True)
    model = AutoModel.from_pretrained(tiny_model(name), attn_implementation="eager").eval()
    every = encoder.encode(sentences, layers=[-1])  # one batch, padded
    for text, vector in zip(sentences, every, strict=True):
        ids = torch.tensor([encoder.backbone.tokenizer(text)["input_ids"]])
        everything = torch.zeros((1, 1, ids.shape[1], ids.shape[1]))  # added to the scores: nothing is hidden
        positions = torch.arange(ids.shape[1])[None]
        with torch.inference_mode():
            state = model(input_ids=ids, attention_mask=everything, position_ids=positions).last_hidden_state[0]
        np.testing.assert_allclose(vector[0], state.mean(dim=0), atol=1e-5)
        np.testing.assert_allclose(encoder.encode(text, layers=[-1])[0], state.mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("name", _DECODERS)
def test_one_layer_equals_the_all_layers_pass_and_survives_saving(
    tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path, name: str
) -> None:
    every = LayerwiseEncoder(tiny_model(name), bidirectional=True).encode(sentences)
    causal = LayerwiseEncoder(tiny_model(name)).encode(sentences)
    for layer in (0, 2):
        encoder = MidLayerEncoder(tiny_model(name), layer, bidirectional=True)
        vectors = encoder.encode(sentences)
        np.testing.assert_allclose(vectors, every[:, layer], atol=1e-5)
        assert (np.abs(every[:, layer] - causal[:, layer]).max() > 1e-3) == (layer > 0)
        folder = tmp_path / str(layer)
        encoder.save_pretrained(str(folder), create_model_card=False)
        plain = SentenceTransformer(str(folder), device="cpu")
        np.testing.assert_allclose(plain.encode(sentences), vectors, atol=1e-6)
        np.testing.assert_allclose(plain.encode(sentences, batch_size=1), vectors, atol=1e-5)  # no padding


@pytest.mark.usefixtures("forked_stranger")
def test_a_stranger_gets_the_same_vectors_from_what_was_exported(
    llama_folder: Path, sentences: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    assert main(["export", str(llama_folder), str(target), "--layer", "2", "--bidirectional", "--quiet"]) == 0
    assert "layer 2 of 3" in capsys.readouterr().out
    expected = LayerwiseEncoder(llama_folder, bidirectional=True).encode(sentences, layers=[2])[:, 0]
    np.testing.assert_allclose(vectors_of_a_stranger(target, sentences), expected, atol=1e-6)
    assert "made bidirectional" in (target / "README.md").read_text()


@pytest.mark.parametrize("name", [*_RECURRENT, *_ENCODERS])
def test_what_cannot_be_made_bidirectional_or_is_already_is_refused(
    tiny_model: Callable[[str], Path], name: str
) -> None:
    why = "stays causal" if name in _RECURRENT else "is bidirectional already"
    loads: list[Callable[[], object]] = [
        lambda: LayerwiseEncoder(tiny_model(name), bidirectional=True),
        lambda: MidLayerEncoder(tiny_model(name), 2, bidirectional=True),
    ]
    if name != "modernbert":  # whose normed layer 0 has no stock form
        loads.append(lambda: MidLayerEncoder(tiny_model(name), 0, bidirectional=True))
    for load in loads:
        with pytest.raises(ValueError, match=f"bidirectional: this .* model {why}") as error:
            load()
        assert "\n" not in str(error.value)


def test_a_model_that_was_saved_bidirectional_stays_so_and_is_not_made_so_again(
    llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    encoder = MidLayerEncoder(llama_folder, 3, bidirectional=True)
    encoder.save_pretrained(str(tmp_path), create_model_card=False)
    again = MidLayerEncoder(tmp_path, 2)
    expected = MidLayerEncoder(llama_folder, 2, bidirectional=True).encode(sentences)
    np.testing.assert_allclose(again.encode(sentences), expected, atol=1e-6)
    again.save_pretrained(str(tmp_path / "again"), create_model_card=False)
    assert _required_transformers(tmp_path / "again") == ">=5.4"
    with pytest.raises(ValueError, match="bidirectional already"):
        LayerwiseEncoder(tmp_path, bidirectional=True)


def test_attention_that_obeys_only_when_padded_is_not_good_enough(make_model: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="this stablelm model stays causal"):
        LayerwiseEncoder(make_model("stablelm"), bidirectional=True)


def test_a_mixture_of_experts_is_not_misread(make_model: Callable[..., Path]) -> None:
    folder = make_model("qwen2_moe", moe_intermediate_size=16, shared_expert_intermediate_size=16)
    change = _change_of_the_first_token(LayerwiseEncoder(folder, pooling_mode="cls", bidirectional=True))
    assert (change[1:] > 1e-3).all()


def _required_transformers(folder: Path) -> str | None:
    said = json.loads((folder / "config_sentence_transformers.json").read_text())
    found: str | None = said.get("requirements", {}).get("transformers")
    return found


@pytest.mark.parametrize(
    ("name", "layer", "final_norm", "bidirectional", "requirement"),
    [
        ("llama", 2, True, False, None),
        ("llama", 2, True, True, ">=5.4"),
        ("llama", 2, False, False, ">=5.18"),  # the last of the hidden states, which would be the normed one
        ("llama", 2, False, True, ">=5.18"),
        ("llama", 0, True, True, None),  # nothing attends
        ("falcon", 2, False, False, None),  # a block more, so it is not the last one
        ("mamba", 2, False, False, None),
        ("bert", 2, False, False, None),
    ],
)
def test_a_saved_folder_requires_a_transformers_that_gives_the_same_vectors(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    layer: int,
    final_norm: bool,
    bidirectional: bool,
    requirement: str | None,
) -> None:
    encoder = MidLayerEncoder(tiny_model(name), layer, final_norm=final_norm, bidirectional=bidirectional)
    encoder.save_pretrained(str(tmp_path), create_model_card=False)
    assert _required_transformers(tmp_path) == requirement


def test_of_an_architecture_by_structure_only_this_transformers_is_known(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    import transformers

    MidLayerEncoder(make_model("granite"), 2, bidirectional=True).save_pretrained(
        str(tmp_path), create_model_card=False
    )
    assert _required_transformers(tmp_path) == f">={transformers.__version__}"


def test_a_requirement_that_is_not_met_stops_a_stranger(llama_folder: Path, tmp_path: Path) -> None:
    MidLayerEncoder(llama_folder, 2, bidirectional=True).save_pretrained(str(tmp_path), create_model_card=False)
    file = tmp_path / "config_sentence_transformers.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "requirements": {"transformers": ">=99"}}))
    with pytest.raises(ImportError, match="transformers>=99"):
        SentenceTransformer(str(tmp_path), device="cpu")


def test_it_is_another_revision(llama_folder: Path) -> None:
    plain, bidirectional = (
        find_checkpoint(llama_folder, Source(bidirectional=flag)).revision for flag in (False, True)
    )
    assert bidirectional == f"{plain}-bidirectional"


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_it_is_true_or_false(llama_folder: Path, value: object) -> None:
    with pytest.raises(TypeError, match="bidirectional: expected True or False"):
        LayerwiseEncoder(llama_folder, bidirectional=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mamba", "bert"])
def test_on_the_command_line_it_is_one_line_and_exit_2(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    folder, files = str(tiny_model(name)), ["--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "v.npy")]
    for arguments in (["encode", folder, *files], ["export", folder, str(tmp_path / "out")]):
        assert main([*arguments, "--layer", "2", "--bidirectional", "--quiet"]) == 2
        captured = capsys.readouterr()
        assert f"bidirectional: this {name} model" in captured.err
        assert len(captured.err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
