"""Writes a layer's card to files, and uploads it to the Hub with its encoder. `card` renders the text.

torch and what encodes are imported for an upload only.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, get_token, is_offline_mode
from huggingface_hub.constants import EVAL_RESULTS_FOLDER
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from leaderboard.report.card import render_card
from leaderboard.report.figure_rows import layer_figure
from leaderboard.report.figures import save_figure
from leaderboard.report.hub_scores import eval_results_files
from leaderboard.report.layer_record import LayerRecord
from midlayer_embed.encoder.card import NAME_TO_COME
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.atomic import atomic_file, atomic_folder
from midlayer_embed.ground.paths import target_file, user_path
from midlayer_embed.options import fold

# In the same folder as the README.md.
SCORES_PICTURE = "scores_by_layer.png"
# Files of an earlier push that readers would load in addition to, or instead of, the new ones.
_STALE = [f"{EVAL_RESULTS_FOLDER}/*", "*.safetensors", "*.safetensors.index.json"]


class PushFailed(RuntimeError):
    """The Hub could not be reached or refused the upload; the message gives the reason."""


def check_card_target(path: str | Path, *, overwrite: bool) -> None:
    """Reject targets that cannot be written, before any work is done.

    Raises:
        InputError: (a ValueError) if the path is a folder, or if `overwrite` is False and files would be replaced.
    """
    file = user_path(path, "out")
    if file.is_dir():
        raise InputError(f"out: expected a file such as {Path(path) / 'README.md'}, got the folder {path}")
    path = target_file(path, "out")
    existing = [str(file) for file in _card_files(path) if file.exists()]
    if existing and not overwrite:
        raise InputError(f"out: {', '.join(existing)} already exists; use overwrite (--overwrite) to replace it")


def write_card(
    record: LayerRecord,
    path: str | Path,
    *,
    overwrite: bool = False,
    name: str = NAME_TO_COME,
    base: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
) -> None:
    """Write the card with its picture and the folder `.eval_results`, each moved into place when complete, card last.

    Args:
        record: The layer with its results.
        path: File of the card.
        overwrite: Replace existing files, including the whole folder `.eval_results`.
        name: Name or path that loads the saved encoder.
        base: Folder of a base model that is not on the hub; its card supplies the license.
        license: Licence of the model. None: that of the base model.
        base_model: Hub id of the base model, if a folder was scored.

    Raises:
        InputError: (a ValueError) if the target cannot be written, see `check_card_target`.
    """
    check_card_target(path, overwrite=overwrite)
    readme, picture, eval_results = _card_files(target_file(path, "out"))
    location = None if base is None else str(user_path(base, "model_path"))
    card = render_card(record, name=name, picture=picture.name, base=location, license=license, base_model=base_model)
    # Files are moved into place after all of them are written.
    with atomic_file(readme) as partial, atomic_folder(eval_results, replace=True) as partial_folder:
        partial.write_text(card, encoding="utf-8")
        for file, content in eval_results_files(record):
            (partial_folder / file).write_text(content, encoding="utf-8")
        save_figure(layer_figure(record.board.of_variant(record.variant), record.layer), picture)
    if not any(eval_results.iterdir()):
        eval_results.rmdir()


def push_layer(
    record: LayerRecord,
    repo: str,
    *,
    model_path: str | Path | None = None,
    adapters: Sequence[str | Path] | None = None,
    device: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
) -> str:
    """Export the layer like `midlayer-embed export`, replace its card by the one with scores, and upload the folder.

    Args:
        record: The layer with its results.
        repo: Repository on the Hub, "owner/name"; created if missing. Existing files stay, except weights and scores.
        model_path: Folder of the scored model, if its name does not locate it.
        adapters: Adapters that were merged into the model, if their names do not locate them.
        device: Device of the encoder, see MidLayerEncoder.
        license: Licence of the model, see `write_card`.
        base_model: Hub id of the base model, see `write_card`.

    Returns:
        URL of the encoder.

    Raises:
        InputError: (a ValueError) if the repository name is invalid, there is no token, the model is not the one that
            was scored, or its recipe has a transform, which has to be fitted first. Nothing is uploaded.
        PushFailed: (a RuntimeError) if the Hub cannot be reached or refuses the upload.
    """
    check_push(repo)
    if record.variant.transform is not None:
        raise InputError(
            f"push: the texts that {record.variant.transform} was fitted on are not part of the results; export the "
            "layer with --transform-texts FILE, write its card with --out, and upload the folder"
        )
    if record.origin.modality == "image":
        raise InputError(
            f"push: {record.model} takes images, and only layers of models of texts can be saved; write the card with "
            "--out"
        )
    from midlayer_embed.encoder.export import export_encoder
    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder

    settings = {**record.origin.settings, **({} if adapters is None else {"adapters": list(adapters)})}
    model = record.origin.loaded_from if model_path is None else str(user_path(model_path, "model_path"))
    if model_path is None and record.origin.hub_id is None:
        raise InputError(f"model_path: {record.meta.name} is not on the hub; pass its folder (--model-path)")
    if model_path is not None:
        settings.pop("revision", None)
    _check_same_model(record, model, settings)
    encoder = MidLayerEncoder(model, record.layer, device=device, **settings)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "encoder"
        export_encoder(encoder, folder)
        base = None if model_path is None else str(model_path)
        said = {"base": base, "license": license, "base_model": base_model}
        write_card(record, folder / "README.md", overwrite=True, name=repo, **said)
        try:
            api = HfApi()
            url = api.create_repo(repo, exist_ok=True)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"Layer {record.layer} of {record.model}, with its scores",
                delete_patterns=_STALE,
            )
        except Exception as error:  # several clients are involved, each with its own errors
            raise PushFailed(f"push: {repo} was not uploaded: {type(error).__name__}: {first_line(error)}") from error
    return str(url)


def check_push(repo: str) -> None:
    """Reject repositories that cannot be pushed to, before a model is loaded.

    Raises:
        InputError: (a ValueError) if the name is invalid, offline mode is on, or there is no token.
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
        raise InputError("push: expected a token for the hub, got none; run hf auth login, or set HF_TOKEN")


def _check_same_model(record: LayerRecord, model: str, settings: dict[str, object]) -> None:
    from midlayer_embed.models.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(model, fold(settings)[0])
    if checkpoint.revision != record.revision:
        raise InputError(
            f"model: expected the model that was scored, of revision {record.revision}, got {model} of revision "
            f"{checkpoint.revision}"
        )


def _card_files(readme: Path) -> tuple[Path, Path, Path]:
    return readme, readme.with_name(SCORES_PICTURE), readme.with_name(EVAL_RESULTS_FOLDER)
