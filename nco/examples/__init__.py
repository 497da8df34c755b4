"""Small instance files that ship with the package: public benchmarks and generated ones."""

from __future__ import annotations

import csv
from pathlib import Path

from nco.instances.core import InputError

FOLDER = Path(__file__).parent


def _rows() -> list[dict[str, str]]:
    with (FOLDER / "references.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def references() -> dict[str, float]:
    """Best known objectives by file name."""
    return {row["file"]: float(row["best_known"]) for row in _rows()}


def files(problem: str) -> list[Path]:
    """The instance files of a problem."""
    return [FOLDER / row["file"] for row in _rows() if row["problem"] == problem]


def path(name: str) -> Path:
    """The path of a file: ``nco.examples.path("berlin52.tsp")``.

    Raises
    ------
    InputError
        When there is no such file.
    """
    found = FOLDER / name
    if found.parent != FOLDER or not found.is_file():
        known = ", ".join(references())
        raise InputError(None, None, f"no example {name!r}", f"known: {known}")
    return found
