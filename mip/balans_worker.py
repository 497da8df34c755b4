"""Run the ``balans`` package in an interpreter that has it; imports nothing of ours.

Usage: ``python balans_worker.py MODEL SECONDS SEED``. One JSON line for every solution that
becomes its best one: ``[seconds, {column index: value}]``, after a first line of versions.
"""

import json
import sys
import time
from typing import Any


def main() -> None:
    """Solve one model and report."""
    begin = time.monotonic()
    path, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    out = sys.stdout
    # The package prints its progress.
    sys.stdout = sys.stderr
    from importlib.metadata import version

    from alns.ALNS import ALNS
    from alns.stop import MaxRuntime
    from balans.solver import Balans
    from balans.utils import Constants

    names = ("balans", "alns", "mabwiser", "pyscipopt")
    print(json.dumps({name: version(name) for name in names}), file=out, flush=True)
    whole = ALNS.iterate

    def report(state: Any, *_: Any, **__: Any) -> None:
        values = {str(k): float(v) for k, v in state.index_to_val.items() if v}
        print(json.dumps([time.monotonic() - begin, values]), file=out, flush=True)

    def iterate(self: Any, initial: Any, *arguments: Any, **options: Any) -> Any:
        report(initial)
        self.on_best(report)
        return whole(self, initial, *arguments, **options)

    ALNS.iterate = iterate
    left = seconds - (time.monotonic() - begin)
    # The package draws below its seed, of which 0 leaves nothing; its own one comes first.
    Balans(seed=Constants.default_seed + seed, stop=MaxRuntime(left)).solve(path)


if __name__ == "__main__":
    main()
