"""The starts of udc beside each other: what they cost, and after stages of a classical conqueror.

python scripts/bench/udc_starts.py cvrp ovrp atsp tsp --n 300 --count 3 --stages 5
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import nco
from nco.instances.core import Budget
from nco.udc.dividers import load_divider
from nco.udc.solver import HEATS, UDC

CONQUERORS = {"tsp": "or-opt", "atsp": "or-opt", "op": "prize-tour", "pctsp": "prize-tour"}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="+")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--stages", type=int, default=5)
    options = parser.parse_args()
    print("| problem | start | of itself | after stages | seconds of processor |")
    print("|---|---|---|---|---|")
    for problem in options.problems:
        divider = load_divider(problem)
        assert divider is not None
        drawn = HEATS[1:] if divider.graph else ()
        best = None
        for name in (*divider.starts, *drawn):
            conquer = CONQUERORS.get(problem, "ruin-recreate")
            solver = UDC(divide=name, conquer=conquer, stages=options.stages, size=50)
            begin, starts, ends = time.process_time(), [], []
            for seed in range(options.count):
                result = solver.solve(nco.generate(problem, options.n, seed=seed), Budget())
                starts.append(result.trajectory[0].objective)
                ends.append(result.objective)
            best = best or np.mean(ends)
            change = 100 * (np.mean(ends) / best - 1)
            print(
                f"| {problem} | {name} | {np.mean(starts):.5g} | {np.mean(ends):.5g} "
                f"({change:+.1f} %) | {time.process_time() - begin:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
