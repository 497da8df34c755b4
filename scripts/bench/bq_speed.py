"""Seconds per instance of greedy BQ decoding on this machine, beside the targets.

``python scripts/bench/bq_speed.py`` takes about three minutes on two idle cores and prints one
JSON line per row. What is decoded does not matter for speed, so weights are random, but for
the row of the light network, which decodes with the shipped ones. The rows ``--device cuda``
are those of a GPU: thousands of instances at once, one large one, and the memory that takes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from typing import Any

import torch

from nco import weights
from nco.bq.decoding import Model, construct, threads
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.bq.weights import read_model

#: Network, n, instances, candidates (0: all), precision, threads, target in seconds per instance.
CPU = (
    ("paper", 100, 8, 0, "fp32", 1, 0.45),
    ("paper", 500, 1, 0, "fp32", 1, 15.0),
    ("paper", 100, 16, 50, "bf16", 1, 0.2),
    ("paper", 500, 2, 50, "bf16", 1, 3.0),
    ("paper", 1000, 1, 50, "bf16", 1, 8.0),
    ("paper", 500, 2, 100, "bf16", 1, 3.0),
    ("paper", 1000, 1, 100, "bf16", 1, 8.0),
    ("light", 100, 512, 32, "bf16", 2, 1.0 / 40.0),
)
CUDA = (
    ("paper", 100, 10_000, 50, "bf16", 0, 1.8 / 10_000),
    ("paper", 100, 10_000, 0, "bf16", 0, 1.8 / 10_000),
    ("paper", 10_000, 1, 50, "bf16", 0, 30.0),
    ("light", 100_000, 1, 32, "bf16", 0, None),
)


def network(kind: str, k: int) -> Model:
    """The shipped light TSP policy, or the paper's network with random weights."""
    if kind == "light":
        model = read_model(weights.default_weights("tsp"), "tsp")
        return Model(model.network, model.policy, k)
    torch.manual_seed(0)
    policy = load_policy("tsp").POLICY()
    made = Network(NetworkConfig(policy.node_dim, policy.markers, policy.actions_per_node))
    for block in made.blocks:
        torch.nn.init.constant_(block.scale, 0.2)
    return Model(made, policy, k)


def rows(device: str, repeat: int, compiled: bool) -> Iterator[dict[str, Any]]:
    """One row per setting; seconds are the best of the repeats, after one small warm-up."""
    for kind, n, count, k, precision, cores, target in CUDA if device == "cuda" else CPU:
        model = network(kind, k).on(device, bf16=precision == "bf16", compiled=compiled)
        coords = torch.rand(count, n, 2, generator=torch.Generator().manual_seed(n))
        with threads(cores):
            construct(model, {"coords": coords[:8, :50]})
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            taken = []
            for _ in range(repeat):
                begin = time.perf_counter()
                actions = construct(model, {"coords": coords}).cpu()
                taken.append((time.perf_counter() - begin) / count)
        row = {
            "network": kind, "n": n, "instances": count, "k": k, "precision": precision,
            "threads": cores, "compiled": compiled,
            "seconds": min(taken), "per_second": 1.0 / min(taken),
            "target": target, "met": None if target is None else min(taken) <= target,
        }  # fmt: skip
        if not bool((actions.sort(1).values == torch.arange(1, n)).all()):
            raise RuntimeError(f"n = {n}: what was decoded is no tour.")
        if device == "cuda":
            row["gib"] = torch.cuda.max_memory_allocated() / 2**30
        yield row


def main() -> None:
    """Print the rows, the machine first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    if options.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    print(json.dumps(machine), flush=True)
    for row in rows(options.device, options.repeat, options.compile):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
