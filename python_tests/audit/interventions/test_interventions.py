"""prune_units, replace_layers, finetune_layers: what changes, what does not, and that it can be undone."""

import copy

import pytest
import torch
from torch import nn

from memkern.audit import finetune_layers, prune_units, replace_layers


def block(norm=True):
    torch.manual_seed(0)
    parts = [nn.Conv2d(2, 3, 1)] + ([nn.BatchNorm2d(3)] if norm else []) + [nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(nn.Sequential(*parts), nn.Flatten(), nn.Linear(12, 4))
    if norm:  # a batch norm that has seen data: zeroing the convolution alone would leave a constant
        model[0][1].running_mean.copy_(torch.tensor([1.0, -2.0, 3.0]))
        model[0][1].bias.data.fill_(0.7)
    return model.eval()


def bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


# ---- prune_units ----------------------------------------------------------------------------------------------------


def test_a_pruned_linear_unit_by_hand():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].weight.data.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    model[0].bias.data.copy_(torch.tensor([5.0, 6.0]))
    x = torch.tensor([[1.0, 1.0]])
    assert model(x).tolist() == [[8.0, 13.0]]
    surgery = prune_units(model, {"0": [1]})
    assert model(x).tolist() == [[8.0, 0.0]]
    assert surgery.changed == ("0.weight", "0.bias")
    surgery.restore()
    assert model(x).tolist() == [[8.0, 13.0]]


@pytest.mark.parametrize("norm", [False, True])
def test_a_pruned_unit_of_a_block_is_identically_zero(norm):
    model, x = block(norm), torch.randn(5, 2, 4, 4)
    before, out = bits(model), model[0](x)
    with prune_units(model, {"0": [0, 2]}):
        pruned = model[0](x)
        assert not pruned[:, [0, 2]].any()
        assert torch.equal(pruned[:, 1], out[:, 1])
        assert torch.equal(model[2].weight, before["2.weight"]), "the layers after it stay"
    assert same(before, bits(model))
    assert torch.equal(model[0](x), out)


def test_a_convolution_alone_leaves_what_its_norm_makes_of_zero():
    """Why a block is pruned with its norm: the released script's way leaves a constant."""
    model, x = block(), torch.randn(5, 2, 4, 4)
    with prune_units(model, {"0.0": [1]}):
        assert not model[0][0](x)[:, 1].any()
        assert (model[0](x)[:, 1] > 0.5).all()
    with prune_units(model, {"0.0": [1], "0.1": [1]}):
        assert not model[0](x)[:, 1].any()


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Conv1d(2, 4, 3), torch.randn(2, 2, 8)),
        (nn.Conv3d(2, 4, 1, groups=2), torch.randn(2, 2, 3, 3, 3)),
        (nn.Linear(6, 4, bias=False), torch.randn(2, 6)),
        (nn.BatchNorm2d(4), torch.randn(2, 4, 3, 3)),
        (nn.GroupNorm(2, 4), torch.randn(2, 4, 3, 3)),
        (nn.InstanceNorm2d(4, affine=True), torch.randn(2, 4, 3, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_kinds_of_layers_whose_units_are_dimension_one(module, x):
    model = nn.Sequential(module).eval()
    with prune_units(model, {"0": [3, 3]}):  # naming a unit twice is naming it
        out = model(x)
        assert not out[:, 3].any()
        assert out[:, :3].any()


@pytest.mark.parametrize("module", [nn.LayerNorm(4), nn.RMSNorm(4), nn.Linear(4, 4)], ids=lambda m: type(m).__name__)
def test_units_of_tokens_are_the_last_dimension(module):
    with prune_units(nn.Sequential(module), {"0": torch.tensor([1])}):
        out = module(torch.randn(2, 5, 4))
        assert not out[..., 1].any()
        assert out[..., 0].any()


def test_a_block_is_pruned_at_its_last_convolution():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 2)))
    assert prune_units(model, {"0": [0]}).changed == ("0.2.weight", "0.2.bias")


def test_a_compiled_model_is_pruned_as_the_one_inside():
    model = block()
    compiled = nn.Module()
    compiled._orig_mod = model  # all that matters here of what torch.compile returns, which takes seconds to import
    with prune_units(compiled, {"0": [0]}):
        assert not model[0](torch.randn(1, 2, 4, 4))[:, 0].any()


@pytest.mark.parametrize(
    ("units", "kind", "words"),
    [
        ({"0.9": [0]}, ValueError, r"submodule '0.9'.*did you mean `0.\d`"),
        ({"": [0]}, ValueError, "submodule ''"),
        ({}, ValueError, "at least one layer"),
        ({"0": [3]}, ValueError, r"'0' to lie in \[0, 3\), got \[3\]"),
        ({"0": [-1]}, ValueError, r"\[0, 3\), got \[-1\]"),
        ({"0": [0.5]}, TypeError, "whole numbers"),
        ({"0": torch.tensor([True, False, True])}, TypeError, "whole numbers"),
        ({"0.2": [0]}, TypeError, "got ReLU; name the layer before it"),
        ({"1": [0]}, TypeError, "got Flatten"),
        ({"0": [0], "2": [99]}, ValueError, r"'2' to lie in \[0, 4\)"),
    ],
)
def test_what_prune_units_refuses_changes_nothing(units, kind, words):
    model = block()
    before = bits(model)
    with pytest.raises(kind, match=words):
        prune_units(model, units)
    assert same(before, bits(model))


