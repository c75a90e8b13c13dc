"""DINOv3's image processor, which transformers has for torchvision alone. It resizes floats; others resize bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from midlayer_embed.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Pillow's numbers of interpolations, by torch's names.
_MODES = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Dinov3Processor:
    """Bytes to floats, resize with antialiasing, normalise: the steps of transformers' processor, in its order.

    Attributes are the entries of preprocessor_config.json.
    """

    height: int = 224
    width: int = 224
    resample: int = 2
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "Dinov3Processor":
        """Read the entries of preprocessor_config.json.

        Raises:
            InputError: (a ValueError) an entry asks for a step that DINOv3's processor does not have here.
        """
        known = {field.name: config[field.name] for field in fields(cls) if config.get(field.name) is not None}
        known |= {name: tuple(known[name]) for name in ("image_mean", "image_std") if name in known}
        size = config.get("size") or {"height": cls.height, "width": cls.width}
        if set(size) != {"height", "width"} or known.get("resample", cls.resample) not in _MODES:
            raise InputError(
                f"model: expected an image processor of DINOv3 with a height and a width, and bilinear or bicubic "
                f"interpolation (resample 2 or 3), got size {size} and resample {known.get('resample')}"
            )
        if config.get("do_center_crop") or config.get("do_pad"):
            raise InputError("model: expected an image processor of DINOv3 that neither crops nor pads")
        return cls(**{**known, **size})

    def to_dict(self) -> dict[str, Any]:
        """The entries, for records."""
        return asdict(self)

    def __call__(self, images: "Sequence[Image.Image]", return_tensors: str = "np") -> dict[str, Any]:
        """Pixel values float32 (b, 3, height, width) of RGB images; numpy whatever is asked for."""
        return {"pixel_values": np.stack([self._values(image) for image in images])}

    def _values(self, image: "Image.Image") -> np.ndarray:
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        values = values * self.rescale_factor if self.do_rescale else values.float()
        if self.do_resize:
            values = torch.nn.functional.interpolate(
                values[None],
                (self.height, self.width),
                mode=_MODES[self.resample],
                align_corners=False,
                antialias=True,
            )[0]
        if self.do_normalize:
            values = (values - torch.tensor(self.image_mean)[:, None, None]) / torch.tensor(self.image_std)[
                :, None, None
            ]
        return values.numpy()
