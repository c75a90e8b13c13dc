"""Result files, read without mteb: the same as by mteb."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from leaderboard.results.files.folder import ResultsFolder
from leaderboard.results.files.stored import StoredMeta, StoredResult
from leaderboard.results.scores import score_of

_GOLDEN = Path(__file__).parents[3] / "golden" / "results"


def test_what_is_read_without_mteb_is_what_mteb_reads() -> None:
    folder = ResultsFolder(_GOLDEN)
    ours, mtebs = list(folder.stored()), list(folder.results())
    assert len(ours) == len(mtebs) > 0
    for (meta, result), (mteb_meta, mteb_result) in zip(ours, mtebs, strict=True):
        for name in ("name", "revision", "experiment_kwargs"):
            assert getattr(meta, name) == getattr(mteb_meta, name)
        for name in ("task_name", "dataset_revision", "mteb_version", "scores"):
            assert getattr(result, name) == getattr(mteb_result, name)
        assert score_of(result) == score_of(mteb_result) == mteb_result.get_score()


_ENTRY = {"main_score": 0.5, "hf_subset": "default", "languages": ["eng-Latn"], "cosine_spearman": 0.25}


def _result(*entries: dict[str, object]) -> StoredResult:
    return StoredResult.model_validate(
        {"task_name": "T", "dataset_revision": "1", "mteb_version": "2.26", "scores": {"test": list(entries)}}
    )


def test_a_score_over_several_subsets_is_their_mean() -> None:
    result = _result(_ENTRY, {**_ENTRY, "main_score": 0.1, "hf_subset": "de"})
    assert score_of(result) == pytest.approx(0.3)
    assert score_of(result, "cosine_spearman") == 0.25
    assert score_of(_result(_ENTRY, {**_ENTRY, "main_score": float("nan")})) is None


@pytest.mark.parametrize("change", [{"main_score": ...}, {"hf_subset": 3}, {"languages": "eng"}, {"languages": ...}])
def test_an_entry_that_mteb_did_not_write_is_refused(change: dict[str, object]) -> None:
    entry = {key: value for key, value in {**_ENTRY, **change}.items() if value is not ...}
    with pytest.raises(ValidationError):
        _result(entry)


def test_a_model_without_an_owner_is_refused() -> None:
    with pytest.raises(ValidationError, match="organization/model_name"):
        StoredMeta(name="mine", revision="1")
