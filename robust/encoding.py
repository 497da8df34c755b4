"""What the value network sees of each problem: features free of scale, affine in xi.

Fields are an instance's arrays with a leading axis [g, ...] of instances of one size, so
that training and solving share every formula. Values and numbers are divided by means of
the instance: one network serves all sizes and units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import InputError

Vector = NDArray[np.float64]
Fields = Mapping[str, NDArray[Any]]


class Encoder(Protocol):
    """One problem's encoding."""

    #: Names of the fields that `fields` gives.
    names: ClassVar[tuple[str, ...]]
    #: Whether some second stages are infeasible, so that the score matters.
    scored: ClassVar[bool]

    def fields(self, instance: Any) -> dict[str, NDArray[Any]]:
        """The arrays of one instance, g = 1."""
        ...

    def features(self, fields: Fields) -> dict[str, Vector]:
        """Name of a set of elements -> its fixed numbers [g, n, k]."""
        ...

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """Name of a set -> its numbers [g, b, n, m], affine in the scenarios [g, b, q]."""
        ...

    def scale(self, fields: Fields) -> Vector:
        """What the network's value is multiplied with [g]."""
        ...


@dataclass(frozen=True)
class KnapsackEncoder:
    """Two-stage knapsack: one set, the items; xi counts as the value it destroys."""

    names: ClassVar[tuple[str, ...]] = ("f", "d", "c", "t", "capacity")
    scored: ClassVar[bool] = False

    def fields(self, instance: Any) -> dict[str, NDArray[Any]]:
        """The arrays of one instance, g = 1."""
        return {
            "f": np.asarray(instance.outsourcing_costs, dtype=float)[None],
            "d": np.asarray(instance.degradations, dtype=float)[None],
            "c": np.asarray(instance.weights, dtype=float)[None],
            "t": np.asarray(instance.repair_weights, dtype=float)[None],
            "capacity": np.asarray([instance.capacity], dtype=float),
        }

    def features(self, fields: Fields) -> dict[str, Vector]:
        """Value, loss and weights by their means, efficiencies, capacity by weight."""
        f, d, c, t = (np.asarray(fields[k], dtype=float) for k in "fdct")
        unit, weight = f.mean(1, keepdims=True), c.mean(1, keepdims=True)
        f, d, c, t = f / unit, d / unit, c / weight, t / weight
        room = np.broadcast_to((fields["capacity"] / fields["c"].sum(1))[:, None], f.shape)
        return {"items": np.stack([f, d, c, t, f / (f + c), f / (f + c + t), room], -1)}

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """Value that the scenario destroys, by the mean value."""
        d, unit = fields["d"], fields["f"].mean(1)
        return {"items": (xi * d[:, None] / unit[:, None, None])[..., None]}

    def scale(self, fields: Fields) -> Vector:
        """The value of all items without any loss."""
        return np.asarray(fields["f"], dtype=float).sum(1)


@dataclass(frozen=True)
class CapitalBudgetingEncoder:
    """Capital budgeting: projects with the cost and revenue that the scenario gives them."""

    names: ClassVar[tuple[str, ...]] = ("cost", "revenue", "phi", "psi", "budget")
    scored: ClassVar[bool] = True

    def fields(self, instance: Any) -> dict[str, NDArray[Any]]:
        """The arrays of one instance, g = 1."""
        return {
            "cost": np.asarray(instance.costs, dtype=float)[None],
            "revenue": np.asarray(instance.revenues, dtype=float)[None],
            "phi": np.asarray(instance.phi, dtype=float)[None],
            "psi": np.asarray(instance.psi, dtype=float)[None],
            "budget": np.asarray([instance.budget], dtype=float),
        }

    def _units(self, fields: Fields) -> tuple[Vector, Vector]:
        return fields["cost"].mean(1)[:, None], fields["revenue"].mean(1)[:, None]

    def features(self, fields: Fields) -> dict[str, Vector]:
        """Cost and revenue by their means, their ratio, budget by cost."""
        unit, gain = self._units(fields)
        c, r = fields["cost"] / unit, fields["revenue"] / gain
        room = np.broadcast_to((fields["budget"] / fields["cost"].sum(1))[:, None], c.shape)
        return {"items": np.stack([c, r, r / (r + c), room], -1)}

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """Cost and revenue in the scenario, by their means."""
        unit, gain = self._units(fields)
        c = (1.0 + 0.5 * np.einsum("gnm,gbm->gbn", fields["phi"], xi)) * fields["cost"][:, None]
        r = (1.0 + 0.5 * np.einsum("gnm,gbm->gbn", fields["psi"], xi)) * fields["revenue"][:, None]
        return {"items": np.stack([c / unit[:, None], r / gain[:, None]], -1)}

    def scale(self, fields: Fields) -> Vector:
        """The nominal revenue of all projects."""
        return np.asarray(fields["revenue"], dtype=float).sum(1)


#: Problem -> its encoder.
ENCODERS: dict[str, Encoder] = {
    "two-stage-knapsack": KnapsackEncoder(),
    "capital-budgeting": CapitalBudgetingEncoder(),
}


def encoder_of(problem: str) -> Encoder:
    """The encoder of a problem.

    Raises
    ------
    InputError
        When it has none.
    """
    if problem not in ENCODERS:
        known = ", ".join(ENCODERS)
        raise InputError(None, None, f"no value network knows {problem}", f"known: {known}")
    return ENCODERS[problem]


@dataclass(frozen=True)
class Encoding:
    """One instance as the network sees it.

    Parameters
    ----------
    features
        Per stream, fixed numbers [n, k].
    base, slope
        Per stream, scenario-dependent numbers ``base + slope xi``: [n, m] and [n, m, q];
        None for streams that do not see the scenario.
    scale
        Factor of the network's value.
    """

    features: tuple[Vector, ...]
    base: tuple[Vector | None, ...]
    slope: tuple[Vector | None, ...]
    scale: float

    def scenario(self, xi: Vector) -> list[Vector | None]:
        """Per stream, the numbers [b, n, m] at scenarios [b, q]."""
        out: list[Vector | None] = []
        for base, slope in zip(self.base, self.slope, strict=True):
            if base is None or slope is None:
                out.append(None)
            else:
                out.append(base + np.einsum("nmq,bq->bnm", slope, xi))
        return out


def encode(encoder: Encoder, streams: Sequence[Any], instance: Any, dimension: int) -> Encoding:
    """The encoding of one instance, for the streams of a network.

    Parameters
    ----------
    encoder
        The problem's.
    streams
        `nco.robust.network.Stream` of the network.
    instance
        The problem's instance.
    dimension
        Length q of a scenario.
    """
    fields = encoder.fields(instance)
    features = encoder.features(fields)
    points = np.concatenate([np.zeros((1, dimension)), np.eye(dimension)])[None]
    values = encoder.scenario(fields, points)
    base: list[Vector | None] = []
    slope: list[Vector | None] = []
    for stream in streams:
        if not stream.scenario:
            base.append(None)
            slope.append(None)
            continue
        u = values[stream.elements][0]
        base.append(u[0])
        slope.append(np.moveaxis(u[1:] - u[:1], 0, -1))
    return Encoding(
        tuple(features[s.elements][0] for s in streams),
        tuple(base),
        tuple(slope),
        float(encoder.scale(fields)[0]),
    )
