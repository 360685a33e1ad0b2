"""Readers: a folder, a list of files, HDF5, parquet, numpy, a Hugging Face data set on disk, a torchvision data set."""

from __future__ import annotations

import inspect
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.audit.data.source import Source, file_digest, from_arrays, list_digest, unrepeated, with_labels
from memkern.audit.encoders.spec import parse
from memkern.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
IMAGE_KEYS = ("images", "image", "x", "data", "img", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "targets", "fine_label", "arr_1")


def open_source(text: str) -> Source:
    """Opens images by name.

    Args:
        text: A folder (any nesting; sub-folders are classes); a text file with one path a line; a `.h5`, `.hdf5`,
            `.parquet`, `.npy` or `.npz` file, with `?images=KEY&labels=KEY`; a folder that `datasets` saved;
            `torchvision:NAME?root=DIR&…`.

    Returns:
        The source.

    Raises:
        DataError: If there is nothing of the kind.
        ImportError: If a package is missing.
    """
    spec = parse(text, ("torchvision",))
    if spec.prefix == "torchvision":
        return _torchvision(text, spec.name, spec.arguments)
    path = Path(spec.name)
    if path.is_dir():
        if (path / "dataset_info.json").is_file() or (path / "state.json").is_file():
            return _hugging_face(text, path, spec.arguments)
        return _folder(text, path)
    if not path.is_file():
        raise DataError(f"Expected --data to be a folder, a file or torchvision:NAME, got {spec.name!r}; no such file")
    readers: dict[str, Callable[[str, Path, dict[str, Any]], Source]] = {
        ".h5": _hdf5,
        ".hdf5": _hdf5,
        ".parquet": _parquet,
        ".npy": _numpy,
        ".npz": _numpy,
        ".txt": _list,
        ".lst": _list,
        ".csv": _list,
    }
    if path.suffix not in readers:
        raise DataError(f"Expected --data to end in {', '.join(readers)} or to be a folder, got {spec.name!r}")
    return readers[path.suffix](text, path, spec.arguments)


def decoded(file: Any) -> Tensor:
    """Decodes an image file, or the bytes of one, to `[3, H, W]` uint8; fully, so that a truncated one is an error."""
    image_module = require("PIL.Image", "pillow")
    with image_module.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
        if picture.mode.startswith("I;16"):  # Pillow would clip 16 bits instead of scaling them
            gray = torch.from_numpy((np.asarray(picture) >> 8).astype(np.uint8))
            return gray.expand(3, *gray.shape)
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _from_files(name: str, ids: Sequence[str], paths: Sequence[Path]) -> Source:
    keep, again = unrepeated([str(path.resolve()) for path in paths])
    ids, paths = [ids[row] for row in keep], [paths[row] for row in keep]
    sizes = [path.stat().st_size if path.exists() else -1 for path in paths]
    return Source(
        name,
        tuple(ids),
        lambda position: decoded(paths[position]),
        list_digest([f"{each}\t{size}" for each, size in zip(ids, sizes, strict=True)]),
        paths=tuple(str(path) for path in paths),
        repeated=again,
    )


def _folder(name: str, root: Path) -> Source:
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"Expected images under {root}, got none with the endings {', '.join(sorted(SUFFIXES))}")
    relative = [path.relative_to(root) for path in files]
    source = _from_files(name, [path.as_posix() for path in relative], files)
    tops = [Path(each).parts[0] for each in source.ids if "/" in each]
    if len(tops) == len(source) and len(set(tops)) > 1:
        return with_labels(source, tops, None)
    return source


def _list(name: str, path: Path, arguments: dict[str, Any]) -> Source:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"Expected one image file a line in {path}, got none")
    columns = [line.rpartition("\t" if "\t" in line else ",") for line in lines]
    labeled = all(left and not Path(label).suffix for left, _, label in columns)
    files = [left if labeled else line for (left, _, _), line in zip(columns, lines, strict=True)]
    # A relative path starts from the list's folder, wherever the command is run.
    paths = [Path(file) if Path(file).is_absolute() else path.parent / file for file in files]
    missing = [file for file, where in zip(files, paths, strict=True) if not where.is_file()]
    if missing:
        raise DataError(f"Expected the files of {path} to exist; {len(missing)} do not, the first: {missing[0]!r}")
    source = _from_files(name, files, paths)
    if not labeled:
        return source
    label_of = {file: label.strip() for file, (_, _, label) in zip(files, columns, strict=True)}
    values = [label_of[each] for each in source.ids]
    whole = all(value.isdigit() for value in values)
    return with_labels(source, [int(value) for value in values] if whole else values, None)


def _key(keys: Sequence[str], wanted: Any, usual: Sequence[str], what: str, path: Path, *, needed: bool) -> str | None:
    """The key that holds the images or labels: as asked for, else the first usual one, else (images) the only one."""
    if wanted is not None:
        if wanted not in keys:
            raise DataError(f"Expected {path} to have {what} under {wanted!r}; it has {', '.join(keys)}")
        return str(wanted)
    found = next((key for key in usual if key in keys), None)
    if found is None and needed:
        if len(keys) == 1:
            return keys[0]
        raise DataError(f"Expected {path} to have {what} under one of {', '.join(usual)}, got {', '.join(keys)}; "
                        f"name it: {path}?{what}=KEY")  # fmt: skip
    return found


