"""Registered ops called directly, and arrays that are no ordinary tensors: sentences, never a crash."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import memkern
import memkern.ops.pointwise_stats

KINDS = {
    "numpy.ma": lambda: np.ma.masked_array(np.ones((4, 3, 5), "float32"), mask=np.zeros((4, 3, 5), bool)),
    "masked": lambda: torch.masked.masked_tensor(torch.ones(4, 3, 5), torch.ones(4, 3, 5, dtype=torch.bool)),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(3, 5), torch.ones(2, 5)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(3, 5), torch.ones(2, 5)], layout=torch.jagged),
    "sparse": lambda: torch.ones(4, 3, 5).to_sparse(),
    "csr": lambda: torch.ones(4, 3, 5).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(4, 3, 5), 0.1, 0, torch.quint8),
}
FUNCTIONS = {
    "alignment": (memkern.alignment, "z"),
    "alignment_loss": (memkern.alignment_loss, "z"),
    "alignment_stats": (memkern.alignment_stats, "z"),
    "sslmem": (lambda z: memkern.sslmem(z, torch.ones(4, 3, 5)), "z_f"),
    "layermem": (lambda z: memkern.layermem(torch.ones(4, 3, 5), z), "z_g"),
    "unitmem": (memkern.unitmem, "activations"),
    "classmem": (lambda x: memkern.classmem(x, [0, 1, 0, 1]), "activations"),
    "layer_stats": (memkern.layer_stats, "activations"),
    "unit_means": (memkern.unit_means, "activations"),
    "UnitMem": (lambda x: memkern.UnitMem().update(x), "batch|activations"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_that_are_no_dense_tensors_are_refused_by_name(name, kind):
    function, argument = FUNCTIONS[name]
    with pytest.raises(memkern.MemkernError, match=f"^Expected `({argument})"):
        function(KINDS[kind]())


def test_masked_ids_and_labels_are_refused():
    masked = np.ma.masked_array([0, 1, 0, 1], mask=[True, False, False, False])
    with pytest.raises(TypeError, match="`labels` without a mask"):
        memkern.classmem(torch.ones(4, 3), masked)
    with pytest.raises(TypeError, match="`ids` without a mask"):
        memkern.UnitMem().update(torch.ones(4, 3), ids=masked)


def test_zeros_without_memory_are_zeros():
    z = torch._efficientzerotensor((4, 3, 5))
    assert memkern.alignment(z).tolist() == [0] * 4
    assert memkern.unitmem(z).tolist() == [0] * 3
    assert memkern.layer_stats(z).unit_means.shape == (4, 5)


FUZZ = """
import random, sys, torch, memkern
import memkern.ops.pointwise_stats
ops, generator = torch.ops.memkern, random.Random(int(sys.argv[1]))
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]
def tensor(dtype=None):
    shape = [generator.choice([0, 1, 2, 3, 5]) for _ in range(generator.randrange(5))]
    x = (torch.rand(shape) * 8 - 2).to(dtype or generator.choice(DTYPES))
    kind = generator.randrange(8)
    if kind == 0 and x.dim() > 1:
        x = x.transpose(0, -1)
    elif kind == 1:
        x = x.to("meta")
    elif kind == 2 and x.dim() == 2:
        x = x.to_sparse()
    elif kind == 3:
        x = x.expand(3, *shape)
    return x
def argument(kind):
    pick = generator.choice
    return {
        "Tensor": tensor, "Optional[Tensor]": lambda: pick([None, tensor()]), "bool": lambda: pick([True, False]),
        "int": lambda: pick([-2**62, -3, -1, 0, 1, 2, 3, 4, 9, 2**20]), "SymInt": lambda: pick([-5, 0, 1, 3]),
        "str": lambda: pick(["auto", "cpu", "reference", "raw", "relu", "l2", "cosine", "", "x"]),
        "List[str]": lambda: [pick(["relu", "gelu", "batch_norm", "x"]) for _ in range(generator.randrange(4))],
        "List[Optional[Tensor]]": lambda: [pick([None, tensor()]) for _ in range(generator.randrange(9))],
        "List[Tensor]": lambda: [tensor() for _ in range(generator.randrange(4))],
        "List[float]": lambda: [0.5] * generator.randrange(4),
        "ScalarType": lambda: pick(DTYPES),
    }[kind]()
counts = {}
for name in sys.argv[3:]:
    op = getattr(ops, name).default
    kinds = [str(each.type) for each in op._schema.arguments]
    for _ in range(int(sys.argv[2])):
        arguments = [argument(kind) for kind in kinds]
        try:
            op(*arguments)
            counts[name] = counts.get(name, 0) + 1
        except (memkern.MemkernError, TypeError, ValueError, RuntimeError, IndexError, NotImplementedError) as error:
            counts["refused"] = counts.get("refused", 0) + 1
