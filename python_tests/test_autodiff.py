"""Derivatives of the public functions under every transform of torch, against plain torch in float64; tracing."""

import pytest
import torch
from torch.autograd import forward_ad

import memkern
from memkern.reference.alignment import alignment as reference

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
OTHER = torch.rand(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# public function -> the same by operations of torch that torch differentiates
SCORES = {
    "alignment": (memkern.alignment, reference),
    "anchor": (lambda z: memkern.alignment(z, pairs="anchor"), lambda z: reference(z, pairs="anchor")),
    "l1": (lambda z: memkern.alignment(z, distance="l1"), lambda z: reference(z, distance="l1")),
    "cosine": (lambda z: memkern.alignment(z, distance="cosine"), lambda z: reference(z, distance="cosine")),
    "angular": (lambda z: memkern.alignment(z, distance="angular"), lambda z: reference(z, distance="angular")),
    "raw": (lambda z: memkern.alignment(z, normalize=False), lambda z: reference(z, normalize=False)),
    "layer_stats": (lambda z: memkern.layer_stats(z).alignment, reference),
    "unit_means": (lambda z: memkern.layer_stats(z).unit_means.flatten(), lambda z: z.mean(1).flatten()),
    "loss": (memkern.alignment_loss, lambda z: reference(z).mean()),
    "sslmem": (
        lambda z: memkern.sslmem(z, OTHER, scale="ratio"),
        lambda z: (reference(OTHER) - reference(z)) / (reference(OTHER) + reference(z)),
    ),
    "layermem": (
        lambda z: memkern.layermem(z, OTHER, scale="none"),
        lambda z: (reference(OTHER) - reference(z)).mean(),
    ),
}
TRANSFORMS = {
    "jacrev": torch.func.jacrev,
    "jacfwd": torch.func.jacfwd,
    "jvp": lambda f: lambda z: torch.func.jvp(f, (z,), (OTHER - 0.3,))[1],
    "linearize": lambda f: lambda z: torch.func.linearize(f, z)[1](OTHER - 0.3),
    "vjp": lambda f: lambda z: torch.func.vjp(lambda x: f(x).sum(), z)[1](torch.tensor(2.0, dtype=z.dtype))[0],
    "hessian": lambda f: torch.func.hessian(lambda z: f(z).square().sum()),
    "reverse over reverse": lambda f: torch.func.jacrev(torch.func.jacrev(lambda z: f(z).square().sum())),
    "reverse over forward": lambda f: torch.func.jacrev(torch.func.jacfwd(lambda z: f(z).square().sum())),
    "forward over forward": lambda f: torch.func.jacfwd(torch.func.jacfwd(lambda z: f(z).square().sum())),
    "per sample": lambda f: (
        lambda z: torch.vmap(torch.func.grad(lambda x: f(x).square().sum()))(torch.stack([z, z.flip(1) + 0.1]))
    ),
    "vmap": lambda f: lambda z: torch.vmap(f, in_dims=1)(torch.stack([z, z + OTHER], 1)),
    "vmap of vmap": lambda f: lambda z: torch.vmap(torch.vmap(f))(torch.stack([z, z + OTHER])[None]),
    "functional": lambda f: lambda z: torch.autograd.functional.jacobian(f, z, vectorize=True),
    "functional hessian": lambda f: lambda z: torch.autograd.functional.hessian(lambda x: f(x).square().sum(), z),
}
SECOND = {
    "hessian", "reverse over reverse", "reverse over forward", "forward over forward", "functional hessian",
}  # fmt: skip
"""Transforms that take a second derivative."""


@pytest.mark.field("program", "torch.func: jvp, vjp, vmap, Hessians, per-sample gradients")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("score", SCORES)
def test_derivatives_are_those_of_plain_torch(score, transform):
    if (score, transform) in {("unit_means", "functional"), ("unit_means", "functional hessian")}:
        pytest.skip("ordinary autograd: unit means say that they have no gradient")
    if score == "angular" and transform in SECOND:
        with pytest.raises(memkern.MemkernError, match="equal views have none"):
            TRANSFORMS[transform](SCORES[score][0])(rand(3, 4, 5))
        return
    ours, plain = SCORES[score]
    got, want = (TRANSFORMS[transform](function)(rand(3, 4, 5)) for function in (ours, plain))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    assert float(want.abs().max()) > 1e-3


@pytest.mark.parametrize("score", ["alignment", "anchor", "raw", "layer_stats", "sslmem"])
def test_gradcheck_of_first_and_second_order(score):
    z, (function, _) = rand(3, 4, 5, seed=1).requires_grad_(), SCORES[score]
    options = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(function, z, **options)
    assert torch.autograd.gradgradcheck(function, z, check_fwd_over_rev=True)


def test_tangents_of_dual_levels_and_lower_precision():
    z, v = rand(4, 3, 6, dtype=torch.float32), rand(4, 3, 6, seed=2, dtype=torch.float32)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(memkern.alignment(forward_ad.make_dual(z, v)))
    want = torch.func.jvp(reference, (z.double(),), (v.double(),))[1]
    torch.testing.assert_close(found.tangent.double(), want, rtol=1e-5, atol=1e-6)
    got = torch.func.jvp(memkern.alignment, (z.bfloat16(),), (v.bfloat16(),))
    assert [each.dtype for each in got] == [torch.float32] * 2
    assert torch.func.grad(memkern.alignment_loss)(z.half()).dtype == torch.float16


def test_what_is_beside_a_transform_keeps_its_gradient():
    """An ordinary tensor that requires a gradient, used inside of a transform of another one."""
    z = rand(3, 4, 5).requires_grad_()
    torch.func.grad(lambda s: s * memkern.alignment_loss(z))(torch.tensor(2.0)).backward()
    want = torch.func.grad(lambda x: reference(x).mean())(z.detach())
    torch.testing.assert_close(z.grad, want, rtol=1e-10, atol=1e-12)


def test_identical_views_have_derivatives_of_zero():
    z = torch.ones(2, 3, 4, dtype=torch.float64)
    assert torch.func.jvp(memkern.alignment, (z,), (rand(2, 3, 4),))[1].tolist() == [0, 0]
    hessian = torch.func.hessian(lambda x: memkern.alignment(x).sum())(z)
    assert not hessian.any()


NONE = {
    "unit_means": lambda z: memkern.unit_means(z).sum(),
    "unitmem": lambda z: memkern.unitmem(z).sum(),
    "median": lambda z: memkern.unitmem(z, rest="median").sum(),
    "classmem": lambda z: memkern.classmem(z, torch.tensor([0, 1, 1])).sum(),
    "alignment_stats": lambda z: memkern.alignment_stats(z).stderr.sum(),
    "view_sums": lambda z: memkern.layer_stats(z, view_sums=True).rows.sum(),
    "views": lambda z: memkern.views(z[None, None, 0], n_views=2, seed=0, index=[0], size=4).sum(),
}


@pytest.mark.parametrize("transform", ["jacrev", "jacfwd", "jvp", "vjp", "hessian", "per sample"])
@pytest.mark.parametrize("name", NONE)
def test_derivatives_that_are_not_there_are_refused_by_name(name, transform):
    with pytest.raises(memkern.MemkernError, match="derivative"):
        TRANSFORMS[transform](NONE[name])(rand(3, 4, 5))


@pytest.mark.parametrize("name", NONE)
def test_scores_without_derivatives_take_detached_tensors_and_batches(name):
    z = rand(3, 4, 5)
    assert not torch.func.grad(lambda x: NONE[name](x.detach()) + 0 * x.sum())(z).any()
    got = torch.vmap(NONE[name], randomness="same")(torch.stack([z, z + OTHER])) if name != "views" else None
    if got is not None:
        torch.testing.assert_close(got, torch.stack([NONE[name](z), NONE[name](z + OTHER)]), equal_nan=True)


def test_batches_of_second_derivatives_of_autograd_functional_are_refused():
    with pytest.raises(memkern.MemkernError, match=r"torch\.func\.hessian"):
        torch.autograd.functional.hessian(memkern.alignment_loss, rand(3, 4, 5), vectorize=True)


@pytest.mark.field("program", "torch.jit.trace")
@pytest.mark.parametrize(
    "function",
    [
        memkern.alignment,
        memkern.alignment_loss,
        lambda z: memkern.layer_stats(z).unit_means,
        lambda z: memkern.layer_stats(z, view_sums=True).rows,
        lambda z: memkern.unit_means(z, view_dim=1),
        lambda z: memkern.unitmem(z, view_dim=1),
        lambda z: memkern.unitmem(z, view_dim=1, rest="median"),
        lambda z: memkern.classmem(z, torch.arange(z.shape[0]) % 2),
        lambda z: memkern.sslmem(z, z.flip(2)),
        lambda z: memkern.alignment_stats(z).halves,
    ],
)
def test_a_traced_program_computes(function):
    traced = torch.jit.trace(function, (rand(6, 3, 4),), check_trace=False)
    for shape in ((6, 3, 4), (5, 3, 4), (6, 4, 7)):
        torch.testing.assert_close(traced(rand(*shape)), function(rand(*shape)), rtol=0, atol=0, equal_nan=True)
