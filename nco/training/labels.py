"""Solved instances on disk: solutions, and the recipe or the data of their instances.

Instances that were drawn from a seed are stored as a recipe and redrawn when read, so a
label costs about as many bytes as its solution has nodes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LabelError(ValueError):
    """Labels that cannot be read or contradict their instances; the text is one line."""


Arrays = dict[str, NDArray[Any]]


def _rng(seed: int, i: int) -> np.random.Generator:
    return np.random.default_rng([seed, i])


def uniform_tsp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: n points of ``default_rng([seed, i])`` in the unit square, float32."""
    coords = np.empty((count, n, 2), dtype=np.float32)
    for i in range(count):
        _rng(seed, first + i).random(out=coords[i], dtype=np.float32)
    return {"coords": coords}


def uniform_cvrp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: depot and n customers as `uniform_tsp`, then demands 1..9."""
    coords = np.empty((count, n + 1, 2), dtype=np.float32)
    demands = np.zeros((count, n + 1), dtype=np.int64)
    for i in range(count):
        rng = _rng(seed, first + i)
        rng.random(out=coords[i], dtype=np.float32)
        demands[i, 1:] = rng.integers(1, 10, n)
    return {"coords": coords, "demands": demands}


#: Recipe name -> (problem, function of seed, first instance, count and size).
RECIPES: dict[str, tuple[str, Callable[[int, int, int, int], Arrays]]] = {
    "tsp-uniform": ("tsp", uniform_tsp),
    "cvrp-uniform": ("cvrp", uniform_cvrp),
}


@dataclass(frozen=True)
class Labels:
    """Solved instances of one size.

    Parameters
    ----------
    problem
        The problem's name.
    fields
        Arrays of the instances and their solutions, the instance axis first.
    digest
        sha256 of problem and fields, to tie a training run to its data.
    """

    problem: str
    fields: Arrays
    digest: str

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def part(self, begin: int, end: int | None) -> Arrays:
        """The fields of instances ``begin..end-1``."""
        return {k: v[begin:end] for k, v in self.fields.items()}


def digest(problem: str, fields: Arrays) -> str:
    """sha256 of a set of labels."""
    sha = hashlib.sha256(problem.encode())
    for name, array in sorted(fields.items()):
        sha.update(f"{name}{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def read_labels(spec: str) -> Labels:
    """Read labels from ``PATH`` or ``PATH:RECIPE:SEED``.

    Parameters
    ----------
    spec
        A ``.npz`` written by `write_labels`; or any array file together with the recipe
        of its instances: ``.npy`` with one tour per row, or ``.npz`` whose arrays are
        completed by the recipe's.

    Raises
    ------
    LabelError
        When the file or the recipe is not understood, or a label is no solution of its
        instance.
    """
    path, *recipe = spec.rsplit(":", 2) if spec.count(":") >= 2 else [spec]
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LabelError(f"{path}: no labels: {' '.join(str(error).split())}") from None
    if isinstance(loaded, np.ndarray):
        fields: Arrays = {"tour": loaded}
    else:
        fields = {k: loaded[k] for k in loaded.files}
    first = 0
    if "meta" in fields:
        meta = json.loads(str(fields.pop("meta")))
        if meta.get("format") != 1:
            raise LabelError(f"{path}: label format {meta.get('format')} is not known; update nco")
        problem, first = meta["problem"], meta.get("first", 0)
        recipe = recipe or ([meta["recipe"], str(meta["seed"])] if "recipe" in meta else [])
    elif recipe and recipe[0] in RECIPES:
        problem = RECIPES[recipe[0]][0]
    else:
        raise LabelError(
            f"{path}: neither a label file nor given a recipe; write {path}:RECIPE:SEED with "
            f"one of {', '.join(RECIPES)}"
        )
    if recipe:
        if recipe[0] not in RECIPES or RECIPES[recipe[0]][0] != problem:
            raise LabelError(f"{path}: recipe {recipe[0]!r} for {problem} is not known")
        count, n = fields["tour"].shape
        fields |= RECIPES[recipe[0]][1](int(recipe[1]), first, count, n)
    check_labels(path, problem, fields)
    return Labels(problem, fields, digest(problem, fields))


def check_labels(path: str, problem: str, fields: Arrays) -> None:
    """Refuse labels that are no solutions of their instances.

    Raises
    ------
    LabelError
        Naming the first bad instance.
    """
    if "tour" in fields:
        tour = fields["tour"]
        shift = 1 if problem == "cvrp" else 0
        good = (np.sort(tour, 1) == np.arange(shift, tour.shape[1] + shift)).all(1)
        if not good.all():
            raise LabelError(f"{path}: label {int(np.argmin(good))} is no permutation of its nodes")


def write_labels(path: str | Path, problem: str, fields: Arrays, **meta: Any) -> None:
    """Write labels as one compressed ``.npz``, atomically.

    Parameters
    ----------
    path
        Target file.
    problem
        The problem's name.
    fields
        Solutions, and the instances' arrays where no recipe is given.
    meta
        ``recipe``, ``seed`` and ``first`` of instances that a recipe redraws; anything
        else worth keeping (expert, command, quality).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        text = json.dumps({"format": 1, "problem": problem, **meta})
        arrays: dict[str, Any] = {"meta": np.array(text), **fields}
        np.savez_compressed(file, **arrays)
    temporary.replace(path)
