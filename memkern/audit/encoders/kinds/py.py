"""`py:FILE.py:FUNCTION`: what a function in the user's own file returns."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from memkern.audit.encoders.kind import EncoderKind
from memkern.errors import EncoderError


def _build(name: str, arguments: Mapping[str, object]) -> nn.Module:
    path, _, function = name.rpartition(":")
    file = Path(path)
    if not path or not file.is_file():
        raise EncoderError(f"Expected py:FILE.py:FUNCTION with a file that exists, got {name!r}")
    module_name = f"memkern_encoder_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling look a class up in its module
    with _beside(file.resolve().parent):
        spec.loader.exec_module(module)
        build: Callable[..., nn.Module] | None = getattr(module, function, None)
        if not callable(build):
            public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise EncoderError(f"Expected {file} to define {function!r}; it defines {', '.join(public) or 'nothing'}")
        return build(**arguments)


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Lets a file import its neighbors inside the block, as `python FILE.py` does.

    The neighbors are forgotten afterwards: the file of another encoder may have neighbors of the same names.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin is not None and folder in Path(origin).resolve().parents and not name.startswith("memkern"):
                del sys.modules[name]


def _file(name: str) -> Path:
    return Path(name.rpartition(":")[0])


KIND = EncoderKind(
    name="py",
    summary="whatever your function returns",
    example="py:FILE.py:FUNCTION",
    package="",
    build=_build,
    file=_file,
)
