"""Seconds and memory of udc with its learned conqueror on a device, beside the targets.

    python scripts/bench/udc_device.py --device cuda

prints one JSON line per row: so many instances of n uniform points at once, from the call to the
checked results, start included, after a small instance that loads and compiles what is needed.
The targets are for one H200. ``--rows 1000x4`` asks for other sizes and numbers of instances.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import numpy as np
import torch

from nco.bench import environment
from nco.bq.decoding import find_device
from nco.instances.core import Budget
from nco.instances.tsp import TSP
from nco.udc.solver import UDC

#: Length of a shortest tour through n uniform points of an area A, in units of sqrt(n A).
CONSTANT = 0.7124
#: Nodes x instances -> seconds, and GiB of the device.
TARGETS = {(1000, 128): (60.0, math.inf), (100_000, 1): (180.0, 40.0)}


def size(text: str) -> tuple[int, int]:
    """Nodes and instances of a row."""
    n, count = map(int, text.split("x"))
    return n, count


def row(n: int, count: int, solver: UDC, device: torch.device) -> dict[str, Any]:
    """What so many instances take."""
    known = [TSP.generate(n, seed=1000 + seed) for seed in range(count)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.perf_counter()
    results = solver.solve_batch(known, Budget())
    seconds = time.perf_counter() - begin
    gib = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    starts = [r.trajectory[0].objective for r in results]
    lengths = [r.objective for r in results]
    expected = CONSTANT * math.sqrt(n)
    most, memory = TARGETS.get((n, count), (None, math.inf))
    return {
        "n": n, "instances": count, "stages": solver.stages, "seconds": round(seconds, 2),
        "gib": round(gib, 2), "met": most and (seconds <= most and gib < memory),
        "start_percent": round(100 * (np.mean(np.array(starts, float)) / expected - 1), 2),
        "percent": round(100 * (np.mean(np.array(lengths, float)) / expected - 1), 2),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", nargs="+", type=size, default=list(TARGETS))
    parser.add_argument("--stages", type=int, default=50)
    parser.add_argument("--leap", type=int, default=0, help="0: what suits the device")
    options = parser.parse_args()
    device = find_device(options.device)
    solver = UDC(stages=options.stages, device=options.device, leap=options.leap)
    UDC(stages=2, device=options.device, leap=options.leap).solve(
        TSP.generate(300, seed=1), Budget()
    )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    where = {"device": name, "torch": torch.__version__, "environment": environment()}
    for n, count in options.rows:
        print(
            json.dumps({**row(n, count, solver, device), "leap": options.leap, **where}), flush=True
        )


if __name__ == "__main__":
    main()
