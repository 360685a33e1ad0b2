"""Digests of tensors, columns, pictures and the files of a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frozen.normalise import Normaliser


def tensor(value: Any) -> str:
    """Dtype, shape and digest of the bits of a torch tensor (or numpy array); `None` and numbers as they are."""
    import numpy as np
    import torch

    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    value = value.detach().cpu().resolve_neg().contiguous()
    raw = value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
    shape = ",".join(map(str, value.shape))
    return f"{str(value.dtype).removeprefix('torch.')}[{shape}] {_short(raw)}"


def column(values: list[Any], kind: str) -> str:
    """Kind, length, digest and first values of a column of a table; `None` is null, a float keeps all its bits."""
    exact = [value.hex() if isinstance(value, float) else value for value in values]
    head = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values[:3])
    return f"{kind}[{len(values)}] {_short(json.dumps(exact).encode())} {head}"


def folder(root: Path, normaliser: Normaliser, skip: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """What lies in a folder, as (name, digest or text): tables by column, states by tensor, pictures by their pixels.

    Args:
        root: The folder.
        normaliser: For texts and JSON.
        skip: Names of folders in it to leave out.
    """
    for path in sorted(each for each in root.rglob("*") if each.is_file()):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] not in skip:
            for part, value in _file(path, normaliser):
                yield (f"{name}/{part}" if part else name), value


def _file(path: Path, normaliser: Normaliser) -> Iterator[tuple[str, str]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.ParquetFile(path).read()
        yield "columns", ", ".join(table.column_names)
        for name in table.column_names:
            yield name, column(table[name].to_pylist(), str(table[name].type))
    elif path.suffix == ".safetensors":
        from safetensors.torch import load_file

        yield from ((name, tensor(value)) for name, value in sorted(load_file(path).items()))
    elif path.suffix == ".json":
        yield from normaliser.record(json.loads(path.read_text(encoding="utf-8")))
    elif path.suffix == ".mat":
        yield from _matlab(path)
    elif path.suffix in (".png", ".jpg", ".webp"):
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            yield "", f"{picture.mode} {tensor(np.array(picture))}"
    elif path.suffix == ".html":
        yield "", normaliser.html(path.read_text(encoding="utf-8"))
    elif path.suffix in (".md", ".txt", ".csv"):
        yield "", normaliser.text(path.read_text(encoding="utf-8"))
    else:
        yield "", _short(path.read_bytes())


def _matlab(path: Path) -> Iterator[tuple[str, str]]:
    """The variables of a MATLAB file, without the date that its header holds."""
    import numpy as np

    if path.read_bytes()[:10] == b"MATLAB 5.0":
        from scipy.io import loadmat

        found = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    else:
        import h5py

        with h5py.File(path, "r") as file:
            found = {name: np.asarray(file[name]) for name in file}
    yield from ((name, tensor(value)) for name, value in sorted(found.items()))


def _short(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
