"""What tables need of mteb's result files, read without mteb: importing it takes far longer than reading a folder."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class StoredMeta(BaseModel):
    """The description of a model, as mteb's ModelMeta writes it.

    Attributes:
        name: Name of the model, "org/name".
        revision: Its revision.
        experiment_kwargs: The layer, and the settings that are not the default.

    Example:
        >>> StoredMeta.model_validate_json('{"name": "a/b", "revision": "1", "license": null}').experiment_kwargs
    """

    model_config = ConfigDict(frozen=True)

    name: str
    revision: str | None
    experiment_kwargs: dict[str, Any] | None = None

    @field_validator("name")
    @classmethod
    def _has_an_owner(cls, name: str) -> str:
        if "/" not in name:
            raise ValueError("a model's name is expected to be organization/model_name")
        return name


class StoredResult(BaseModel):
    """The scores of one task at one layer, as mteb's TaskResult writes them.

    Attributes:
        task_name: Name of the task.
        dataset_revision: Revision of its dataset.
        mteb_version: The version of mteb that scored it.
        scores: The entries of each split, one per subset.

    Example:
        >>> entry = {"main_score": 0.5, "hf_subset": "default", "languages": ["eng-Latn"]}
        >>> stored = StoredResult(task_name="T", dataset_revision="1", mteb_version="2.26", scores={"test": [entry]})
        >>> stored.scores["test"][0]["main_score"]
        0.5
    """

    model_config = ConfigDict(frozen=True)

    task_name: str
    dataset_revision: str
    mteb_version: str | None
    scores: dict[str, list[dict[str, Any]]]

    @field_validator("scores")
    @classmethod
    def _are_entries(cls, scores: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        for entry in (entry for entries in scores.values() for entry in entries):
            if "main_score" not in entry:
                raise ValueError("an entry of the scores has no main_score")
            for key, kind in (("hf_subset", str), ("languages", list)):
                if not isinstance(entry.get(key), kind):
                    raise ValueError(f"{key} is expected to be a {kind.__name__} in every entry of the scores")
        return scores
