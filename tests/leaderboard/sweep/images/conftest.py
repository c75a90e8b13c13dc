"""A folder of datasets of made-up images, and a tiny image encoder."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def image_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of datasets for `IMAGE_TASKS`. To be read only."""
    from support.vision.image_mirror import write_image_mirror

    root = tmp_path_factory.mktemp("image_mirror")
    write_image_mirror(root)
    return root


@pytest.fixture
def vit_folder(tiny_image_model: Callable[[str], Path]) -> Path:
    """A tiny ViT."""
    return tiny_image_model("vit")
