"""The augmentation sets of the papers and of common self-supervised recipes, by name.

The paper sets crop first, as the released code does, and normalize with 0.5: the papers disagree about the statistics
(``dataclasses.replace(PRESETS[name], mean=..., std=...)`` changes them).
"""

from __future__ import annotations

from types import MappingProxyType

from memkern.checks import views as checks
from memkern.transforms.convert import Fields
from memkern.transforms.spec import ViewSpec

_IMAGENET: Fields = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CIFAR: Fields = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
_STRONG_JITTER: Fields = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
_WEAK_JITTER: Fields = {"brightness": 0.9, "contrast": 0.9, "saturation": 0.9, "hue": 0.5}
_MILD_JITTER: Fields = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
# BYOL (arXiv 2006.07733, Table 6); DINO and VICReg took it over.
_BYOL: Fields = {"size": 224, "flip": 0.5, "jitter": 0.8, **_MILD_JITTER, "gray": 0.2, **_IMAGENET}

PRESETS = MappingProxyType(
    {
        # arXiv 2409.19069, appendix B
        "weak": ViewSpec(jitter=0.4, **_WEAK_JITTER, flip=0.5, gray=0.1),
        "normal": ViewSpec(jitter=0.8, **_STRONG_JITTER, flip=1.0, gray=0.2),
        "strong": ViewSpec(jitter=0.9, **_STRONG_JITTER, flip=1.0, vflip=1.0, gray=0.5),
        # a blur of 4 x 4 taps in the paper, which no library has: 5 here
        "independent": ViewSpec(blur=0.8, blur_size=5, sigma=(0.1, 5.0), invert=0.2, vflip=1.0),
        "masking": ViewSpec(scale=None, mask=0.75, patch=4),
        # the scripts released with both papers
        "script-scores": ViewSpec(flip=0.5, jitter=0.8, **_STRONG_JITTER, gray=0.2),
        "script-unitmem": ViewSpec(
            flip=0.25, jitter=0.9, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.1, gray=0.1
        ),
        "script-supervised": ViewSpec(
            flip=0.25, jitter=0.4, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.1, gray=0.1
        ),
        "script-simclr": ViewSpec(
            flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray=0.2, **_CIFAR
        ),
        "script-vicreg": ViewSpec(**{**_BYOL, "jitter": 1.0}, scale=(0.08, 0.1), blur=0.5, blur_size=23, solarize=0.1),
        # SimCLR (arXiv 2002.05709) without blur, as it is used at 32 pixels; with blur for ImageNet
        "simclr": ViewSpec(flip=0.5, jitter=0.8, **_STRONG_JITTER, gray=0.2),
        "simclr-imagenet": ViewSpec(
            size=224, flip=0.5, jitter=0.8, **_STRONG_JITTER, gray=0.2, blur=0.5, blur_size=23, **_IMAGENET
        ),
        "byol-1": ViewSpec(**_BYOL, blur=1.0),
        "byol-2": ViewSpec(**_BYOL, blur=0.1, solarize=0.2),
        # DINO (arXiv 2104.14294): two global views and several local ones
        "dino-global-1": ViewSpec(**_BYOL, scale=(0.4, 1.0), blur=1.0),
        "dino-global-2": ViewSpec(**_BYOL, scale=(0.4, 1.0), blur=0.1, solarize=0.2),
        "dino-local": ViewSpec(**{**_BYOL, "size": 96}, scale=(0.05, 0.4), blur=0.5),
        # VICReg (arXiv 2105.04906), appendix C
        "vicreg": ViewSpec(**_BYOL, blur=0.5, solarize=0.1),
    }
)


def named(transform: str | ViewSpec) -> ViewSpec:
    """Finds the spec of a transform.

    Args:
        transform: A ``ViewSpec``, or the name of a preset.

    Returns:
        The spec itself, or the preset of that name.

    Raises:
        TypeError: If ``transform`` is neither a name nor a ``ViewSpec``.
        ValueError: If there is no such preset; the message lists them.
    """
    if isinstance(transform, ViewSpec):
        return transform
    if not isinstance(transform, str):
        raise checks.no_transform(transform)
    checks.one_of(transform, "transform", tuple(PRESETS))
    return PRESETS[transform]
