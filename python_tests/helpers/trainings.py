"""Made-up trainings, and what an audit would have measured of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import audit_runs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern import ClassMem, UnitMem, families
from memkern.audit.measure.encoder_readings import EncoderReadings
from memkern.audit.measure.tables import Measured
from memkern.audit.run_folder.schema import EncoderPlan

LAYERS = {"conv": 5, "output": 7}
N, L, V = 120, len(LAYERS), 6
U = sum(LAYERS.values())
LABELS = np.arange(N) // 10 % 3
Array = NDArray[Any]


class World:
    """Made-up trainings: alignments `[K, L, N]`, their halves and rows, means of units `[K, N, U]`."""

    def __init__(self, membership: Array, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.membership = membership.astype(np.int8)
        k = membership.shape[1]
        seen = (membership == 1).T[:, None, :]
        own = rng.normal(0.5, 0.05, (1, L, N))
        memorized = 0.2 * (np.arange(N) % 3 == 0) * seen
        level = rng.normal(0, 0.02, (k, L, 1))
        self.alignment = (own + level + rng.normal(0, 0.02, (k, L, N)) - memorized).astype(np.float32)
        noise = rng.normal(0, 0.01, (k, L, N)).astype(np.float32)
        self.halves = np.stack([self.alignment + noise, self.alignment - noise], 1)
        self.rows = (self.alignment[:, -1, :, None] * (V - 1) * rng.uniform(0.9, 1.1, (k, N, V))).astype(np.float32)
        self.means = (rng.random((k, N, U)) + 0.01 * seen.transpose(0, 2, 1)).astype(np.float32)
        self.index = np.arange(N) * 2 + 5  # images were left out: positions have gaps

    def readings(
        self, names: list[str], balanced: Array | None = None, *, views: int = V
    ) -> dict[str, EncoderReadings]:
        found = {}
        for k, name in enumerate(names):
            units, classes = UnitMem(), ClassMem()
            means = torch.from_numpy(self.means[k])
            units.update(means, ids=torch.from_numpy(self.index))
            classes.update(means, torch.from_numpy(LABELS))
            found[name] = EncoderReadings(
                torch.from_numpy(self.alignment[k]),
                torch.from_numpy(self.halves[k]) if views >= 4 else torch.zeros(2, L, 0),
                torch.from_numpy(self.rows[k][:, :views]),
                units.state_dict(),
                classes.state_dict(),
                {} if balanced is None or not balanced.any() else peaks(self.means[k], self.index, balanced),
                torch.zeros(5),
            )
        return found

    @property
    def stack(self) -> Array:
        """`[L, N, K]`."""
        return np.ascontiguousarray(self.alignment.transpose(1, 2, 0))


def peaks(means: Array, index: Array, balanced: Array) -> dict[str, Tensor]:
    chosen = means[balanced]
    peak = chosen.max(0)
    state = {
        "peak": peak,
        "index": index[balanced][chosen.argmax(0)],
        "rest": chosen.astype(np.float64).sum(0) - peak,
        "count": np.array(balanced.sum()),
        "tied": (chosen == peak).sum(0) > 1,
    }
    return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}


def groups(**sizes: int) -> list[str]:
    return [name for name, size in sizes.items() for _ in range(size)]


FOUR = groups(candidate=40, independent=30, extra=50)


def measured(world: World, roles: dict[str, str], **changes: Any) -> Measured:
    layers = tuple(audit_runs.manifest(["a", "b"], LAYERS).layers)
    names = list(roles)
    plan = replace(
        audit_runs.manifest([f"{row}.png" for row in range(N)], LAYERS).plan,
        layers=layers,
        output="output",
        encoders=tuple(
            EncoderPlan(name, role, "", None, name, None, tuple(LAYERS.values()), "") for name, role in roles.items()
        ),
        **{name: changes.pop(name) for name in ("control", "level", "fdr", "seed") if name in changes},
    )
    balanced = None
    if names:
        candidate = (world.membership == [role != "g" for role in roles.values()]).all(1)
        balanced = candidate | (world.membership == [role == "g" for role in roles.values()]).all(1)
    if not any(roles.values()):
        balanced = (world.membership != -1).all(1)
    images = {
        "id": [f"{row}.png" for row in range(N)],
        "index": world.index.tolist(),
        "path": [None] * N,
        "label": LABELS.tolist(),
        "candidate": (candidate if any(roles.values()) else np.zeros(N, bool)).tolist(),
        **{f"member/{name}": world.membership[:, k].tolist() for k, name in enumerate(names)},
    }
    given: dict[str, Any] = {
        "plan": plan,
        "images": images,
        "readings": world.readings(names, balanced),
        "duplicates": (),
        "means_of": None,
    }
    return Measured(**given | changes)


ROLES = {"f1": "f", "f2": "f", "g1": "g", "g2": "g"}


def pair_of_two(**changes: Any) -> tuple[World, Measured]:
    world = World(families.membership_of_groups(FOUR, n_f=2, n_g=2))
    return world, measured(world, ROLES, **changes)


def pair(sizes: dict[str, int], **changes: Any) -> tuple[World, Measured]:
    world = World(families.membership_of_groups(groups(**sizes)))
    return world, measured(world, {"f": "f", "g": "g"}, **changes)


def varying(k: int = 6, **changes: Any) -> tuple[World, Measured]:
    rng = np.random.default_rng(7)
    membership = rng.permuted(np.tile([1] * (k // 2) + [0] * (k - k // 2), (N, 1)), axis=1)
    membership[:5] = 1  # in every encoder: not scored
    membership[5, 0] = -1
    world = World(membership)
    return world, measured(world, {f"e{number}": "" for number in range(k)}, **changes)