def _numpy(name: str, path: Path, arguments: dict[str, Any]) -> Source:
    labels = None
    if path.suffix == ".npy":
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    else:
        arrays = np.load(path, allow_pickle=False)
        image_key = _key(arrays.files, arguments.get("images"), IMAGE_KEYS, "images", path, needed=True)
        label_key = _key(arrays.files, arguments.get("labels"), LABEL_KEYS, "labels", path, needed=False)
        images, labels = arrays[str(image_key)], arrays[label_key] if label_key else None
    source = from_arrays(images, name=name)
    source = replace(source, digest=file_digest(path))
    return source if labels is None else with_labels(source, [int(label) for label in np.ravel(labels)], None)


def _hdf5(name: str, path: Path, arguments: dict[str, Any]) -> Source:
    h5py = require("h5py", "h5py", extra="")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"Expected {path} to be an HDF5 file, got: {error}") from error
    keys: list[str] = []
    file.visititems(lambda key, value: keys.append(key) if isinstance(value, h5py.Dataset) else None)
    image_key = _key(keys, arguments.get("images"), IMAGE_KEYS, "images", path, needed=True)
    label_key = _key(keys, arguments.get("labels"), LABEL_KEYS, "labels", path, needed=False)
    source = replace(from_arrays(file[image_key], name=name), digest=file_digest(path))
    if label_key is None:
        return source
    return with_labels(source, [int(label) for label in np.ravel(file[label_key][()])], None)


def _parquet(name: str, path: Path, arguments: dict[str, Any]) -> Source:
    parquet = require("pyarrow.parquet", "pyarrow")
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:
        raise DataError(f"Expected {path} to be a parquet file, got: {error}") from error
    keys = file.schema_arrow.names
    image_key = str(_key(keys, arguments.get("images"), IMAGE_KEYS, "images", path, needed=True))
    label_key = _key(keys, arguments.get("labels"), LABEL_KEYS, "labels", path, needed=False)
    starts = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
    groups: OrderedDict[int, Any] = OrderedDict()
    lock = threading.Lock()

    def load(position: int) -> Tensor:
        group = int(np.searchsorted(starts, position, side="right")) - 1
        with lock:
            if group not in groups:
                groups[group] = file.read_row_group(group, columns=[image_key]).column(0)
                while len(groups) > 2:  # neighbors only: memory does not grow with the file
                    groups.popitem(last=False)
            value = groups[group][position - int(starts[group])].as_py()
        return decoded(value["bytes"] if isinstance(value, dict) else value)

    count = int(starts[-1])
    source = Source(name, tuple(str(i) for i in range(count)), load, file_digest(path))
    if label_key is None:
        return source
    return with_labels(source, file.read(columns=[label_key]).column(0).to_pylist(), None)


def _hugging_face(name: str, path: Path, arguments: dict[str, Any]) -> Source:
    datasets = require("datasets", "datasets", extra="")
    data = datasets.load_from_disk(str(path))
    if not hasattr(data, "features"):
        raise DataError(
            f"Expected one split of a data set in {path}, got {', '.join(data)}: name one, {path}/{next(iter(data))}"
        )
    image_kind, label_kind = datasets.Image, datasets.ClassLabel
    image_key = next((key for key, kind in data.features.items() if isinstance(kind, image_kind)), None)
    image_key = arguments.get("images", image_key)
    if image_key not in data.features:
        raise DataError(
            f"Expected {path} to have a column of images, got {', '.join(data.features)}; name it: ?images=KEY"
        )
    lock = threading.Lock()

    def load(position: int) -> Tensor:
        with lock:  # one Arrow reader
            value = raw[position][image_key]
        return decoded(value["bytes"] if value.get("bytes") is not None else value["path"])

    raw = data.cast_column(image_key, image_kind(decode=False))
    info = json.dumps(getattr(data, "_fingerprint", len(data)))
    source = Source(name, tuple(str(i) for i in range(len(data))), load, list_digest([info, len(data)]))
    label_key = next((key for key, kind in data.features.items() if isinstance(kind, label_kind)), None)
    label_key = _key(list(data.features), arguments.get("labels", label_key), LABEL_KEYS, "labels", path, needed=False)
    if label_key is None:
        return source
    names = getattr(data.features[label_key], "names", None)
    return with_labels(source, list(data[label_key]), names)


def _torchvision(text: str, name: str, arguments: dict[str, Any]) -> Source:
    module = require("torchvision.datasets", "torchvision", extra="")
    kind = getattr(module, name, None)
    if not inspect.isclass(kind):
        raise DataError(f"Expected a data set of torchvision.datasets, got {name!r}")
    try:
        data: Any = kind(**arguments)  # none of them downloads unless asked to
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise DataError(f"Expected torchvision's {name} at hand, got: {' '.join(str(error).split())[:300]}") from error
    lock = threading.Lock()

    def load(position: int) -> Tensor:
        with lock:
            picture = data[position][0]
        if isinstance(picture, Tensor):
            return picture
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    shown = {key: value for key, value in arguments.items() if key != "root"}
    source = Source(text, tuple(str(i) for i in range(len(data))), load, list_digest([name, shown, len(data)]))
    labels = getattr(data, "targets", getattr(data, "labels", None))
    if labels is None or len(labels) != len(data):
        return source
    return with_labels(source, [int(label) for label in labels], getattr(data, "classes", None))
