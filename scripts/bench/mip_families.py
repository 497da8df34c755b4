"""Write three instances of each generated family, as the MIP campaign uses them."""

import argparse
from pathlib import Path

from nco.instances import io
from nco.instances.mip import MIP

#: Family -> size and options, those of the published sets.
SETS = {
    "set-cover": (4000, {"rows": 5000}),
    "auction": (1500, {"items": 300}),
    "independent-set": (9000, {"affinity": 5}),
    "vertex-cover": (9000, {"affinity": 5}),
    "gisp": (150, {"p": 0.3, "alpha": 0.25}),
    "multiple-knapsack": (400, {"knapsacks": 40}),
}


#: Further single ones: 100,000 columns, for the overhead outside of engines.
WIDE = ("set-cover", 100_000, {"rows": 2000, "density": 0.005})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=3, help="instances per family")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for family, (n, options) in SETS.items():
        for seed in range(arguments.count):
            path = arguments.folder / f"{family}-{seed}.mps.gz"
            io.write(MIP.generate(n, seed=seed, distribution=family, **options), path)
    family, n, options = WIDE
    path = arguments.folder / f"wide-{family}-0.mps.gz"
    io.write(MIP.generate(n, seed=0, distribution=family, **options), path)


if __name__ == "__main__":
    main()
