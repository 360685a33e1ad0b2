"""`py:FILE.py:FUNCTION`: what a function in the user's own file returns."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from memkern._util.text import did_you_mean
from memkern.audit.encoders.kind import EncoderKind
from memkern.errors import ArgumentTypeError, EncoderError


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
        try:
            takes = inspect.signature(build)
            takes.bind(**arguments)
        except TypeError as error:
            near = "".join(did_you_mean(each, takes.parameters) for each in arguments if each not in takes.parameters)
            raise ArgumentTypeError(
                f"Expected arguments that {function} of {file} takes, got {arguments}: {error}{near}"
            ) from error
        except ValueError:  # a function without a signature
            pass
        try:
            return build(**arguments)
        except TypeError as error:  # of the code, not of the arguments
            raise EncoderError(f"Expected {name!r} to build an encoder, got TypeError: {error}") from error


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


def _files(name: str) -> list[Path]:
    """The file of an encoder, and the files beside it that it imports, or they."""
    found = [Path(name.rpartition(":")[0])]
    for file in found:  # grows
        for imported in _imports(file):
            package = file.parent / imported
            beside = [file.parent / f"{imported}.py", *sorted(package.rglob("*.py") if package.is_dir() else ())]
            found += [each for each in beside if each.is_file() and each not in found]
    return found


def _imports(file: Path) -> list[str]:
    """Names of the modules that a file imports, as far as its text says, without their parts."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # said where it is run
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module] if node.module else [alias.name for alias in node.names]
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


KIND = EncoderKind(
    name="py",
    summary="whatever your function returns",
    example="py:FILE.py:FUNCTION",
    package="",
    build=_build,
    files=_files,
)
