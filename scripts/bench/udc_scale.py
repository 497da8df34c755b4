"""Time and memory of udc against the number of nodes, and their slopes on a log-log scale.

    python scripts/bench/udc_scale.py --sizes 1000 10000 100000 --out x.jsonl --plot x.png

Every size is a process of its own, on one thread: uniform points, random insertion, and so
many stages of consecutive parts by `or-opt` (so that every stage looks at all nodes).
Seconds are of the processor, without start-up and compilation; memory is the peak beyond
what a small instance needs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path


def measure(n: int, stages: int, effort: float) -> dict[str, float]:
    """One row, in this process."""
    from nco.instances.core import Budget
    from nco.instances.tsp import TSP
    from nco.udc.solver import UDC

    solver = UDC(conquer="or-opt", stages=stages, regions=0.0, effort=effort)
    instance = TSP.generate(n, seed=1)
    for warm in (300, 8000):  # compiles what is compiled
        UDC(conquer="or-opt", stages=1).solve(TSP.generate(warm, seed=1), Budget())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    result = solver.solve(instance, Budget())
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, end = result.trajectory[0].objective, result.objective
    assert start is not None
    assert end is not None
    assert instance.violations(result.solution) == []
    expected = 0.7124 * math.sqrt(n)
    return {
        "n": n, "stages": stages, "effort": effort, "cpu_seconds": round(seconds, 3),
        "mib": round(peak / 1024, 1), "mib_more": round((peak - before) / 1024, 1),
        "start_percent": round(100 * (start / expected - 1), 2),
        "percent": round(100 * (end / expected - 1), 2),
    }  # fmt: skip


def slope(rows: list[dict[str, float]], key: str) -> float:
    """Between the first and the last row, on a log-log scale."""
    low, high = rows[0], rows[-1]
    return math.log(high[key] / low[key]) / math.log(high["n"] / low["n"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--stages", type=int, default=1)
    parser.add_argument("--effort", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=Path("udc-scale.jsonl"))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if os.environ.get("UDC_SCALE_N"):
        n = int(os.environ["UDC_SCALE_N"])
        print(json.dumps(measure(n, options.stages, options.effort)))
        return
    rows = []
    for n in options.sizes:
        given = {**os.environ, "OMP_NUM_THREADS": "1", "UDC_SCALE_N": str(n)}
        run = subprocess.run(
            [sys.executable, *sys.argv], env=given, capture_output=True, check=True
        )
        rows.append(json.loads(run.stdout.splitlines()[-1]))
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    if len(rows) > 1:
        grown = [row for row in rows if row["mib_more"] > 0]
        print(f"slope of time {slope(rows, 'cpu_seconds'):.2f}")
        if len(grown) > 1:
            print(f"slope of memory {slope(grown, 'mib_more'):.2f}")
    if options.plot:
        import matplotlib.pyplot as plt

        for key in ("cpu_seconds", "mib"):
            plt.loglog([row["n"] for row in rows], [row[key] for row in rows], "o-", label=key)
        plt.xlabel("nodes")
        plt.legend()
        plt.savefig(options.plot)


if __name__ == "__main__":
    main()
