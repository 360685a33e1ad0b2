"""Conversion of a torchvision v2 ``Compose`` to the fields of a ``ViewSpec``, by names and without an import."""

from __future__ import annotations

from typing import Any, TypeAlias

from memkern.checks import views as checks

Transform: TypeAlias = Any
"""A transform of torchvision, known by the name of its class: its module is never imported here."""
Fields: TypeAlias = dict[str, Any]
"""Fields of a ``ViewSpec`` by name; the spec checks their values."""

_CONVERSIONS = ("ToImage", "ToDtype", "ToTensor", "ToPureTensor", "PILToTensor", "ConvertImageDtype")
_STAGES = {
    "ColorJitter": "jitter",
    "RandomGrayscale": "gray",
    "RandomInvert": "invert",
    "RandomSolarize": "solarize",
    "GaussianBlur": "blur",
}
_FLIPS = {"RandomHorizontalFlip": "flip", "RandomVerticalFlip": "vflip"}


def fields_of(transform: Transform) -> Fields:
    """Finds the fields of the ``ViewSpec`` that does what a ``Compose`` of torchvision does."""
    fields: Fields = {"scale": None}
    order: list[str] = []
    cropped = normalized = False
    for each in _flat(transform):
        name = type(each).__name__
        if not type(each).__module__.startswith("torchvision.transforms"):
            raise checks.unsupported_transform(each, "it is not one of torchvision's")
        if name in _CONVERSIONS:
            continue
        if normalized:
            raise checks.misplaced_transform(name, "it comes after Normalize")
        each, probability = _applied(each)
        name = type(each).__name__
        if name in ("RandomResizedCrop", "Resize"):
            if cropped or order:
                raise checks.misplaced_transform(name, "crop and resize come once and before the color transforms")
            if probability != 1.0:
                raise checks.unsupported_transform(each, "it is applied at random")
            cropped = True
            fields |= _resize(each, name)
        elif name == "Normalize":
            normalized = True
            fields |= {"mean": tuple(each.mean), "std": tuple(each.std)}
        elif name in _FLIPS:
            if _FLIPS[name] in fields:
                raise checks.misplaced_transform(name, "it comes twice")
            fields[_FLIPS[name]] = probability * each.p
        elif name in _STAGES:
            stage = _STAGES[name]
            if stage in order:
                raise checks.misplaced_transform(name, "it comes twice")
            order.append(stage)
            fields |= {stage: probability * getattr(each, "p", 1.0), **_options(each, stage)}
        else:
            raise checks.unsupported_transform(each, "memkern has no such step")
    return fields | {"order": tuple(order)}


def _flat(transform: Transform) -> list[Transform]:
    if type(transform).__name__ in ("Compose", "Sequential"):
        inner = transform.transforms if hasattr(transform, "transforms") else transform
        return [each for child in inner for each in _flat(child)]
    return [transform]


def _applied(each: Transform) -> tuple[Transform, float]:
    """The transform inside a ``RandomApply``, and its probability; any other one, and 1."""
    if type(each).__name__ != "RandomApply":
        return each, 1.0
    inner = list(each.transforms)
    if len(inner) != 1:
        raise checks.unsupported_transform(each, "it applies several transforms together")
    deeper, probability = _applied(inner[0])
    return deeper, probability * float(each.p)


def _resize(each: Transform, name: str) -> Fields:
    interpolation = getattr(each.interpolation, "value", each.interpolation)
    if interpolation not in ("bilinear", 2):
        raise checks.unsupported_transform(each, f"its interpolation is {interpolation!r}, not bilinear")
    if len(each.size) != 2:
        raise checks.unsupported_transform(each, "it resizes the smaller edge; give height and width")
    fields = {"size": tuple(each.size), "antialias": bool(each.antialias)}
    if name == "Resize":
        return fields | {"clean": "resize"}
    return fields | {"scale": tuple(each.scale), "ratio": tuple(each.ratio)}


def _options(each: Transform, stage: str) -> Fields:
    if stage == "jitter":
        return {name: getattr(each, name) for name in ("brightness", "contrast", "saturation", "hue")}
    if stage == "solarize":
        # Thresholds up to 1 are meant for float images, whose values end there.
        return {"threshold": each.threshold * 255 if each.threshold <= 1 else each.threshold}
    if stage == "blur":
        if len(set(each.kernel_size)) != 1:
            raise checks.unsupported_transform(each, "its kernel is not square")
        return {"blur_size": each.kernel_size[0], "sigma": tuple(each.sigma)}
    return {}
