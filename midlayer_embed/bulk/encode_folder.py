"""Embeds a folder of images into a file of vectors, for `midlayer-embed encode --images`.

Invalid arguments, and images that cannot be read, are reported before a model is loaded, so heavy imports are inside
functions.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from midlayer_embed import __version__
from midlayer_embed.bulk.appending import append_all, positions_in
from midlayer_embed.bulk.row_files import file_of_rows
from midlayer_embed.bulk.vector_files import UnfinishedVectors, check_target, what_is_kept
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.paths import user_path
from midlayer_embed.ground.progress import progress
from midlayer_embed.images.folders import images_in, row_names
from midlayer_embed.images.pictures import Picture, picture_of
from midlayer_embed.options import fold, takes_options
from midlayer_embed.texts.files import Row

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.forward.images import ImageLayerwiseEncoder
    from midlayer_embed.models.checkpoint import Checkpoint
    from midlayer_embed.options import AnyModelOptions

logger = logging.getLogger(__name__)

# Images between two points at which a run can resume whole; within them it resumes at a batch.
CHUNK_IMAGES = 4096
# The column that names images: that of folders of images in the datasets library.
FILE_NAME = "file_name"
_BAR_AFTER = 2


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, as rows of a file.

    Attributes:
        path: The folder.
        images: Paths of its images, in order.
    """

    path: Path
    images: tuple[Path, ...]
    column: str = FILE_NAME
    columns: tuple[str, ...] = (FILE_NAME,)

    def rows(self) -> Iterator[Row]:
        """A row for each image, with its path inside of the folder."""
        return (Row(name, {FILE_NAME: name}) for name in row_names(self.path, self.images))


def find_images(folder: str | Path) -> ImageFolder:
    """The images of a folder, none of which is read yet.

    Raises:
        InputError: (a ValueError) as `images_in`; or Pillow is not installed.
    """
    check_installed("PIL", "images", extra="vision")
    return ImageFolder(user_path(folder, "images"), tuple(images_in(folder)))


