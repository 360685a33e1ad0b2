"""The comparison of two checkouts: what it sees, what it takes out, which differences are planned."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import compare_checkouts  # noqa: E402
from frozen import digest, planned  # noqa: E402
from frozen.normalise import Normaliser  # noqa: E402

pyarrow = pytest.importorskip("pyarrow", reason="memkern[audit] is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="memkern[audit] is not installed")
RUN = ROOT / "python_tests" / "frozen" / "labels"
REPORT = """<p>Made by memkern 0.1.0 at 2026-11-22T08:00:00+00:00 in 3.8 s, 120 MB, with /home/me/data/x.png</p>
<tr><th scope="row"><bdi title="wall.views">wall.views</bdi></th><td><bdi title="0.011">0.011</bdi></td></tr>
<td>class0</td> 5 images, LayerMem +0.138
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A RUN folder with a report, a text and a picture."""
    from PIL import Image

    shutil.copytree(RUN, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text(REPORT)
    Image.new("RGB", (4, 4), (9, 8, 7)).save(tmp_path / "run" / "0.png")
    return tmp_path / "run"


def entries(folder: Path) -> dict[str, str]:
    return dict(digest.folder(folder, Normaliser({str(folder.parent): "<work>"})))


def changed(run: Path, change: Callable[[Path], None]) -> list[str]:
    """The entries that differ once a copy of the folder, in another place, has been changed."""
    copy = shutil.copytree(run, run.parent / "elsewhere" / "run")
    change(copy)
    return [each.key for each in planned.differences(entries(run), entries(copy), "runs")]


def edit_json(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    whole = json.loads(path.read_text())
    edit(whole)
    path.write_text(json.dumps(whole))


def flip_in_table(run: Path) -> None:
    from pyarrow import parquet

    table = parquet.read_table(run / "samples.parquet")
    values = table["sslmem"].to_numpy().copy()
    values.view("uint32")[3] ^= 1
    place = table.column_names.index("sslmem")
    parquet.write_table(table.set_column(place, "sslmem", pyarrow.array(values)), run / "samples.parquet")


def flip_in_state(run: Path) -> None:
    import torch

    state = safetensors.load_file(run / "state.safetensors")
    state["conv1/unitmem/peak"].view(torch.int32)[0] ^= 1
    safetensors.save_file(state, run / "state.safetensors")


def flip_in_picture(run: Path) -> None:
    from PIL import Image

    with Image.open(run / "0.png") as picture:
        pixels = picture.copy()
    pixels.putpixel((2, 1), (9, 8, 6))
    pixels.save(run / "0.png")


def test_a_copy_in_another_place_is_the_same(run: Path) -> None:
    assert changed(run, lambda copy: None) == []


@pytest.mark.parametrize(
    ("flip", "seen"),
    [
        (flip_in_table, "runs/samples.parquet/sslmem"),
        (flip_in_state, "runs/state.safetensors/conv1/unitmem/peak"),
        (flip_in_picture, "runs/0.png"),
    ],
)
def test_one_bit_is_seen_and_nothing_else(run: Path, flip: Callable[[Path], None], seen: str) -> None:
    assert changed(run, flip) == [seen]


def test_one_key_of_the_manifest_is_seen(run: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["views"]["spec"]["flip"] += 2**-53

    assert changed(run, lambda copy: edit_json(copy / "manifest.json", edit)) == ["runs/manifest.json/views/spec/flip"]


def test_times_paths_versions_and_digests_of_files_are_not_seen(run: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["created"] = "2027-01-01T00:00:00+00:00"
        manifest["versions"]["memkern"] = manifest["plan"]["memkern"] = "0.2.0"
        manifest["wall"]["forward"] *= 3
        manifest["files"] = dict.fromkeys(manifest["files"], "0" * 64)

    assert changed(run, lambda copy: edit_json(copy / "manifest.json", edit)) == []


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("2026-11-22T08:00:00+00:00", "2027-01-02T09:30:01+00:00", False),
        ("0.1.0", "0.2.0.dev1", False),
        ("3.8 s", "1,204.5 ms", False),
        ("120 MB", "1.2 GiB", False),
        ("/home/me/data/x.png", "/srv/other/y.png", False),
        ('"0.011">0.011', '"12.5">12.5', False),
        ("+0.138", "+0.139", True),
        ("5 images", "6 images", True),
        ("class0", "class1", True),
        ("wall.views", "wall.load", True),
    ],
)
def test_of_a_report_only_what_was_measured_is_seen(run: Path, old: str, new: str, seen: bool) -> None:
    def change(copy: Path) -> None:
        assert old in REPORT
        (copy / "report.html").write_text(REPORT.replace(old, new))

    assert changed(run, change) == (["runs/report.html"] if seen else [])


def test_a_column_and_a_file_that_are_missing_are_seen(run: Path) -> None:
    assert changed(run, lambda copy: (copy / "plan.json").unlink())[0].startswith("runs/plan.json/")


def test_nan_null_and_negative_zero_are_told_apart() -> None:
    values = ([0.0], [-0.0], [float("nan")], [None], [float("inf")])
    assert len({digest.column(each, "float") for each in values}) == len(values)


# ---- planned differences --------------------------------------------------------------------------------------------


def captures(tmp_path: Path, a: dict[str, str], b: dict[str, str], plan: str) -> int:
    for name, found in (("a", a), ("b", b)):
        (tmp_path / name).mkdir()
        whole = {"entries": found, "not_compared": {"cuda": "no GPU"}, "machine": {}}
        (tmp_path / name / "api.json").write_text(json.dumps(whole))
    (tmp_path / "planned.toml").write_text(plan)
    return compare_checkouts.compare(tmp_path / "a", tmp_path / "b", tmp_path / "planned.toml", 10)


PLANNED = '[[planned]]\npattern = "api/names/*"\nreason = "a name is new"\n'


@pytest.mark.parametrize(
    ("b", "plan", "code", "printed"),
    [
        ({"names/x": "1", "help": "2"}, "", 0, "0 differ"),
        ({"names/x": "1", "help": "3"}, "", 1, "DIFFERS api/help"),
        ({"names/x": "1"}, "", 1, "only in the first: 2"),
        ({"names/x": "7", "help": "2"}, PLANNED, 0, "api/names/*: 1 differences: a name is new"),
        ({"names/x": "7", "help": "3"}, PLANNED, 1, "DIFFERS api/help"),
        ({"names/x": "1", "help": "2"}, PLANNED, 1, "nothing differs there: api/names/*"),
        ({"names/x": "1", "help": "2"}, PLANNED.replace("api", "lab"), 0, "lab: not captured in both"),
    ],
)
def test_planned_differences(
    b: dict[str, str], plan: str, code: int, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert captures(tmp_path, {"names/x": "1", "help": "2"}, b, plan) == code
    out = capsys.readouterr().out
    assert printed in out
    assert "not compared: cuda: no GPU" in out


@pytest.mark.parametrize(
    "table", ['pattern = "api/x"', 'pattern = "*"\nreason = "all"', 'pattern = "api/x"\nreason = ""']
)
def test_a_planned_difference_has_a_part_and_a_reason(table: str, tmp_path: Path) -> None:
    (tmp_path / "planned.toml").write_text(f"[[planned]]\n{table}\n")
    with pytest.raises(ValueError, match="Expected `pattern`"):
        planned.read(tmp_path / "planned.toml")


def test_the_file_of_planned_differences_can_be_read() -> None:
    assert all(each.reason for each in planned.read(ROOT / "scripts" / "planned_differences.toml"))
