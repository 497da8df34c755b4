"""Time and memory of udc against the number of nodes, and their slopes on a log-log scale.

    python scripts/bench/udc_scale.py --sizes 1000 10000 100000 --out x.jsonl --plot x.png

Every size is a process of its own, on one thread: uniform points, read from a file, random
insertion, and so many stages of consecutive parts by `or-opt` (so that every stage looks at all
nodes; ``--regions`` as in `udc`). Seconds are of the processor, without start-up and
compilation; memory is the peak, and what of it is beyond a small instance's. Sizes that the
output already has, with the same settings, are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def measure(n: int, settings: dict[str, float]) -> dict[str, float]:
    """One row, in this process."""
    import nco
    from nco.instances.core import Budget
    from nco.instances.tsp import TSP
    from nco.udc.solver import UDC

    solver = UDC(
        conquer="or-opt", stages=int(settings["stages"]), regions=settings["regions"],
        effort=settings["effort"],
    )  # fmt: skip
    for warm in (300, 8000):  # compiles what is compiled
        UDC(conquer="or-opt", stages=1).solve(TSP.generate(warm, seed=1), Budget())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npz"
        np.savez(path, coords=TSP.generate(n, seed=1).coords)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.process_time()
        instance = nco.read(path, problem="tsp")
    read = time.process_time() - begin
    result = solver.solve(instance, Budget())
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, end = result.trajectory[0].objective, result.objective
    assert start is not None
    assert end is not None
    assert instance.violations(result.solution) == []
    expected = 0.7124 * math.sqrt(n)
    return {
        "n": n, **settings, "cpu_seconds": round(seconds, 3), "read_seconds": round(read, 3),
        "mib": round(peak / 1024, 1), "mib_more": round((peak - before) / 1024, 1),
        "start_percent": round(100 * (start / expected - 1), 2),
        "percent": round(100 * (end / expected - 1), 2),
    }  # fmt: skip


def slope(rows: list[dict[str, float]], key: str) -> float:
    """Of the straight line through all rows, on a log-log scale."""
    return float(np.polyfit(np.log([r["n"] for r in rows]), np.log([r[key] for r in rows]), 1)[0])


def plot(rows: list[dict[str, float]], grown: list[dict[str, float]], path: Path) -> None:
    """Time and memory, each with its slope."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, sides = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for side, some, key, what in (
        (sides[0], rows, "cpu_seconds", "seconds of the processor"),
        (sides[1], grown, "mib_more", "MiB beyond a small instance's"),
    ):
        side.loglog([r["n"] for r in some], [r[key] for r in some], "o-")
        side.set(xlabel="nodes", ylabel=what)
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
    options = parser.parse_args()
    settings = {key: getattr(options, key) for key in ("stages", "effort", "regions")}
    if os.environ.get("UDC_SCALE_N"):
        print(json.dumps(measure(int(os.environ["UDC_SCALE_N"]), settings)))
        return
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    rows = [row for row in map(json.loads, lines) if settings.items() <= row.items()]
    for n in options.sizes:
        if n not in [row["n"] for row in rows]:
            given = {**os.environ, "OMP_NUM_THREADS": "1", "UDC_SCALE_N": str(n)}
            run = subprocess.run(
                [sys.executable, *sys.argv], env=given, stdout=subprocess.PIPE, check=True
            )
            rows.append(json.loads(run.stdout.splitlines()[-1]))
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    rows.sort(key=lambda row: row["n"])
    # Less than that is what the machine's memory allocator makes of it.
    grown = [row for row in rows if row["mib_more"] > 4.0]
    for what, some, key in (("time", rows, "cpu_seconds"), ("memory", grown, "mib_more")):
        if len(some) > 1:
            print(
                f"slope of {what} {slope(some, key):.2f}, {some[0]['n']} to {some[-1]['n']} nodes"
            )
    if options.plot:
        plot(rows, grown, options.plot)


if __name__ == "__main__":
    main()
