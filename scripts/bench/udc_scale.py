"""Time and memory of udc against the number of nodes, and their slopes on a log-log scale.

    python scripts/bench/udc_scale.py --sizes 1000 10000 100000 --out x.jsonl --plot x.png

Every size is a process of its own, on one thread: uniform points of the unit square, read from
a file, random insertion, and so many stages of consecutive parts by `or-opt` (so that every
stage looks at all nodes; ``--regions`` as in `udc`). Seconds are from reading the file to the
checked result, without start-up and compilation: of the processor, and by the clock. Memory is
the peak of the process, and what of it is beyond a small instance's. Rows are JSON lines, keyed
and resumable, and say what was measured where and when.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nco.bench import RowFile, load_rows

Row = dict[str, Any]

#: Length of a shortest tour through n uniform points of an area A, in units of sqrt(n A).
CONSTANT = 0.7124
#: MiB below which memory is what the allocator makes of it.
LEAST = 4.0


def peak() -> float:
    """The largest memory of this process so far, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("the kernel does not tell the peak of the memory.")


def measure(path: Path, stages: int, effort: float, regions: float) -> Row:
    """The row of the points in a file, measured in this process."""
    import nco
    from nco.instances.core import Budget
    from nco.instances.tsp import TSP
    from nco.udc.solver import UDC

    solver = UDC(conquer="or-opt", stages=stages, regions=regions, effort=effort)
    for warm in (300, 8000):  # compiles what is compiled
        UDC(conquer="or-opt", stages=1).solve(TSP.generate(warm, seed=1), Budget())
    before, begun, clock = peak(), time.process_time(), time.perf_counter()
    instance = nco.read(path, problem="tsp")
    read = time.process_time() - begun
    result = solver.solve(instance, Budget())
    seconds, wall = time.process_time() - begun, time.perf_counter() - clock
    most = peak()
    start, end = result.trajectory[0].objective, result.objective
    assert start is not None
    assert end is not None
    expected = CONSTANT * math.sqrt(instance.n)
    return {
        "n": instance.n, "cpu_seconds": round(seconds, 3), "wall_seconds": round(wall, 3),
        "read_seconds": round(read, 3), "mib": round(most, 1), "mib_more": round(most - before, 1),
        "start": start, "objective": end, "start_percent": round(100 * (start / expected - 1), 3),
        "percent": round(100 * (end / expected - 1), 3),
    }  # fmt: skip


def measured(n: int, settings: Mapping[str, Any], folder: Path | None) -> Row:
    """The row of so many points, measured in a process of its own."""
    from nco.instances.tsp import TSP

    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "points.npz"
        np.savez(path, coords=np.asarray(TSP.generate(n, seed=1).coords))
        run = subprocess.run(
            [sys.executable, __file__, *words, "--measure", str(path)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
    row: Row = json.loads(run.stdout.splitlines()[-1])
    return row


def slope(rows: list[Row], key: str) -> float:
    """Of the straight line through all rows, on a log-log scale."""
    return float(np.polyfit(np.log([r["n"] for r in rows]), np.log([r[key] for r in rows]), 1)[0])


def lines(rows: list[Row]) -> Iterator[tuple[str, str, list[Row], str]]:
    """What grows, its unit, the rows in which it does, and their key for it."""
    yield "time", "seconds of the processor", rows, "cpu_seconds"
    grown = [row for row in rows if row["mib_more"] > LEAST]
    yield "memory", "MiB beyond a small instance's", grown, "mib_more"


def plot(rows: list[Row], path: Path) -> None:
    """Time and memory, each with its slope."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, sides = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for side, (_, unit, some, key) in zip(sides, lines(rows), strict=True):
        side.loglog([r["n"] for r in some], [r[key] for r in some], "o-")
        side.set(xlabel="nodes", ylabel=unit)
        side.set_title(f"slope {slope(some, key):.2f}" if len(some) > 1 else "")
    figure.savefig(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--stages", type=int, default=1)
    parser.add_argument("--effort", type=float, default=0.1)
    parser.add_argument("--regions", type=float, default=0.0)
    parser.add_argument("--out", type=Path, default=Path("udc-scale.jsonl"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--folder", type=Path, help="where the points' files lie meanwhile")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = {key: getattr(options, key) for key in ("stages", "effort", "regions")}
    if options.measure:
        print(json.dumps(measure(options.measure, **settings)))
        return
    file = RowFile(options.out)
    for n in options.sizes:
        key = "-".join(["scale", str(n), *(f"{k}{v:g}" for k, v in settings.items())])
        if key not in file:
            row = file.add(key, {**settings, **measured(n, settings, options.folder)})
            print(json.dumps(row), flush=True)
    rows = [row for row in load_rows(options.out, {"key"}) if settings.items() <= row.items()]
    rows.sort(key=lambda row: row["n"])
    for what, _, some, key in lines(rows):
        if len(some) > 1:
            first, last = some[0]["n"], some[-1]["n"]
            print(f"slope of {what} {slope(some, key):.2f}, {first} to {last} nodes")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
