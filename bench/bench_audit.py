"""An audit end to end, three ways in one run, on the same weights, images and views.

    python -m bench.bench_audit [--encoders resnet9 resnet18 vit-tiny resnet50] [--device cuda] [--seconds S]
                                [--usual-memory] [--store FILE] [--taps] [--families]

(a) *scripts*: the procedure of the released scripts, from their description: batch size 1, autograd on, one run per
    layer; per image and layer five rounds of four forward passes for SSLMem (image and view, f and g) with the
    representations compared on the host in numpy, and ten passes for UnitMem.
(b) *eager*: what a good plain-torch program does: one batched pass per encoder with hooks on all layers, inference
    mode, channels-last, torch reductions, torchvision views drawn image by image.
(c) *memkern*: `memkern.audit`, without the search for copies, which the others do not do.

All three read every layer of the list. (a) is timed on a few images and layers and scaled, because it is slow: its cost
is a sum over images and layers. All keep the memory that layers free and lie on huge pages, as `memkern audit` does: a
forward pass takes up to twice the time without, and so do (b)'s temporaries (--usual-memory). Peak memory is that of a
process without, for the bare forward passes, and of one with, for the audit. What the metrics add to the forward passes
is timed in processes of its own, as an audit is one. Both are medians of three processes, and all three are stored: a
heap is cut up differently each time, which moves a peak by a tenth. (b) is timed once more in a process of its own as
Python starts it, which is where such a program usually runs. On a GPU, (b) draws its views on the CPU and copies them,
(c) draws on the GPU. Before the timing, (b) is given memkern's views and must give its scores.

`--families` times (c) with 2, 8 and 16 encoders: K encoders cost K forward passes and their taps, whose time per
encoder stays, while views are drawn once for all. Memory grows by the weights and by what is kept of every image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import memkern
from bench.audit_peers import VIEWS, Eager, nets_of, scripts, torchvision_draw
from bench.audit_report import shares, table
from bench.data import smooth_pictures
from memkern.audit.data.source import from_arrays
from memkern.audit.encoders.build import build_encoder
from memkern.audit.measure.estimate import peak_memory
from memkern.audit.measure.job import Job
from memkern.audit.measure.prepare import prepare
from memkern.audit.measure.shard import PHASES, measure_shard, tap
from memkern.audit.options import Options
from memkern.audit.process import set_up_process

# encoder, edge of an image, images; in batches that `memkern audit` takes if it is not told
CASES: dict[str, tuple[str, int, int]] = {
    "resnet9": ("memkern:resnet9", 32, 128),
    "resnet18": ("torchvision:resnet18", 32, 128),
    "vit-tiny": ("timm:vit_tiny_patch16_224?img_size=32&patch_size=4", 32, 64),
    "resnet50": ("torchvision:resnet50", 224, 8),
}
GPU_IMAGES = {"resnet9": 512, "resnet18": 512, "vit-tiny": 256, "resnet50": 64}
PROCESSES = 3  # for a peak, and for what metrics add
LAYERS = {"vit-tiny": "blocks.*.norm?,blocks.*.act,blocks.*.fc?,blocks.*.qkv,blocks.*.proj,norm"}


def n_images(name: str, device: str) -> int:
    """Images of a case."""
    return CASES[name][2] if device == "cpu" else GPU_IMAGES[name]


def make(name: str, device: str, folder: Path, encoders: int = 2) -> tuple[Job, Tensor]:
    """The job of a case, with encoders of random weights, half of them g, and smooth random images `[N, 3, H, W]`."""
    encoder, edge = CASES[name][:2]
    images = n_images(name, device)
    nets = []
    for seed in range(1, encoders + 1):
        torch.manual_seed(seed)
        nets.append(build_encoder(encoder).to(memory_format=torch.channels_last))
    pictures = smooth_pictures(images, edge)
    options = Options(
        encoder=encoder, weights="", data="", out=folder / "run", views=VIEWS, shard_size=images,
        layers=LAYERS.get(name, "*"), duplicates=False, labels="none", images=False,
        device=device,
    )  # fmt: skip
    ready = prepare(options, encoders=(nets[: encoders // 2], nets[encoders // 2 :]), source=from_arrays(pictures))
    return ready.job, pictures.to(device)


def memkern_draw(job: Job, pictures: Tensor) -> Callable[[int, int], Tensor]:
    """The views that memkern draws."""
    options = job.options

    def draw(first: int, last: int) -> Tensor:
        return memkern.views(
            pictures[first:last], n_views=VIEWS, transform=options.spec(), seed=options.seed,
            index=range(first, last), channels_last=True,
        ).flatten(0, 1)  # fmt: skip

    return draw


# ---- timing ---------------------------------------------------------------------------------------------------------


def best(work: Callable[[], Any], seconds: float) -> float:
    """Shortest time of a call, over as many as fit into the time, two at least: other work only adds."""
    return best_of({"": work}, seconds)[""]


def best_of(ways: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The same of several, called in turn."""
    return {way: min(times) for way, times in rounds_of(ways, seconds, 2).items()}


