"""Does memory over a family pay? The tenth instance after nine others, against a cold start.

Rows are JSON lines, keyed and resumable; the memory itself is made anew for each seed.
"""

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

from nco import api
from nco.bench import RowFile
from nco.instances.mip import MIP

SETS = {"set-cover": (4000, {"rows": 5000}), "auction": (1500, {"items": 300})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--before", type=int, default=9, help="instances before the last one")
    arguments = parser.parse_args()
    rows = RowFile(arguments.out)
    for family, (n, options) in SETS.items():
        for seed in range(arguments.seeds):
            last = MIP.generate(n, seed=100 + arguments.before, distribution=family, **options)
            what = f"{seed}-{arguments.seconds:g}-{arguments.before}-{version('nco')}"
            key = f"memory-{last.digest[:16]}-{what}"
            if f"{key}-warm" in rows:
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "arms.json")
                for number in range(arguments.before):
                    instance = MIP.generate(n, seed=100 + number, distribution=family, **options)
                    api.solve(instance, "balans", arguments.seconds, seed, memory=path)
                for spec, params in (("balans", {}), ("balans:memory", {"memory": path})):
                    result = api.solve(last, "balans", arguments.seconds, seed, **params)
                    row = json.loads(result.to_json())
                    row.pop("solution", None)
                    row |= {
                        "instance": last.name,
                        "spec": spec,
                        "time_limit": arguments.seconds,
                        "seed": seed,
                    }
                    rows.add(f"{key}-{'warm' if params else 'cold'}", row)


if __name__ == "__main__":
    main()
