"""What memkern computes in JAX, compiled by XLA for the CPU; tensors are passed without a copy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.harness import Peer

MISSING = "" if importlib.util.find_spec("jax") else "jax is not installed"


def _peer(make: Callable[[Any, Any], Callable[[], Any]], *tensors: Tensor) -> Peer:
    """A peer whose call is made of jax, jax.numpy and the tensors as arrays; skipped without jax."""
    if MISSING:
        return Peer("jax.jit", lambda: None, skip=MISSING)
    import jax

    arrays = [jax.dlpack.from_dlpack(x) for x in tensors]
    formula = jax.jit(make(jax, jax.numpy))
    return Peer("jax.jit", lambda: torch.from_dlpack(formula(*arrays)))


def _alignment(jax: Any, jnp: Any, normalize: bool) -> Callable[[Any], Any]:
    def formula(z: Any) -> Any:
        if normalize:
            z = z / jnp.maximum(jnp.linalg.norm(z, axis=2, keepdims=True), 1e-12)
        views, total = z.shape[1], 0.0
        for i in range(views - 1):
            total += jnp.sqrt(jnp.square(z[:, i : i + 1] - z[:, i + 1 :]).sum(2)).sum(1)
        return total / (views * (views - 1) // 2)

    return formula


def alignment(z: Tensor, normalize: bool) -> Peer:
    """The mean distance over pairs of views, row by row of the pairs, ``[N]``."""
    return _peer(lambda jax, jnp: _alignment(jax, jnp, normalize), z)


def gradient(z: Tensor, normalize: bool) -> Peer:
    """The gradient of its sum over the points, like ``z``."""
    return _peer(lambda jax, jnp: jax.grad(lambda x: _alignment(jax, jnp, normalize)(x).sum()), z)


def unit_means(x: Tensor, dims: list[int]) -> Peer:
    """The mean over some dimensions."""
    return _peer(lambda jax, jnp: lambda a: a.mean(axis=tuple(dims), dtype=jnp.float32), x)


def class_sums(means: Tensor, labels: Tensor, classes: int) -> Peer:
    """Sums over the points of each class, in float32."""
    return _peer(
        lambda jax, jnp: lambda m, label: jax.ops.segment_sum(m, label, num_segments=classes), means, labels.int()
    )