@takes_options()
def encode_folder(
    model: "str | Path | Checkpoint",
    layer: int | float,
    folder: str | Path,
    target: str | Path,
    *,
    normalize: bool = False,
    batch_tokens: int | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> tuple[int, int]:
    """Embed the images of a folder and of the folders in it, a batch of which is in memory at a time.

    A run that was interrupted resumes when it is called again with the same arguments, and the file is then the same,
    byte for byte. With other arguments, or other images, it starts over.

    Args:
        model: A folder or a Hub id of an image encoder, or a checkpoint that has been found already.
        layer: A layer (9, or -1 from the end), or a depth as a float in [0, 1].
        folder: The folder; see `images_in` for which files count, and in which order.
        target: A .npy file (float32 (n, dim), in the order of the images), or a .jsonl or .parquet file (for each
            image its `file_name`, its path inside of the folder, and its `embedding`).
        normalize: Normalise the vectors to length 1.
        batch_tokens: Number of tokens in a forward pass. None: a default for the device.
        overwrite: Replace an existing target, once the new file is complete.
        show_progress: Show a bar with an ETA on stderr.
        **options: The fields of `Recipe` and `Source`, as for ImageLayerwiseEncoder. The vectors are float32 in any
            case.

    Returns:
        (n, dim) of the vectors.

    Raises:
        InputError: (a ValueError) an argument is invalid, images cannot be read, or the output cannot be written.

    Example:
        >>> encode_folder("facebook/dinov2-small", 9, "photos", "vectors.parquet")     # doctest: +SKIP
        (10000, 384)
    """
    found = find_images(folder)
    target = check_target(target, found, overwrite=overwrite)
    weights, recipe = fold(options)

    from midlayer_embed.forward.batching import token_budget
    from midlayer_embed.forward.images import ImageLayerwiseEncoder, image_family
    from midlayer_embed.forward.inputs.images import ImageInputs
    from midlayer_embed.layers import layer_number
    from midlayer_embed.models.checkpoint import find_checkpoint
    from midlayer_embed.models.weights import dtype_name, resolve_device, resolve_dtype

    dtype = dtype_name(weights.dtype)
    device = resolve_device(weights.device)
    token_budget(batch_tokens, device)
    checkpoint = find_checkpoint(model, weights)
    number = layer_number(layer, checkpoint.n_blocks, checkpoint.resolved(recipe).site)
    inputs = ImageInputs(checkpoint, image_family(checkpoint), resolve_dtype(dtype))
    inputs.pooler(str(checkpoint.resolved(recipe).pooling_mode), 1)  # a mode that the model does not have
    processor = inputs.processor

    stamps = [_stamp(path) for path in found.images]
    pictures = read_all(found.images, show_progress=show_progress)
    encoder = ImageLayerwiseEncoder.from_checkpoint(checkpoint, recipe, dtype=weights.dtype, device=device)
    logger.info("%s: %s image%s", found.path, f"{len(pictures):,}", "s" * (len(pictures) > 1))
    packages = ("torch", "transformers", "pillow")
    settings = {
        "input": _digest(row_names(found.path, found.images), pictures),
        "chunks": CHUNK_IMAGES,
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        **asdict(encoder.recipe),
        "layer": number,
        "processor": processor.settings,
        "normalize": normalize,
        "batch_tokens": batch_tokens,
        "device": device.type,
        "dtype": dtype,
        "own_code": weights.trust_remote_code,
        "versions": {"midlayer-embed": __version__, **{name: version(name) for name in packages}},
    }
    rows = file_of_rows(target, found, found.rows)
    if rows is not None:
        for _ in rows.read():  # names that the format cannot hold are reported now
            pass
    with (
        UnfinishedVectors(target, (len(pictures), encoder.dim), settings) as vectors,
        tell_interrupt(lambda: what_is_kept(target)),
    ):
        append_all(
            vectors,
            (pictures[start : start + CHUNK_IMAGES] for start in range(0, len(pictures), CHUNK_IMAGES)),
            _Images(encoder, number, batch_tokens),
            total=len(pictures),
            normalize=normalize,
            show_progress=show_progress,
        )
        for path, stamp in zip(found.images, stamps, strict=True):
            if _stamp(path) != stamp:
                raise InputError(f"images: {path} was changed while the images were read; run the command again")
        vectors.finish(rows)
    return vectors.shape


def read_all(paths: Sequence[Path], argument: str = "images", *, show_progress: bool = False) -> list[Picture]:
    """Pictures of files, all of which are decoded once to see that they can be read.

    Raises:
        InputError: (a ValueError) files that cannot; the message names the first, and says how many there are.
    """

    def read(path: Path) -> Picture | InputError:
        try:
            picture = picture_of(path, argument)
            picture.check()
        except InputError as error:
            return error
        return picture

    pictures: list[Picture] = []
    errors: list[InputError] = []
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        progress(len(paths), "Reading", "img", show_progress, delay=_BAR_AFTER) as bar,
    ):
        try:
            for found in pool.map(read, paths):
                if isinstance(found, InputError):
                    errors.append(found)
                else:
                    pictures.append(found)
                bar.update()
        except BaseException:  # an interrupt does not wait for the images that are left
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if errors:
        raise InputError(f"{errors[0]}; {len(pictures):,} of {len(paths):,} images can be read")
    return pictures


class _Images:
    """Embeds images with one layer."""

    noun, unit = "image", "img"

    def __init__(self, encoder: "ImageLayerwiseEncoder", layer: int, batch_tokens: int | None) -> None:
        self._encoder = encoder
        self._layer = layer
        self._batch_tokens = batch_tokens

    def sizes(self, pictures: Sequence[Picture]) -> np.ndarray:
        return np.ones(len(pictures), np.int64)

    def batches(self, pictures: Sequence[Picture]) -> Iterator[tuple[list[Picture], np.ndarray, np.ndarray]]:
        from midlayer_embed.forward.batching import token_budget
        from midlayer_embed.forward.row_batches import row_batches
        from midlayer_embed.texts.tokens import distinct

        unique, where = distinct(pictures)
        budget = token_budget(self._batch_tokens, self._encoder.backbone.device)
        batches = row_batches(self._encoder.inputs.token_counts(unique), budget)
        for numbers, rows, which in positions_in(batches, where):
            yield [unique[number] for number in numbers], rows, which

    def encode(self, pictures: Sequence[Picture]) -> np.ndarray:
        return self._encoder.encode(pictures, [self._layer], batch_tokens=self._batch_tokens)[:, 0]


def _digest(names: Sequence[str], pictures: Sequence[Picture]) -> str:
    """Hash of all images and their names, in order."""
    lines = (f"{picture.key} {name}\0" for name, picture in zip(names, pictures, strict=True))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:  # it is reported where it is read
        return None
    return stat.st_size, stat.st_mtime_ns
