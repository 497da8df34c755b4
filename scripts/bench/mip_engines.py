"""Peak memory and first solutions of `balans` beside those of the engines it drives.

Every run is a process of its own, and ``mib`` its peak; ``mib_before`` is what it held before
the solve (libraries, the instance). Rows are JSON lines, keyed and resumable; `mip_report.py`
compares the peaks of whole processes.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from nco.bench import RowFile

SPECS = ("highs", "scip", "balans")

#: Reads a task from stdin, prints one row. Seconds are the wall clock's, from the call on.
PROGRAM = """
import json, resource, sys, time
from nco import api
from nco.instances import io

task = json.load(sys.stdin)
instance = io.read(task["file"])
name, params = api.parse_solver(task["spec"])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, begin, first = peak(), time.monotonic(), []

def listen(event):
    if event.objective is not None and not first:
        first.append(time.monotonic() - begin)

result = api.solve(instance, name, task["time_limit"], task["seed"], on_event=listen, **params)
row = json.loads(result.to_json()) | {
    "mib_before": before, "mib": peak(), "first": first[0] if first else None,
}
row.pop("solution")
print(json.dumps(row, allow_nan=False))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    rows = RowFile(arguments.out)
    for file in arguments.files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        for seed in range(arguments.seeds):
            for spec in SPECS:
                key = f"engines-{digest}-{spec}-{seed}-{arguments.seconds:g}-{version('nco')}"
                if key in rows:
                    continue
                task = {
                    "file": str(file),
                    "spec": spec,
                    "seed": seed,
                    "time_limit": arguments.seconds,
                }
                done = subprocess.run(
                    [sys.executable, "-c", PROGRAM],
                    input=json.dumps(task),
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                row = json.loads(done.stdout.splitlines()[-1])
                rows.add(key, row | task | {"file": file.name})


if __name__ == "__main__":
    main()