print(counts)
"""


def registered_ops():
    names = (each.partition("::")[2] for each in torch._C._dispatch_get_all_op_names() if each.startswith("memkern::"))
    return sorted(names)


def test_ops_called_with_anything_never_crash():
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FUZZ, "0", "300", *registered_ops()],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "refused" in found.stdout


Z, OPS = torch.ones(4, 3, 5), torch.ops.memkern
VIEWS = (
    [torch.ones(1, 3, 4, 4)], torch.tensor([0.0, 0, 4, 4, *[0.0] * 18]).expand(1, 2, -1), None, 4, 4, 1, 1, True, 0,
    [0.0] * 3, [1.0] * 3,
)  # fmt: skip
RIGHT = {
    "alignment": (Z, False, True, False, "auto"),
    "alignment_backward": (torch.ones(4), Z, torch.ones(4, 6), False, True, "auto"),
    "layer_stats": (Z, 2, False, True, False, "auto"),
    "unit_means": (Z, 1, "raw", "auto"),
    "selectivity": (Z, 1, "raw", None, "auto"),
    "class_sums": (Z[:, 0], torch.zeros(4, dtype=torch.int64), 1, "auto"),
    "median_of_others": (Z[:, 0], "auto"),
    "pointwise_stats": (Z, ["batch_norm"], [torch.ones(5)] * 4, [0.0], 2, False, True, "auto"),
    "views": (*VIEWS, torch.float32, False, "auto"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_level_of_forward_mode_alone_is_fine(name):
    with torch.autograd.forward_ad.dual_level():
        getattr(OPS, name).default(*RIGHT[name])


PLACEHOLDERS = {
    "Tensor": Z,
    "Optional[Tensor]": None,
    "int": 0,
    "SymInt": 0,
    "bool": False,
    "str": "auto",
    "ScalarType": Z.dtype,
}
TENSORS = [
    (name, argument.name, str(argument.type))
    for name in registered_ops()
    for argument in getattr(OPS, name).default._schema.arguments
    if "Tensor" in str(argument.type)
]


@pytest.mark.parametrize(("name", "argument", "kind"), TENSORS, ids=[f"{op}-{each}" for op, each, _ in TENSORS])
def test_a_tangent_is_refused_and_never_dropped(name, argument, kind):
    op = getattr(OPS, name).default
    arguments = {each.name: PLACEHOLDERS.get(str(each.type), []) for each in op._schema.arguments}
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(Z, Z)
        arguments[argument] = [dual] if kind.startswith("List") else dual
        with pytest.raises(memkern.MemkernError, match="without a tangent"):
            op(**arguments)


WRONG = {
    "z": lambda: OPS.alignment(Z[0], False, True, False, "auto"),
    "grad": lambda: OPS.alignment_backward(torch.ones(3), Z, torch.ones(4, 6), False, True, "auto"),
    "saved": lambda: OPS.alignment_backward(torch.ones(4), Z, torch.ones(4, 2), False, True, "auto"),
    "unit_dim": lambda: OPS.layer_stats(Z, 1, False, True, False, "auto"),
    "x": lambda: OPS.unit_means(Z.long(), 1, "raw", "auto"),
    "activation": lambda: OPS.unit_means(Z, 1, "gelu", "auto"),
    "order": lambda: OPS.selectivity(Z, 1, "raw", torch.tensor([0, 1, 2, 99]), "auto"),
    "classes": lambda: OPS.class_sums(Z[0], torch.tensor([0, 1, 2]), -1, "auto"),
    "labels": lambda: OPS.class_sums(Z[0], torch.tensor([0, 1, 7]), 3, "auto"),
    "means": lambda: OPS.median_of_others(Z, "auto"),
    "moments": lambda: OPS.pointwise_stats(Z, ["batch_norm"], [None] * 4, [0.0], 2, False, True, "auto"),
    "params": lambda: OPS.views(
        [Z[None, :3, :, :]], torch.full((1, 2, 22), 9.0), None, 4, 4, 1, 1, True, 0, [0.0] * 3, [1.0] * 3,
        torch.float32, False, "auto",
    ),
}  # fmt: skip


@pytest.mark.parametrize("argument", WRONG)
def test_what_an_op_refuses(argument):
    with pytest.raises(memkern.MemkernError, match=f"Expected (the values of |the box of |the steps of )?`{argument}"):
        WRONG[argument]()