def test_weights_that_are_shared_or_computed_are_refused():
    shared = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    shared[1].weight = shared[0].weight
    with pytest.raises(ValueError, match=r"names \['0.weight', '1.weight'\]"):
        prune_units(shared, {"1": [0]})
    computed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="is computed"):
        prune_units(computed, {"0": [0]})
    with pytest.raises(ValueError, match="has none"):
        prune_units(nn.Sequential(nn.BatchNorm1d(3, affine=False)), {"0": [0]})


def test_a_sigmoid_ends_the_search():
    """sigmoid(0) is 0.5: what stands before it does not make the block's output 0."""
    with pytest.raises(TypeError, match="got Sequential"):
        prune_units(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())), {"0": [0]})


# ---- replace_layers -------------------------------------------------------------------------------------------------


def test_only_the_weight_is_replaced_unless_all_is_asked_for():
    model, donor = block(), block()
    for value in donor.state_dict().values():
        value.copy_(torch.full_like(value, 9))
    before, theirs = bits(model), bits(donor)
    surgery = replace_layers(model, donor, ["0"])
    assert surgery.changed == ("0.0.weight",)
    now = bits(model)
    assert [name for name in now if not torch.equal(now[name], before[name])] == ["0.0.weight"]
    assert (now["0.0.weight"] == 9).all()
    surgery.restore()
    assert same(before, bits(model))
    with replace_layers(model, donor, ["0"], parts="all"):
        now = bits(model)
        assert all((now[name] == 9).all() == name.startswith("0.") for name in now)
    assert same(before, bits(model))
    assert same(theirs, bits(donor))


def test_what_replace_layers_refuses():
    model = block()
    donor = nn.Sequential(nn.Sequential(nn.Conv2d(2, 5, 1)), nn.Flatten(), nn.Linear(12, 4))
    before = bits(model)
    with pytest.raises(ValueError, match=r"'0.weight' is \(3, 2, 1, 1\) in `model` and \(5, 2, 1, 1\) in `donor`"):
        replace_layers(model, donor, ["2", "0"])
    with pytest.raises(ValueError, match=r"`donor` to have a submodule '0.1'"):
        replace_layers(model, donor, ["0.1"])
    with pytest.raises(ValueError, match="something to replace"):
        replace_layers(model, block(), ["0.1"])
    with pytest.raises(ValueError, match="list of names"):
        replace_layers(model, donor, "0")
    with pytest.raises(ValueError, match='"weight" or "all"'):
        replace_layers(model, donor, ["0"], parts="bias")
    assert same(before, bits(model))


# ---- finetune_layers ------------------------------------------------------------------------------------------------


def learn(model, tuning, steps=3, kind=torch.optim.AdamW):
    optimizer = kind(tuning.groups, lr=0.1, weight_decay=0.5)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(6, 2, 4, 4)) ** 2).sum().backward()
        optimizer.step()


def test_named_layers_learn_and_nothing_else_does():
    model = block()
    model[0][1].train()
    before = bits(model)
    with finetune_layers(model, ["0.0"]) as tuning:
        learn(model, tuning)
        assert not model[0][1].training, "batch norms keep their statistics, whatever model.train() says"
    now = bits(model)
    assert [name for name in now if not torch.equal(now[name], before[name])] == ["0.0.weight", "0.0.bias"]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model[0][1].training
    model(torch.randn(6, 2, 4, 4))
    assert not torch.equal(model[0][1].running_mean, before["0.1.running_mean"]), "closed: statistics move again"


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adam])
def test_only_the_named_unit_learns_bit_for_bit(kind):
    """With weight decay asked for, which would move every row of the parameters."""
    model = block()
    before = bits(model)
    with finetune_layers(model, {"0": [1]}) as tuning:
        learn(model, tuning, kind=kind)
    now = bits(model)
    moved = [name for name in now if not torch.equal(now[name], before[name])]
    assert moved == ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"]
    for name in moved:
        assert torch.equal(now[name][[0, 2]], before[name][[0, 2]]), name
        assert not torch.equal(now[name][1], before[name][1]), name


def test_an_infinite_gradient_elsewhere_stays_elsewhere():
    model = nn.Sequential(nn.Linear(1, 2))
    with finetune_layers(model, {"0": [0]}):
        (model(torch.ones(1, 1)) * torch.tensor([1.0, torch.inf])).sum().backward()
    assert model[0].weight.grad.flatten().tolist() == [1.0, 0.0]


def test_what_was_frozen_before_is_frozen_after():
    model = block()
    model[2].bias.requires_grad_(False)
    frozen = copy.deepcopy([parameter.requires_grad for parameter in model.parameters()])
    tuning = finetune_layers(model, ["2"])
    assert model[2].bias.requires_grad
    tuning.close()
    tuning.close()
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    with pytest.raises(ValueError, match="got Flatten without"):
        finetune_layers(model, ["1"])
