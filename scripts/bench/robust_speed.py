"""How fast the parts of the two-stage methods are: masters with networks, labels, evaluations.

``python robust_speed.py DATA/robust OUT.jsonl``, one thread but for the labels (two processes).
Rows are JSON lines, keyed and resumable; ``seconds`` is the largest of the group, ``median`` their
median:

- masters of five scenarios, n = 80, gap 1e-3, by correlation and engine (limit 120 s);
- exact worst cases of the knapsack and of loans at n = 20 and 80 (loans: the sizes there are);
- 250,000 recourse labels of the knapsack.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nco.bench import RowFile
from nco.instances import io
from nco.instances.core import Budget
from nco.instances.registry import backends
from nco.robust.baselines import even_scenario
from nco.robust.encoding import ENCODERS, encode
from nco.robust.labels import label
from nco.robust.master import build_master, solve_master
from nco.robust.masters import scenario_master
from nco.robust.neur2ro import load_model
from nco.robust.search import feasible_rows

KNAPSACK, LOANS = "two-stage-knapsack", "capital-budgeting-loans"
#: Seconds that a master may take; labels, their instances, first stages and scenarios.
LIMIT, LABELS, A, B = 120.0, 250_000, 16, 16
#: First stages that are evaluated on each file.
STAGES = 5

Rows = Iterator[tuple[str, Callable[[], dict[str, Any]]]]


def files(folder: Path, pattern: str, problem: str) -> list[Any]:
    """The instances whose file names match."""
    return [io.read(path, problem) for path in sorted(folder.glob(pattern))]


def first_stages(instance: Any) -> np.ndarray:
    """The best first stage in the even scenario [1, p], and random ones near it."""
    problem = instance.two_stage
    master = scenario_master(problem, [even_scenario(problem.uncertainty)])
    engine = backends.load("highs")
    found = solve_master(master.mip, master.x, Budget(10.0), backend=engine, gap=1e-3, seed=0)
    rng = np.random.default_rng(0)
    around = np.repeat(found.x[:1], 200, axis=0)
    around[1:][rng.random(around[1:].shape) < 0.1] = 0.0
    return around[feasible_rows(problem, around)][:STAGES]


def masters(folder: Path) -> Rows:
    """One row for each correlation, engine and master."""
    network = load_model(KNAPSACK).network
    for kind in ("UN", "WC", "ASC", "SC"):
        group = files(folder / "knapsack" / "instances", f"RKP_{kind}_n80_*", KNAPSACK)
        for engine in ("highs", "scip"):
            for master in ("value", "second-stage"):

                def measure(
                    group: list[Any] = group, engine: str = engine, master: str = master
                ) -> dict[str, Any]:
                    return times([solved(network, i, engine, master) for i in group])

                yield f"master-{master}-{kind}-n80-{engine}", measure


def solved(network: Any, instance: Any, engine: str, master: str) -> tuple[float, dict[str, Any]]:
    """Seconds to build and solve a master of the even and four drawn scenarios."""
    problem, encoder = instance.two_stage, ENCODERS[KNAPSACK]
    uncertainty = problem.uncertainty
    encoding = encode(encoder, network.config.streams, instance, uncertainty.dimension)
    drawn = uncertainty.sample(4, np.random.default_rng(0))
    begun = time.perf_counter()
    mip, x = build_master(
        problem, encoder.seen(problem), [even_scenario(uncertainty), *drawn], network, encoding,
        slack=0.01, choose=master == "second-stage",
    )  # fmt: skip
    found = solve_master(mip, x, Budget(LIMIT), backend=backends.load(engine), gap=1e-3, seed=0)
    return time.perf_counter() - begun, {"instance": instance.name, "value": found.value}


def evaluations(folder: Path) -> Rows:
    """One row for each problem and size."""
    for problem, place, pattern, sizes in (
        (KNAPSACK, "knapsack", "RKP_*_n{}_*", (20, 80)),
        (LOANS, "capital_budgeting_loans", "RC_N{}_*", (20, 100)),
    ):
        for n in sizes:

            def measure(
                problem: str = problem, place: str = place, pattern: str = pattern, n: int = n
            ) -> dict[str, Any]:
                parts = []
                group = files(folder / place / "instances", pattern.format(n), problem)
                for instance in group:
                    # What is compiled is loaded first.
                    instance.two_stage.recourse_at(
                        np.zeros(instance.two_stage.n),
                        np.zeros(instance.two_stage.uncertainty.dimension),
                    )
                    for x in first_stages(instance):
                        begun = time.perf_counter()
                        found = instance.two_stage.worst_case(x)
                        took = time.perf_counter() - begun
                        parts.append(
                            (took, {"instance": instance.name, "exact": bool(found.exact)})
                        )
                return times(parts)

            yield f"evaluation-{problem}-n{n}", measure


def labels(jobs: int) -> Rows:
    """One row."""

    def measure() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            count = -(-LABELS // (A * B))
            made = label(
                KNAPSACK, Path(folder) / "labels.npz", instances=count, seed=1, a=A, b=B, jobs=jobs
            )
            return {"seconds": time.perf_counter() - begun, "labels": made, "jobs": jobs}

    yield f"labels-{KNAPSACK}-{jobs}", measure


def times(parts: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """What a row says of its runs."""
    if not parts:
        raise SystemExit("no such files; give the folder that holds knapsack/instances.")
    seconds = [took for took, _ in parts]
    return {
        "seconds": max(seconds), "median": statistics.median(seconds),
        "runs": [{"seconds": took, **more} for took, more in parts],
    }  # fmt: skip


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="processes that make labels")
    parser.add_argument("--only", default="", help="rows whose key begins with this")
    arguments = parser.parse_args()
    rows = RowFile(arguments.out)
    for part in (masters(arguments.data), evaluations(arguments.data), labels(arguments.jobs)):
        for key, measure in part:
            if key in rows or not key.startswith(arguments.only):
                continue
            row = rows.add(key, measure())
            print(f"{key}: {row['seconds']:.3f} s", flush=True)


if __name__ == "__main__":
    main()
