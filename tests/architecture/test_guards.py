"""What the tests' own guards notice."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import tiers
from support.read_only import unchanged

from midlayer_embed import LayerwiseEncoder


@pytest.mark.parametrize("what", ["weights", "hooks", "recipe"])
def test_a_change_of_a_shared_encoder_is_noticed(llama_folder: Path, what: str) -> None:
    noticed = pytest.raises(AssertionError, match=f"what tests share: {what} of")
    with noticed, unchanged(LayerwiseEncoder(llama_folder)) as encoder:
        model = encoder.backbone.model
        if what == "weights":
            with torch.no_grad():
                next(model.parameters()).add_(1)
        elif what == "hooks":
            model.register_forward_hook(lambda *_: None)
        else:
            encoder.recipe = replace(encoder.recipe, final_norm=False)


@pytest.mark.unit
def test_a_unit_test_starts_no_process_and_loads_no_model() -> None:
    from transformers import BertConfig, BertModel

    tiers.watch()  # it watches what is imported, and this may be the first test that imports transformers
    for start in (lambda: subprocess.run([sys.executable, "-c", "pass"]), lambda: BertModel(BertConfig())):
        with pytest.raises(pytest.fail.Exception, match="is of another tier"):
            start()


@pytest.mark.unit
def test_after_a_test_that_skips_or_fails_fixtures_may_load_models(request: pytest.FixtureRequest) -> None:
    for stop in (pytest.skip.Exception, AssertionError):
        with pytest.raises(stop), tiers.within_tier(request.node):
            raise stop("as a test does")
        assert tiers._running == "process"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("path", "fixtures", "tier"),
    [
        ("tests/benchmarks/test_x.py", ["llama_folder"], "process"),
        ("tests/leaderboard/test_x.py", ["llama_folder"], "model"),
        ("tests/leaderboard/test_x.py", ["browser"], "process"),
        ("tests/midlayer_embed/models/test_x.py", [], "model"),
    ],
)
def test_of_the_tiers_of_folder_and_fixtures_the_higher_one_counts(path: str, fixtures: list[str], tier: str) -> None:
    added: list[str] = []
    item = SimpleNamespace(
        nodeid=f"{path}::test_x", fixturenames=fixtures, iter_markers=lambda: iter(()), add_marker=added.append
    )
    tiers.set_tier(item)  # type: ignore[arg-type]
    assert added == [tier]