def rounds_of(ways: dict[str, Callable[[], Any]], seconds: float, least: int) -> dict[str, list[float]]:
    """Times of several, called in turn, `least` times or more; every other round in reverse, because speed drifts."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    start, order = time.perf_counter(), list(ways)
    while any(len(each) < least for each in times.values()) or time.perf_counter() - start < seconds:
        for way in order:
            wait()
            before = time.perf_counter()
            ways[way]()
            wait()
            times[way].append(time.perf_counter() - before)
        order.reverse()
    return times


def wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare(job: Job, pictures: Tensor, roles: str = "fg") -> Callable[[], None]:
    """The forward passes of the encoders "f", "g" or both alone, on views that are there."""
    batches, nets = views_of(job, pictures), [nets_of(job)[role] for role in roles]

    def work() -> None:
        with torch.inference_mode():
            for batch in batches:
                for net in nets:
                    net(batch)

    return work


def read_once(job: Job, pictures: Tensor, roles: str = "fg") -> Callable[[], None]:
    """The same with one read of every tapped output by torch, `output.sum()`: the least that any metric costs."""
    work, names = bare(job, pictures, roles), {hook_point.module for hook_point in job.layers[0].hook_points}
    nets = [nets_of(job)[role] for role in roles]
    modules = [module for net in nets for name, module in net.named_modules() if name in names]

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        output.sum()

    def hooked() -> None:
        handles = [module.register_forward_hook(hook) for module in modules]
        work()
        for handle in handles:
            handle.remove()

    return hooked


def tapped(job: Job, pictures: Tensor, roles: str = "fg") -> Callable[[], None]:
    """The same with everything that taps do: alignment and unit means."""
    batches = views_of(job, pictures)
    taps = [tap(job, role, nets_of(job)[role]) for role in roles]

    def work() -> None:
        with torch.inference_mode(), ExitStack() as stack:
            for each in taps:
                stack.enter_context(each)
            for batch in batches:
                for each in taps:
                    each.model(batch)
                    each.take()

    return work


def views_of(job: Job, pictures: Tensor) -> list[Tensor]:
    """Every batch of views of the job."""
    draw, size = memkern_draw(job, pictures), job.batch_size
    return [draw(start, min(start + size, len(pictures))) for start in range(0, len(pictures), size)]


def case(name: str, device: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Times one encoder three ways; times are per image."""
    edge, images = CASES[name][1], n_images(name, device)
    job, pictures = make(name, device, folder)
    torch.set_grad_enabled(True)
    eager = Eager(job)
    error = agreement(job, eager(memkern_draw(job, pictures)))
    row: dict[str, Any] = {
        "encoder": name,
        "edge": edge,
        "images": images,
        "layers": len(job.layers[0].hook_points),
        **error,
    }
    row["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    row["memkern"] = best(lambda: measure_shard(job, 0, nets_of(job)), seconds) / images
    found = measure_shard(job, 0, nets_of(job))
    spent = (found["f"].seconds + found["g"].seconds) / images
    row["parts"] = dict(zip(PHASES, spent.tolist(), strict=True))
    half = replace(job, options=replace(job.options, precision="bf16"))
    row["memkern_bf16"] = best(lambda: measure_shard(half, 0, nets_of(half)), seconds / 2) / images
    in_bf16 = measure_shard(half, 0, nets_of(half))
    row["bf16_alignment"] = float((in_bf16["f"].alignment - found["f"].alignment).abs().max())
    row["eager"] = best(lambda: eager(torchvision_draw(pictures, edge)), seconds) / images
    row["eager_as_python_starts"] = float(alone(name, device, "eager", seconds))
    layers = [0, len(job.layers[0].hook_points) // 2, len(job.layers[0].hook_points) - 1]
    row["scripts"] = scripts(job, pictures, 1, layers) * len(job.layers[0].hook_points)
    return row | peaks(name, device, seconds) | metrics(name, device, seconds)


def peaks(name: str, device: str, seconds: float) -> dict[str, Any]:
    """Most memory of the forward passes alone and of the audit: of each process, and the medians."""
    ways = ("bare", "memkern")
    each = [{way: int(alone(name, device, way, seconds)) for way in ways} for _ in range(PROCESSES)]
    return {
        "peak_bytes": {way: median(peak[way] for peak in each) for way in ways},
        "peak_bytes_of_processes": {way: [peak[way] for peak in each] for way in ways},
    }


WAYS = {"bare": bare, "read_once": read_once, "tapped": tapped}


def metrics(name: str, device: str, seconds: float) -> dict[str, Any]:
    """What taps, and one read of every output, add to the forward passes of f, of g and of both, as shares of them.

    Medians of each process's rounds, and the median of those.
    """
    runs: list[dict[str, list[float]]] = [json.loads(alone(name, device, "taps", seconds)) for _ in range(PROCESSES)]
    for run in runs:
        run |= {f"{way} fg": [sum(each) for each in zip(run[f"{way} f"], run[f"{way} g"], strict=True)] for way in WAYS}
    row: dict[str, Any] = {way: min(min(run[f"{way} fg"]) for run in runs) for way in WAYS}
    for key, way in (("taps_over_bare", "tapped"), ("read_over_bare", "read_once")):
        for roles, end in (("fg", ""), ("f", "_f"), ("g", "_g")):
            pairs = [zip(run[f"{way} {roles}"], run[f"bare {roles}"], strict=True) for run in runs]
            row[f"{key}{end}_of_processes"] = [median(one / other for one, other in pair) - 1 for pair in pairs]
            row[key + end] = median(row[f"{key}{end}_of_processes"])
    return row


FAMILIES = (2, 8, 16)


def families(name: str, device: str, seconds: float) -> list[str]:
    """Rows of a table: time of an image and encoder, beside that with two encoders, most memory, and the weights.

    One batch is timed, of all numbers of encoders in turn: on the CPU by its own time, for other work moves a family of
    16, which takes long, more than one of two.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    spent: dict[int, list[float]] = {count: [] for count in FAMILIES}

    def work(count: int, job: Job) -> None:
        before = clock()
        measure_shard(job, 0, nets_of(job))
        wait()
        spent[count].append((clock() - before) / count / len(job.rows(0)))

    with tempfile.TemporaryDirectory() as folder:
        made = {count: make(name, device, Path(folder), count)[0] for count in FAMILIES}
        jobs = {k: replace(job, options=replace(job.options, shard_size=job.batch_size)) for k, job in made.items()}
        rounds_of({str(count): partial(work, count, job) for count, job in jobs.items()}, seconds, 3)
    rows = []
    for count, job in jobs.items():
        best, two = min(spent[count]), min(spent[FAMILIES[0]])
        peak, weights = int(alone(name, device, f"family{count}", seconds)), sum(k.size for k in job.encoders.entries)
        megabytes = " | ".join(f"{size / 1e6:.0f} MB" for size in (peak, weights))
        rows.append(f"| {name} | {count} | {1e3 * best:.3f} ms | {best / two:.2f} | {megabytes} |")
    return rows


def alone(name: str, device: str, way: str, seconds: float) -> str:
    """What a process of its own prints that does one thing only."""
    command = [sys.executable, "-m", "bench.bench_audit", "--device", device, "--seconds", str(seconds)]
    return subprocess.run([*command, "--alone", name, way], capture_output=True, text=True, check=True).stdout


def do_alone(name: str, device: str, way: str, seconds: float) -> None:
    """Prints what one way takes.

    The most memory, bytes, of the "bare" forward passes, of the audit by "memkern", or of one of a "family"; the time
    of an image of (b), "eager"; or, "taps", times of forward passes without anything, with one read, and with taps, in
    the memory of an audit, which has not been cut up by the other ways.
    """
    if way in ("memkern", "taps") or "family" in way:
        set_up_process()
    with tempfile.TemporaryDirectory() as folder:
        job, pictures = make(name, device, Path(folder), int(way.removeprefix("family")) if "family" in way else 2)
        if way == "eager":
            eager = Eager(job)
            print(best(lambda: eager(torchvision_draw(pictures, CASES[name][1])), seconds) / len(pictures))
            return
        if way == "taps":
            # what is set beside each other is timed in turn, and compared within a round of one batch: a shared machine
            # changes its speed
            pictures = pictures[: job.batch_size]
            ways = {f"{way} {role}": make_way(job, pictures, role) for way, make_way in WAYS.items() for role in "fg"}
            times = rounds_of(ways, 20 * seconds, 9)
            print(json.dumps({way: [each / len(pictures) for each in some] for way, some in times.items()}))
            return
        if way == "bare":
            bare(job, pictures)()
        else:
            measure_shard(job, 0, nets_of(job))
    print(peak_memory(torch.device(device)))


def agreement(job: Job, wanted: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference of memkern's scores from (b)'s on the same views; raises if it is more than rounding."""
    found = measure_shard(job, 0, nets_of(job))
    a_f, a_g = found["f"].alignment, found["g"].alignment
    sslmem, ratio = a_g[-1] - a_f[-1], (a_g - a_f) / (a_g + a_f)
    errors = {
        "error_alignment": float((a_f - wanted["alignment_f"].cpu()).abs().max()),
        "error_sslmem": float((sslmem - wanted["sslmem"].cpu()).abs().max()),
        "error_layermem": float((ratio.mean(1) - wanted["layermem"].cpu()).abs().max()),
    }
    for key, value in errors.items():
        assert value < 1e-4, (key, value)
    return errors


def main() -> None:
    """Runs the cases and prints the table; times are per image, of both encoders and all layers."""
    parser = argparse.ArgumentParser(description="Time an audit three ways.")
    parser.add_argument("--encoders", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing for each way")
    parser.add_argument("--usual-memory", action="store_true", help="leave the process as Python starts it")
    parser.add_argument("--store", type=Path, help="JSON file to merge the results into")
    alone_help = "only print the peak of bare or memkern, the time of eager, or the times of taps"
    parser.add_argument("--taps", action="store_true", help="only what taps, and one read, add to the forward passes")
    parser.add_argument("--families", action="store_true", help="only times of an encoder, of several numbers of them")
    parser.add_argument("--alone", nargs=2, metavar=("ENCODER", "WAY"), help=alone_help)
    args = parser.parse_args()
    if args.alone is not None:
        do_alone(args.alone[0], args.device, args.alone[1], args.seconds)
        return
    if args.taps:
        print("| encoder | taps (f, g) | one read (f, g) |\n| --- | --- | --- |")
        for name in args.encoders:
            print(f"| {name} | {' | '.join(shares(metrics(name, args.device, args.seconds)))} |", flush=True)
        return
    if args.families:
        print("| encoder | encoders | per image and encoder | beside 2 | peak | weights |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name in args.encoders:
            print("\n".join(families(name, args.device, args.seconds)), flush=True)
        return
    if not args.usual_memory:
        set_up_process()
    rows: dict[str, Any] = {}
    if args.store is not None and args.store.exists():
        rows = json.loads(args.store.read_text())
    for name in args.encoders:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = case(name, args.device, args.seconds, Path(folder))
        print(json.dumps(rows[name]), flush=True)
        if args.store is not None:
            args.store.write_text(json.dumps(rows, indent=1) + "\n")
    print(table([rows[name] for name in args.encoders]))  # a row of an older file may lack columns


if __name__ == "__main__":
    main()
