"""Every op test runs once per path of memkern.testing: the reference, and each instruction set of the CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import hypothesis
import pytest
import torch

from memkern import testing

PATHS = testing.paths()
hypothesis.settings.register_profile(
    "memkern",
    max_examples=25,
    deadline=None,
    derandomize=True,
    # `path` forces an instruction set; that it stays forced from one example to the next is what the tests want.
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("memkern")


def pytest_report_header() -> list[str]:
    return [f"memkern path {path}: {reason or 'runs'}" for path, reason in PATHS.items()]


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend to name in a call, with the path's instruction set in force."""
    if PATHS[request.param]:
        pytest.skip(PATHS[request.param])
    # The reference is plain torch: on small tensors its threads only wait for each other.
    limit = testing.threads(1) if request.param == "reference" else nullcontext()
    with limit, testing.forced_path(request.param) as backend:
        yield backend


@pytest.fixture(params=testing.DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
