"""The images of the report: which are shown, and what is told of each."""

import pytest

pytest.importorskip("pyarrow", reason="memkern[audit] is not installed")
pytest.importorskip("PIL", reason="memkern[audit] is not installed")

import audit_runs

from memkern.audit.report.gallery import Thumbs, ends, items, thumbnail_indices
from memkern.audit.run_folder.arrays import read_arrays


def test_ends_and_owned_units_by_hand(tmp_path):
    run = audit_runs.write(tmp_path)
    data = read_arrays(run)
    most, least = ends(data)
    order = sorted(data.scored, key=lambda row: -data.sslmem[row])
    assert most.tolist() == [int(row) for row in order[:12]]
    assert least.tolist() == [int(row) for row in order[::-1][:6]]
    item = items(data, most[:1], run.manifest, Thumbs(run.folder))[0]
    owned = [
        (name, int(unit), float(score))
        for name, layer in data.units.items()
        for unit, score, index in zip(layer.unit, layer.unitmem, layer.peak_index, strict=True)
        if index == most[0] and score != 0
    ]
    assert item.units == len(owned)
    for row in item.owned:
        mine = [(score, unit) for name, unit, score in owned if name == row.layer]
        assert (row.count, row.unitmem) == (len(mine), max(mine)[0])
    assert len(item.views) == 4
    assert item.thumb.startswith("data:image/png;base64,")
    wanted = {*most.tolist(), *least.tolist(), 1, 4, 2, 7}  # the rows of the duplicates
    assert thumbnail_indices(data, run.manifest.data.duplicates) == sorted(wanted)
