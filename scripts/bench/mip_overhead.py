"""How much of its time `balans` spends outside of engines, on two large models.

Prints one JSON row per model; ``overhead`` is the share of the run in which no engine worked:
neighbourhoods, checks, the bandit, and waiting. Starters work beside the main engine, as they
do in any run.
"""

import argparse
import json
import sys

from nco import api
from nco.bench import stamped
from nco.instances.mip import MIP

#: Family -> size, options, and the share that is allowed.
MODELS = {
    "multiple-knapsack": (400, {"knapsacks": 40}, 0.03),
    "set-cover": (100_000, {"rows": 2000, "density": 0.005}, 0.05),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=MODELS, help="one of the two models")
    arguments = parser.parse_args()
    code = 0
    for family, (n, options, allowed) in MODELS.items():
        if arguments.only not in (None, family):
            continue
        instance = MIP.generate(n, seed=arguments.seed, distribution=family, **options)
        result = api.solve(instance, "balans", arguments.seconds, arguments.seed)
        overhead = 1.0 - result.extra["engine_seconds"] / result.seconds
        row = {
            "instance": instance.name,
            "columns": instance.n,
            "entries": int(instance.A.nnz),
            "time_limit": arguments.seconds,
            "seed": arguments.seed,
            "seconds": result.seconds,
            "engine_seconds": result.extra["engine_seconds"],
            "iterations": result.extra["iterations"],
            "overhead": round(overhead, 5),
            "allowed": allowed,
            "objective": result.objective,
            "versions": dict(result.versions),
        }
        print(json.dumps(stamped(row), allow_nan=False), flush=True)
        code = max(code, int(overhead >= allowed))
    return code


if __name__ == "__main__":
    sys.exit(main())
