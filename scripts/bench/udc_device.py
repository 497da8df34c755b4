"""Seconds and memory of udc with its learned conqueror on a device, beside the targets.

    python scripts/bench/udc_device.py --device cuda

prints one JSON line per row: so many instances of n uniform points at once, from the call to the
checked results, start included. Smaller instances before load and compile what is needed. The
targets are for one H200, and are not met where memory ran out, which the warnings tell. Memory is
what PyTorch reserved. ``--rows 1000x4`` asks for other sizes and numbers of instances,
``--samples`` for more starts of each; the published 8 minutes for 128 instances of 1,000 nodes are
with 50.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
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
#: Nodes, instances -> seconds, and GB of the device.
TARGETS = {(1000, 128): (60.0, math.inf), (100_000, 1): (180.0, 40.0)}

#: What the log warned of in a row.
SAID: list[str] = []


class Listener(logging.Handler):
    """Keeps warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        SAID.append(record.getMessage())


def size(text: str) -> tuple[int, int]:
    """Nodes and instances of a row."""
    n, count = map(int, text.split("x"))
    return n, count


def row(n: int, count: int, solver: UDC, device: torch.device) -> dict[str, Any]:
    """What so many instances take."""
    known = [TSP.generate(n, seed=1000 + seed) for seed in range(count)]
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    SAID.clear()
    begin = time.perf_counter()
    results = solver.solve_batch(known, Budget())
    seconds = time.perf_counter() - begin
    gigabytes = torch.cuda.max_memory_reserved(device) / 1e9 if gpu else None
    starts = [r.trajectory[0].objective for r in results]
    lengths = [r.objective for r in results]
    expected = CONSTANT * math.sqrt(n)
    most, memory = TARGETS.get((n, count), (None, math.inf))
    met = gigabytes and most and not SAID and seconds <= most and gigabytes < memory
    return {
        "n": n, "instances": count, "stages": solver.stages, "samples": solver.samples,
        "warnings": list(SAID), "seconds": round(seconds, 2),
        "gigabytes": gigabytes and round(gigabytes, 2), "target_seconds": most, "met": met,
        "start_percent": round(100 * (np.mean(np.array(starts, float)) / expected - 1), 2),
        "percent": round(100 * (np.mean(np.array(lengths, float)) / expected - 1), 2),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", nargs="+", type=size, default=list(TARGETS))
    parser.add_argument("--stages", type=int, default=50)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--leap", type=int, default=0, help="0: what suits the device")
    options = parser.parse_args()
    device = find_device(options.device)
    logging.getLogger("nco").addHandler(Listener(logging.WARNING))
    solver = UDC(
        stages=options.stages, samples=options.samples, device=options.device, leap=options.leap
    )
    for warm in (300, 8000):
        dataclasses.replace(solver, stages=3, samples=1).solve(TSP.generate(warm, seed=1), Budget())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    where = {"device": name, "torch": torch.__version__, "environment": environment()}
    for n, count in options.rows:
        print(
            json.dumps({**row(n, count, solver, device), "leap": options.leap, **where}), flush=True
        )


if __name__ == "__main__":
    main()
