"""What the adapters to routing libraries share."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Distances, Instance, SpatialInstance
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP


def space_arrays(instance: SpatialInstance[Any]) -> dict[str, NDArray[Any]]:
    """Coordinates or matrix of an instance, for a worker process."""
    if instance.matrix is not None:
        return {"matrix": instance.matrix}
    assert instance.coords is not None
    return {"coords": instance.coords, "metric": np.array(instance.metric)}


def distances_of(arrays: dict[str, NDArray[Any]]) -> Distances:
    """The inverse of `space_arrays`, in the worker."""
    if "matrix" in arrays:
        return Distances(matrix=arrays["matrix"])
    return Distances(coords=arrays["coords"], metric=str(arrays["metric"]))


def integer_matrix(distances: Distances, largest: float) -> tuple[NDArray[np.int64], float]:
    """Costs as integers [n, n] and the factor they were multiplied with.

    Integral costs stay as they are where they fit; others are scaled so that the
    largest becomes ``largest``.
    """
    matrix = distances.matrix
    top = float(matrix.max()) if matrix.size else 0.0
    if distances.integral and top <= largest:
        return matrix.astype(np.int64), 1.0
    scale = largest / top if top > 0 else 1.0
    return np.rint(matrix * scale).astype(np.int64), scale


def version(package: str) -> dict[str, str]:
    """Name and version of the library behind a solver."""
    return {package: importlib.metadata.version(package)}


def check_start(instance: Instance[Any], start: Any) -> None:
    """Refuse an infeasible start.

    Raises
    ------
    ValueError
        With its first violation.
    """
    if start is not None:
        problems = instance.violations(start)
        if problems:
            raise ValueError(f"start is infeasible: {problems[0]}.")


def too_few_vehicles(instance: CVRP) -> bool:
    """Whether the fleet surely cannot carry the demand."""
    return (
        instance.vehicles is not None
        and float(instance.demands.sum()) > instance.vehicles * instance.capacity
    )


def is_symmetric_tsp(instance: Instance[Any], most: int) -> str | None:
    """The reason why a symmetric tour solver with n^2 memory cannot take an instance."""
    if not isinstance(instance, TSP):
        return f"solves tsp, not {instance.problem}"
    if not instance.distances.symmetric:
        return "needs symmetric costs"
    if instance.n > most:
        return f"needs n <= {most}"
    return None
