"""``ViewSpec``: what a random view does to an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memkern.checks import views as checks
from memkern.transforms.convert import fields_of

Range = tuple[float, float]
STAGES = ("jitter", "gray", "blur", "solarize", "invert")
"""The stages after crop and flips, in their default order."""


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """Specification of a random view: what it does to an image, with torchvision v2's meaning and ranges.

    A view is: a random crop, resized; flips; then the stages of ``order``, each with its own probability; then
    ``(x - mean) / std``. uint8 images are rounded to uint8 after every step, as torchvision does.

    Args:
        size: Height and width of a view, or one number for both; None: those of the image.
        scale: Smallest and largest share of the image's area that the crop covers (``RandomResizedCrop``); None: no
            random crop, the clean box.
        ratio: Smallest and largest aspect ratio, width / height, of the crop.
        antialias: Whether shrinking averages over all pixels it covers.
        flip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        jitter: Probability of the four color steps, which come in random order (``ColorJitter``).
        brightness: Range of the factor, or its largest change from 1; None or 0: left out.
        contrast: The same for the distance to the mean gray.
        saturation: The same for the distance to each pixel's gray.
        hue: Range of the turn, as a share of the full circle, within [-0.5, 0.5], or its largest size.
        gray: Probability of dropping the color.
        invert: Probability of inverting.
        solarize: Probability of inverting all values from ``threshold`` on.
        threshold: For ``solarize``, of 255.
        blur: Probability of a Gaussian blur.
        blur_size: Its number of taps, odd.
        sigma: Range of its standard deviation, pixels.
        order: The stages, each at most once; one that is not named does not happen.
        mask: Share of the patches that are set to the mean color, the masking of masked autoencoders.
        patch: Edge of a patch, pixels.
        mean: Mean of each channel, of 1; one number for all channels, or three.
        std: Standard deviation of each channel, of 1.
        clean: The box of the clean view: "center", the largest box in the middle with the aspect ratio of a view, or
            "resize", the whole image.

    Raises:
        TypeError: If a field is of another kind.
        ValueError: If a probability, range or option is out of bounds; the message names the field.

    Example:
        >>> import memkern
        >>> spec = memkern.ViewSpec(size=32, scale=(0.2, 1.0), flip=0.5, jitter=0.8, brightness=0.4, gray=0.2)
        >>> spec.brightness
        (0.6, 1.4)
    """

    size: int | tuple[int, int] | None = None
    scale: Range | None = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    antialias: bool = True
    flip: float = 0.0
    vflip: float = 0.0
    jitter: float = 0.0
    brightness: float | Range | None = None
    contrast: float | Range | None = None
    saturation: float | Range | None = None
    hue: float | Range | None = None
    gray: float = 0.0
    invert: float = 0.0
    solarize: float = 0.0
    threshold: float = 128.0
    blur: float = 0.0
    blur_size: int = 23
    sigma: Range = (0.1, 2.0)
    order: tuple[str, ...] = STAGES
    mask: float = 0.0
    patch: int = 4
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    clean: str = "center"

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)  # the dataclass is frozen from here on

        if self.size is not None:
            put("size", checks.height_width(self.size, "size"))
        for name in ("flip", "vflip", "jitter", "gray", "invert", "solarize", "blur", "mask"):
            put(name, checks.bounded(getattr(self, name), name, 0.0, 1.0))
        if self.scale is not None:
            put("scale", checks.number_range(self.scale, "scale", 0.0, 1.0, above=True))
        put("ratio", checks.number_range(self.ratio, "ratio", 1 / checks.LARGEST, checks.LARGEST))
        for name in ("brightness", "contrast", "saturation"):
            put(name, checks.factor_range(getattr(self, name), name, 1.0, 0.0, checks.LARGEST))
        put("hue", checks.factor_range(self.hue, "hue", 0.0, -0.5, 0.5))
        put("sigma", checks.number_range(self.sigma, "sigma", 1 / checks.LARGEST, checks.LARGEST))
        put("threshold", checks.bounded(self.threshold, "threshold", 0.0, 255.0))
        checks.odd(self.blur_size, "blur_size")
        checks.positive(self.patch, "patch")
        put("order", checks.stages(self.order, "order", STAGES))
        put("mean", checks.per_channel(self.mean, "mean", -checks.LARGEST, checks.LARGEST))
        put("std", checks.per_channel(self.std, "std", 1 / checks.LARGEST, checks.LARGEST))
        checks.one_of(self.clean, "clean", ("center", "resize"))

    @classmethod
    def from_torchvision(cls, transform: Callable[..., object]) -> ViewSpec:
        """Builds the spec of a torchvision v2 ``Compose`` (or of one transform).

        Supported: ``RandomResizedCrop`` and ``Resize`` to a height and width (bilinear), ``RandomHorizontalFlip``,
        ``RandomVerticalFlip``, ``ColorJitter``, ``RandomGrayscale``, ``RandomInvert``, ``RandomSolarize``,
        ``GaussianBlur``, ``RandomApply`` of one of them, ``Normalize``, and the conversions ``ToImage`` and
        ``ToDtype(float32, scale=True)``. Crop and resize come first, ``Normalize`` last.

        Args:
            transform: The ``Compose``.

        Returns:
            The spec. Colors are computed in the dtype of the images, of uint8 images as by a ``Compose`` that converts
            to float32 after the color transforms, of float32 images as by one that converts before.

        Raises:
            TypeError: If a transform is not supported; the message names it.
            ValueError: If a transform comes in an order or with options that are not supported.
        """
        return cls(**fields_of(transform))
