"""A dataset in a folder, laid out as its repository on the Hub: which files are a split, and reading them.

The rules are those of the datasets library: the configurations in README.md, else the names of files and folders. But
only the files that are asked for have to be there, so a folder may hold some of the configurations and splits.
"""

import glob
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.paths import user_path
from midlayer_embed.options import check_model_name

if TYPE_CHECKING:
    import datasets

# Entries of a configuration in README.md that say which files it has, or describe it.
_ABOUT_FILES = ("data_files", "data_dir", "default")


@dataclass(frozen=True)
class DataFiles:
    """The files of some splits of a dataset.

    Attributes:
        folder: Folder of the dataset.
        config: Configuration in README.md; empty if it lists none.
        files: Paths of the files of each split.
    """

    folder: Path
    config: dict[str, Any]
    files: dict[str, list[str]]


def check_datasets() -> None:
    """Reject what needs the datasets library if it is not installed.

    Raises:
        InputError: (a ValueError) the message has the command that installs it.
    """
    if find_spec("datasets") is None:
        raise InputError("dataset: needs datasets; run: pip install 'midlayer-embed[leaderboard]'")


def find_folder(dataset: str, data_dir: str | Path | None) -> Path | None:
    """The folder that a dataset is read from; None for one on the Hub.

    Args:
        dataset: A Hub id; without `data_dir`, or a folder.
        data_dir: A folder with a copy of the dataset's repository at <org>/<name>.

    Raises:
        InputError: (a ValueError) no such folder; the message names it.
    """
    if data_dir is None:
        folder = user_path(dataset, "dataset")
        return folder if folder.is_dir() else None
    root = user_path(data_dir, "data_dir")
    if not root.is_dir():
        raise InputError(f"data_dir: there is no folder {str(data_dir)!r}")
    folder = root / check_model_name("dataset", dataset)
    if not folder.is_dir():
        raise InputError(f"dataset: {dataset} not found: there is no folder {str(folder)!r}")
    return folder


def find_split(folder: Path, config: str | None, split: str) -> DataFiles:
    """Find the files of a split, without reading them.

    Args:
        folder: Folder of the dataset.
        config: Name of a configuration: one that README.md lists or, if it lists none, a folder in the dataset's; None:
            the default one.
        split: Name of a split. As in the datasets library, with a slice ("test[:100]"), or several joined by "+".

    Raises:
        InputError: (a ValueError) no such configuration or split, or none of its files are there; the message says what
            is.
    """
    check_datasets()
    from datasets.data_files import EmptyDatasetError, get_data_patterns, sanitize_patterns

    settings, base, which = _find_config(folder, config)
    listed = settings.get("data_files")
    with _reported(folder):
        try:
            patterns = sanitize_patterns(listed or get_data_patterns(glob.escape(str(base))))
        except EmptyDatasetError:
            patterns = {}
        files = {name: _matches(base, of_split) for name, of_split in patterns.items()}
    present = [name for name, paths in files.items() if paths]
    if not present and not listed:
        raise InputError(f"dataset: the folder {str(base)!r} holds no data")
    asked = [part.partition("[")[0].strip() for part in split.split("+")]
    for name in asked:
        if name not in present:
            why = f": there are no files {' or '.join(patterns[name])}" if listed and name in patterns else ""
            raise InputError(f"split: {which} has no split {name!r}{why}; it has {', '.join(present) or 'none'}")
    return DataFiles(folder, settings, {name: files[name] for name in asked})


def read_split(found: DataFiles, split: str) -> "datasets.Dataset":
    """Read the files of `find_split`.

    Raises:
        InputError: (a ValueError) a file cannot be read, or has no format that the datasets library knows.
    """
    from datasets.data_files import DataFilesDict
    from datasets.load import import_main_class, infer_module_for_data_files
    from datasets.packaged_modules import _MODULE_TO_EXTENSIONS, _PACKAGED_DATASETS_MODULES

    with _reported(found.folder):
        format_, options = infer_module_for_data_files(DataFilesDict(found.files), path=str(found.folder))
        module, module_hash = _PACKAGED_DATASETS_MODULES[format_]
        builder_class = import_main_class(module)
        known = builder_class.BUILDER_CONFIG_CLASS
        said = {key: value for key, value in found.config.items() if key not in _ABOUT_FILES and hasattr(known, key)}
        endings = {*_MODULE_TO_EXTENSIONS[format_]}
        files = {  # escaped, a path is no pattern
            name: [glob.escape(path) for path in paths if endings.intersection(Path(path.lower()).suffixes)]
            for name, paths in found.files.items()
        }
        # `load_dataset` would tell a server that the format was used.
        builder = builder_class(data_files=files, hash=module_hash, **{**options, **said})
        builder.download_and_prepare()
        return builder.as_dataset(split=split)


def _find_config(folder: Path, config: str | None) -> tuple[dict[str, Any], Path, str]:
    """A configuration, the folder that its patterns are relative to, and how to call it."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub.repocard import metadata_load

    readme = folder / "README.md"
    with _reported(readme):
        configs = MetadataConfigs.from_dataset_card_data((metadata_load(readme) if readme.is_file() else None) or {})
    if not configs:
        if config is None or (config == "default" and not (folder / config).is_dir()):
            return {}, folder, repr(str(folder))
        if config not in (path.name for path in folder.iterdir() if path.is_dir()):
            raise InputError(
                f"config: {str(folder)!r} has no configuration {config!r}: neither README.md nor a folder names it"
            )
        return {}, folder / config, repr(str(folder / config))
    name = config if config is not None else configs.get_default_config_name()
    if name not in configs:
        problem = "has several configurations, name one" if name is None else f"has no configuration {name!r}"
        raise InputError(f"config: {str(folder)!r} {problem}; it has {', '.join(configs)}")
    settings = configs[name]
    return settings, folder / (settings.get("data_dir") or ""), f"configuration {name!r} in {str(folder)!r}"


def _matches(base: Path, patterns: Iterable[str]) -> list[str]:
    """The files that match patterns; a pattern of another place, such as a URL, has none here."""
    from datasets.data_files import resolve_pattern
    from datasets.packaged_modules import _ALL_ALLOWED_EXTENSIONS

    found: list[str] = []
    for pattern in patterns:
        if "://" not in pattern and not Path(pattern).is_absolute():
            with suppress(FileNotFoundError):
                found += resolve_pattern(pattern, glob.escape(str(base)), allowed_extensions=_ALL_ALLOWED_EXTENSIONS)
    return list(dict.fromkeys(found))


@contextmanager
def _reported(where: Path) -> Iterator[None]:
    """Convert errors of the datasets library about a folder or file to one-line input errors."""
    from datasets.exceptions import DatasetsError
    from yaml import YAMLError

    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, DatasetsError, YAMLError) as error:
        cause = error.__cause__ if isinstance(error, DatasetsError) else None
        said = first_line(cause if isinstance(cause, Exception) else error)
        raise InputError(f"dataset: {str(where)!r} cannot be read: {said}") from error
