"""A layer's card as files, and on the Hub together with the encoder it is the card of. What it says is `card`'s."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, get_token, is_offline_mode
from huggingface_hub.constants import EVAL_RESULTS_FOLDER
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from leaderboard.report.card import card_of, eval_results_files
from leaderboard.report.figure_rows import layer_figure
from leaderboard.report.figures import save_figure
from leaderboard.report.layer_record import LayerRecord
from midlayer_embed.encoder.card import NAME_TO_COME
from midlayer_embed.encoder.export import export_encoder
from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.atomic import atomic_file, atomic_folder
from midlayer_embed.models.backbone import find_checkpoint

# Beside the README.md.
SCORES_PICTURE = "scores_by_layer.png"
# What an earlier push may have left that would be read beside, or instead of, what is there now.
_STALE = [f"{EVAL_RESULTS_FOLDER}/*", "*.safetensors", "*.safetensors.index.json"]


class PushFailed(RuntimeError):
    """The Hub was not reached, or refused; the message says why."""


def check_card_target(path: str | Path, *, overwrite: bool) -> None:
    """Refuses what must not be written to, so that the mistake shows before any work is done.

    Raises:
        InputError: (a ValueError) a folder; or where `overwrite` is not set, a file that the card would replace.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"out: {path} is a folder; expected a file such as {path / 'README.md'}")
    there = [str(file) for file in _files_of_a_card(path) if file.exists()]
    if there and not overwrite:
        raise InputError(f"out: {', '.join(there)} is there already; overwrite (--overwrite) replaces it")


def write_card(
    record: LayerRecord,
    path: str | Path,
    *,
    overwrite: bool = False,
    name: str = NAME_TO_COME,
    base: str | None = None,
) -> None:
    """Writes the card, the picture it shows, and the folder `.eval_results` beside it, each whole, the card last.

    Args:
        record: The layer, with its results.
        path: The card's file.
        overwrite: Replace what is there, the whole of `.eval_results` too.
        name: What people load the saved encoder by.
        base: The folder of the base model, where it is no model of the hub and its licence shall be told.

    Raises:
        InputError: (a ValueError) see `check_card_target`.
    """
    check_card_target(path, overwrite=overwrite)
    readme, picture, eval_results = _files_of_a_card(Path(path))
    card = card_of(record, name=name, picture=picture.name, base=base)
    # Nothing takes its place before all is written.
    with atomic_file(readme) as partial, atomic_folder(eval_results, replace=True) as partial_folder:
        partial.write_text(card, encoding="utf-8")
        for file, content in eval_results_files(record):
            (partial_folder / file).write_text(content, encoding="utf-8")
        save_figure(layer_figure(record.board.only(record.model, record.revision), record.layer), picture)
    if not any(eval_results.iterdir()):
        eval_results.rmdir()


def push_layer(
    record: LayerRecord,
    repo: str,
    *,
    model_path: str | Path | None = None,
    adapters: Sequence[str | Path] | None = None,
    device: str | None = None,
) -> str:
    """Saves the layer as `midlayer-embed export` does, puts the card over the one it has, and uploads all of it.

    Args:
        record: The layer, with its results.
        repo: "owner/name" on the Hub; made if need be. Other files that it holds stay, but for weights and scores.
        model_path: The folder of the model that was scored, where it is not to be found by its name.
        adapters: The adapters that were merged into it, likewise.
        device: As in MidLayerEncoder.

    Returns:
        Where the encoder is now.

    Raises:
        InputError: (a ValueError) no name for a repository, no token, or not the model that was scored; nothing is
            uploaded then.
        PushFailed: (a RuntimeError) the Hub was not reached, or refused.
    """
    check_push(repo)
    settings = {**record.origin.settings, **({} if adapters is None else {"adapters": list(adapters)})}
    model = record.origin.loaded_from if model_path is None else str(model_path)
    if model_path is None and record.origin.hub_id is None:
        raise InputError(f"model_path: {record.meta.name} was a folder; expected to be told where it is (--model-path)")
    if model_path is not None:
        settings.pop("revision", None)
    _check_same_model(record, model, settings)
    encoder = MidLayerEncoder(model, record.layer, device=device, **settings)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "encoder"
        export_encoder(encoder, folder)
        base = None if model_path is None else str(model_path)
        write_card(record, folder / "README.md", overwrite=True, name=repo, base=base)
        try:
            api = HfApi()
            url = api.create_repo(repo, exist_ok=True)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"Layer {record.layer} of {record.model}, with its scores",
                delete_patterns=_STALE,
            )
        except Exception as error:  # of several clients, each with errors of its own
            raise PushFailed(f"push: {repo} was not uploaded: {type(error).__name__}: {first_line(error)}") from error
    return str(url)


def check_push(repo: str) -> None:
    """Refuses what cannot be pushed to, before a model is loaded for it.

    Raises:
        InputError: (a ValueError) no name for a repository, offline, or no token.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"push: expected owner/name, got {repo!r}: {first_line(error)}") from error
    if "/" not in repo:
        raise InputError(f"push: expected owner/name, got {repo!r}")
    if is_offline_mode():
        raise InputError("push: the hub is needed, but HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    if get_token() is None:
        raise InputError("push: there is no token of the hub; run hf auth login, or set HF_TOKEN")


def _check_same_model(record: LayerRecord, model: str, settings: dict[str, object]) -> None:
    keys = ("revision", "bidirectional", "adapters")
    checkpoint = find_checkpoint(model, **{key: settings[key] for key in keys if key in settings})  # type: ignore[arg-type]
    if checkpoint.revision != record.revision:
        raise InputError(
            f"model: {model} is not the model that was scored: its revision is {checkpoint.revision}, expected "
            f"{record.revision}"
        )


def _files_of_a_card(readme: Path) -> tuple[Path, Path, Path]:
    return readme, readme.with_name(SCORES_PICTURE), readme.with_name(EVAL_RESULTS_FOLDER)
