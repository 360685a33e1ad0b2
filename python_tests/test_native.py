"""The compiled library takes a record per op by field name; what is missing or unknown is named."""

import re

import pytest
import torch

from memkern import native

if native.load()[0] is None:
    pytest.skip(f"no compiled library: {native.load()[1]}", allow_module_level=True)


def fields() -> dict[str, object]:
    """Of class_sums, over one point, one unit and one class."""
    return {"means": 0, "dtype": 0, "points": 0, "units": 0, "classes": 0, "labels": 0, "sums": 0}


def refused(*where: object, **given: object) -> str:
    """What the library says."""
    with pytest.raises(TypeError) as error:
        native.library().class_sums(*where, **given)
    return str(error.value)


def test_fields_in_any_order():
    means, labels = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1, 0, 1])
    sums = torch.zeros(2, 1, dtype=torch.float64)
    given = {"means": means.data_ptr(), "dtype": native.DTYPES[means.dtype], "points": 3, "units": 1, "classes": 2,
             "labels": labels.data_ptr(), "sums": sums.data_ptr()}  # fmt: skip
    native.library().class_sums(1, **dict(reversed(given.items())))
    assert sums.flatten().tolist() == [2.0, 5.0]


@pytest.mark.parametrize("name", fields())
def test_a_missing_field_is_named(name):
    given = fields()
    del given[name]
    assert refused(1, **given) == f"memkern: class_sums needs the field `{name}`"


def test_an_unknown_field_is_named_and_so_is_the_nearest():
    interned = {("point" if name == "points" else name): value for name, value in fields().items()}
    assert refused(1, **interned) == "memkern: class_sums has no field `point`; did you mean `points`?"
    made = {"".join(["lab", "el"]): 0, **fields()}
    assert refused(1, **made) == "memkern: class_sums has no field `label`; did you mean `labels`?"


def test_a_wrong_value_is_named():
    said = refused(1, **fields() | {"points": "three"})
    assert said == "memkern: class_sums: expected `points` to be a whole number, got 'three'"
    assert "expected `sums` to be an address, got 1.5" in refused(1, **fields() | {"sums": 1.5})
    assert "number of threads" in refused("one", **fields())
    assert "expected where to run" in refused(**fields())
    assert "expected where to run" in refused(1, *fields().values())


def test_records_inside_of_records():
    """The layers of pointwise_stats and the batches of views are dicts, held to the same rule."""
    given = {"batches": [{"data": 0}], "pixel": 0}
    with pytest.raises(TypeError, match="a batch of images needs the field `images`"):
        native.library().views(1, **given)
    with pytest.raises(TypeError, match=re.escape("views: expected `batches` to be a tuple or list, got {}")):
        native.library().views(1, **given | {"batches": {}})
    with pytest.raises(TypeError, match="views: expected `mean` to be as many numbers as the record holds"):
        native.library().views(1, batches=[], mean=(0.5, 0.5))
