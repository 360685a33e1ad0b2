"""Every experiment at `tiny`, the catalogue, the rule of the verdicts, the pages, the command line."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memkern import cli
from memkern.lab.encoder_pairs import save_pair, train_pair
from memkern.lab.experiments._catalogue import ENTRIES, LEFT_OUT, entries, implemented
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import RULE, Result, p_value, verdict
from memkern.lab.experiments._report_pages import REMARKS, write
from memkern.lab.presets import PRESETS
from memkern.lab.training import checkpoint
from python_tests.helpers import testing

pytestmark = pytest.mark.long

for package in ("lightly", "timm", "torchvision", "opacus", "skimage", "sklearn", "scipy", "pyarrow", "mlxtend"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'memkern[lab,ssl,dp]'")

EXPERIMENTS = implemented()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with testing.threads(1):
        yield


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ExperimentContext:
    """One for all experiments: encoders are trained once."""
    return ExperimentContext(PRESETS["tiny"], cache=tmp_path_factory.mktemp("cache"))


@pytest.mark.xdist_group("lab-experiments")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs_and_writes_its_page(name: str, context: ExperimentContext, tmp_path: Path) -> None:
    import pyarrow.parquet

    found = EXPERIMENTS[name]
    result = found.run(context)
    files = write(found, result, context, tmp_path, command=f"memkern lab run {name} --preset tiny", seconds=0.0)
    table = pyarrow.parquet.read_table(tmp_path / f"{name}.parquet")
    assert tuple(table.column_names) == found.columns
    assert table.num_rows == len(result.rows) > 0
    assert {finding: len(effects) for finding, effects in result.effects.items()} == dict.fromkeys(found.findings, 1)
    assert all(math.isfinite(effect) for effects in result.effects.values() for effect in effects)
    page = files[-1].read_text()
    assert "too small to tell" in page
    assert "**holds**" not in page.replace(RULE, "")  # one seed proves nothing
    assert all(path.exists() for path in files)


def test_the_catalogue_lists_every_table_and_figure_honestly() -> None:
    wanted = {f"Table {n}" for n in range(1, 35)} | {f"P1-{letter}" for letter in "abcdefghij"}
    wanted |= {f"Figure {n}" for n in range(2, 14)} | {f"Figure 1{letter}" for letter in "abc"}
    assert wanted <= set(ENTRIES)
    covered = [name for found in EXPERIMENTS.values() for name in found.covers]
    assert len(covered) == len(set(covered))
    assert set(covered) <= set(ENTRIES)
    assert not set(covered) & set(LEFT_OUT)
    for entry in entries():
        assert (entry.experiment is None) == bool(entry.why), entry.name
    for name, found in EXPERIMENTS.items():
        assert name == found.id
        assert found.findings
        assert all(isinstance(row, dict) for row in found.published)


def test_verdicts_need_three_seeds_that_agree() -> None:
    assert verdict([0.3]) == verdict([0.3, 0.2]) == "too small to tell"
    assert verdict([0.3, 0.2, 0.25]) == "holds"
    assert verdict([-0.3, -0.2, -0.25]) == "does not hold"
    assert verdict([0.3, 0.2, -0.25]) == "too small to tell"
    assert verdict([1.0, 1.0, 1.0]) == "holds"
    assert verdict([0.0, 0.0, 0.0]) == verdict([math.nan, 1.0, 1.0]) == "too small to tell"
    # t = mean / (sd / sqrt(3)) = 2 / (1 / sqrt(3)); p of Student's t with 2 degrees of freedom, in closed form
    t = 2 * math.sqrt(3)
    assert p_value([1.0, 2.0, 3.0]) == pytest.approx((1 - t / math.sqrt(t * t + 2)) / 2)


def test_a_page_refuses_what_was_not_announced(context: ExperimentContext, tmp_path: Path) -> None:
    found = next(iter(EXPERIMENTS.values()))
    with pytest.raises(ValueError, match="announced"):
        write(found, Result([{"odd": 1}], {}), context, tmp_path, command="", seconds=0.0)


def test_encoders_are_kept_and_found_again(context: ExperimentContext, monkeypatch: pytest.MonkeyPatch) -> None:
    first = context.encoder(0)
    again = ExperimentContext(PRESETS["tiny"], cache=context.cache)

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(again.encoders, "_train", refuse)
    for a, b in zip(first.state_dict().values(), again.encoder(0).state_dict().values(), strict=True):
        assert a.equal(b)
    with pytest.raises(AssertionError, match="again"):
        again.encoder(1)
    with pytest.raises(AssertionError, match="again"):
        again.encoder(0, recipe=again.recipe(lr=0.1))
    with pytest.raises(AssertionError, match="again"):
        again.encoder(0, repeat=2)


def test_processes_that_share_a_cache_wait_for_each_other(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "key.lock"
    waits = (
        "import sys, pathlib; from memkern.lab.training.checkpoint import alone; print('ready', flush=True)\n"
        "with alone(pathlib.Path(sys.argv[1])): pass"
    )
    with checkpoint.alone(lock):
        other = subprocess.Popen([sys.executable, "-c", waits, str(lock)], stdout=subprocess.PIPE)
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.wait(60) == 0
    other.stdout.close()


def test_a_pair_that_was_made_before_is_reused(tmp_path: Path) -> None:
    tiny = PRESETS["tiny"]
    context = ExperimentContext(tiny, cache=tmp_path / "cache", reuse=tmp_path / "pairs")
    pair = train_pair(context.data(), 0, recipe=tiny.recipe(), sizes=tiny.sizes)
    save_pair(pair, tmp_path / "pairs" / "seed-0")
    assert context.encoder(0, "g").state_dict()
    assert set(context.used.values()) == {"the pair of seed 0"}


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["lab", "list"]) == 0
    shown = capsys.readouterr().out
    assert "not implemented" in shown or not any(e.why == "not implemented" for e in entries())
    assert len(shown.splitlines()) == len(ENTRIES)
    assert cli.main(["lab", "list", "--json"]) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} == set(ENTRIES)
    assert cli.main(["lab", "run", "table-0", "--out", str(tmp_path)]) == 1
    assert "table-1" in capsys.readouterr().err
    arguments = ["lab", "run", "table-19", "--preset", "tiny", "--out", str(tmp_path), "--threads", "1"]
    assert cli.main(arguments) == 0
    assert "too small to tell" in capsys.readouterr().out
    assert (tmp_path / "table-19.md").exists()
    (tmp_path / REMARKS).write_text('{"table-19": "Few points suffice."}')
    assert cli.main(["lab", "index", str(tmp_path)]) == 0
    index = (tmp_path / "index.md").read_text()
    assert "1 findings of 1 experiments: 0 holds, 0 does not hold, 1 too small to tell." in index
    assert "`memkern lab run table-19 --preset tiny` on a CPU" in index
    assert "Few points suffice." in index
    assert cli.main(["lab", "index", str(tmp_path / "nowhere")]) == 1
    assert "got none" in capsys.readouterr().err
    weights = tmp_path / "f.safetensors"
    arguments = ["lab", "train", "--preset", "tiny", "--method", "mae", "--set", "epochs=2", "--out", str(weights)]
    assert cli.main([*arguments, "--threads", "1", "--monitor", "1", "--activation", "relu"]) == 0
    shown = capsys.readouterr().out
    assert "ms a step: views" in shown
    assert [line.split()[1] for line in shown.splitlines() if "UnitMem" in line] == ["0", "1", "2"]
    assert weights.exists()
