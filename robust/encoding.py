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
from nco.robust.own_encoding import OwnEncoder
from nco.robust.two_stage import TwoStageProblem

Vector = NDArray[np.float64]
Fields = Mapping[str, NDArray[Any]]


class Encoder(Protocol):
    """One problem's encoding."""

    #: Names of the fields that `fields` gives.
    names: ClassVar[tuple[str, ...]]
    #: Whether some second stages are infeasible, so that the score matters.
    scored: ClassVar[bool]
    #: What the master has of the second stage by default; see `nco.robust.neur2ro.Neur2RO`.
    master: ClassVar[str]

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

    def seen(self, problem: TwoStageProblem) -> NDArray[np.intp]:
        """The first-stage columns that the network sees, in the order of its items."""
        ...


def price(value: Vector, weight: Vector, capacity: Vector) -> Vector:
    """What a unit of capacity is worth [g] when all items [g, n] may be packed.

    The value per weight of the item that breaks in Dantzig's relaxation. Weights times it
    are in units of value, and what an item brings beyond them is a linear function.
    """
    ratio = value / weight
    order = np.argsort(-ratio, axis=1, kind="stable")
    filled = np.cumsum(np.take_along_axis(weight, order, 1), axis=1)
    place = np.minimum((filled <= capacity[:, None]).sum(1), value.shape[1] - 1)
    rows = np.arange(len(value))
    return np.asarray(ratio[rows, order[rows, place]])


@dataclass(frozen=True)
class KnapsackEncoder:
    """Two-stage knapsack: one set, the items; xi counts as the value it destroys."""

    names: ClassVar[tuple[str, ...]] = ("f", "d", "c", "t", "capacity")
    scored: ClassVar[bool] = False
    master: ClassVar[str] = "value"

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
        """Value, loss, priced weights, efficiencies; capacity by weight and priced."""
        f, d, c, t = (np.asarray(fields[k], dtype=float) for k in "fdct")
        unit, rate = f.mean(1, keepdims=True), price(f, c, fields["capacity"])[:, None]
        f, d, c, t = f / unit, d / unit, rate * c / unit, rate * t / unit
        room = np.asarray(fields["capacity"], dtype=float)[:, None]
        share = np.broadcast_to(room / fields["c"].sum(1, keepdims=True), f.shape)
        worth = np.broadcast_to(rate * room / fields["f"].sum(1, keepdims=True), f.shape)
        parts = [f, d, c, t, f / (f + c), f / (f + c + t), share, worth]
        return {"items": np.stack(parts, -1)}

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """Value that the scenario destroys, by the mean value."""
        d, unit = fields["d"], fields["f"].mean(1)
        return {"items": (xi * d[:, None] / unit[:, None, None])[..., None]}

    def scale(self, fields: Fields) -> Vector:
        """The value of all items without any loss."""
        return np.asarray(fields["f"], dtype=float).sum(1)

    def seen(self, problem: TwoStageProblem) -> NDArray[np.intp]:
        """All."""
        return np.arange(problem.n)


@dataclass(frozen=True)
class CapitalBudgetingEncoder:
    """Capital budgeting: projects with the cost and revenue that the scenario gives them."""

    names: ClassVar[tuple[str, ...]] = ("cost", "revenue", "phi", "psi", "budget")
    scored: ClassVar[bool] = True
    master: ClassVar[str] = "value"

    def fields(self, instance: Any) -> dict[str, NDArray[Any]]:
        """The arrays of one instance, g = 1."""
        return {
            "cost": np.asarray(instance.costs, dtype=float)[None],
            "revenue": np.asarray(instance.revenues, dtype=float)[None],
            "phi": np.asarray(instance.phi, dtype=float)[None],
            "psi": np.asarray(instance.psi, dtype=float)[None],
            "budget": np.asarray([instance.budget], dtype=float),
        }

    def _units(self, fields: Fields) -> tuple[Vector, Vector, Vector]:
        """Mean revenue [g, 1] and the price of the budget in it."""
        c, r = (np.asarray(fields[k], dtype=float) for k in ("cost", "revenue"))
        unit = r.mean(1, keepdims=True)
        room = np.asarray(fields["budget"], dtype=float)
        return unit, price(r, c, room)[:, None] / unit, room[:, None]

    def features(self, fields: Fields) -> dict[str, Vector]:
        """Revenue, priced cost, efficiency; budget by cost and priced."""
        unit, rate, room = self._units(fields)
        c, r = rate * fields["cost"], fields["revenue"] / unit
        share = np.broadcast_to(room / fields["cost"].sum(1, keepdims=True), c.shape)
        worth = np.broadcast_to(rate * room / c.shape[1], c.shape)
        return {"items": np.stack([r, c, r / (r + c), share, worth], -1)}

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """Revenue and priced cost in the scenario."""
        unit, rate, _ = self._units(fields)
        c = (1.0 + 0.5 * np.einsum("gnm,gbm->gbn", fields["phi"], xi)) * fields["cost"][:, None]
        r = (1.0 + 0.5 * np.einsum("gnm,gbm->gbn", fields["psi"], xi)) * fields["revenue"][:, None]
        return {"items": np.stack([r / unit[:, None], rate[:, None] * c], -1)}

    def scale(self, fields: Fields) -> Vector:
        """The nominal revenue of all projects."""
        return np.asarray(fields["revenue"], dtype=float).sum(1)

    def seen(self, problem: TwoStageProblem) -> NDArray[np.intp]:
        """All."""
        return np.arange(problem.n)


#: Scenarios of capital budgeting with loans have at most so many entries while training.
MOST_FACTORS = 8


@dataclass(frozen=True)
class LoansEncoder:
    """Capital budgeting with loans; the early loan is one more item, of negative cost."""

    names: ClassVar[tuple[str, ...]] = (
        "profit", "cost", "loadings", "budget", "late_loan", "late_price", "late_share",
    )  # fmt: skip
    scored: ClassVar[bool] = False
    master: ClassVar[str] = "value"

    def fields(self, instance: Any) -> dict[str, NDArray[Any]]:
        """The arrays of one instance, g = 1; loadings filled up with zeros."""
        own = np.asarray(instance.loadings, dtype=float)
        n, m = own.shape
        loadings = np.zeros((n + 1, max(m, MOST_FACTORS)))
        loadings[:n, :m] = own
        return {
            "profit": np.append(instance.profits, 0.0)[None].astype(float),
            "cost": np.append(instance.costs, -instance.early_loan)[None].astype(float),
            "loadings": loadings[None],
            "budget": np.array([float(instance.budget)]),
            "late_loan": np.array([float(instance.late_loan)]),
            "late_price": np.array([float(instance.late_price)]),
            "late_share": np.array([float(instance.late_share)]),
        }

    def _units(self, fields: Fields) -> tuple[Vector, Vector]:
        """Mean profit of the projects [g, 1] and the price of the budget in it."""
        c, p = fields["cost"][:, :-1], fields["profit"][:, :-1]
        unit = p.mean(1, keepdims=True)
        return unit, price(p, c, fields["budget"])[:, None] / unit

    def features(self, fields: Fields) -> dict[str, Vector]:
        """Profit and priced cost; budget, late loan, its price and the late share."""
        unit, rate = self._units(fields)
        p, c = fields["profit"] / unit, rate * fields["cost"]
        n = c.shape[1] - 1
        loan = np.zeros_like(c)
        loan[:, -1] = 1.0

        def spread(values: Vector) -> Vector:
            return np.broadcast_to(values, c.shape)

        parts = [
            p, c, loan, spread(rate * fields["budget"][:, None] / n),
            spread(rate * fields["late_loan"][:, None] / n),
            spread(fields["late_price"][:, None] / unit / n),
            spread(fields["late_share"][:, None]),
        ]  # fmt: skip
        return {"items": np.stack(parts, -1)}

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """Profit in the scenario."""
        unit, _ = self._units(fields)
        q = xi.shape[2]
        moved = 1.0 + 0.5 * np.einsum("gnm,gbm->gbn", fields["loadings"][:, :, :q], xi)
        return {"items": (moved * (fields["profit"] / unit)[:, None])[..., None]}

    def scale(self, fields: Fields) -> Vector:
        """The nominal profit of all projects."""
        return np.asarray(fields["profit"], dtype=float).sum(1)

    def seen(self, problem: TwoStageProblem) -> NDArray[np.intp]:
        """All, the early loan last."""
        return np.arange(problem.n)


#: How near a customer counts for a site: costs by these shares of the mean cost.
NEAR = (0.1, 0.25, 0.5)


@dataclass(frozen=True)
class FacilityLocationEncoder:
    """Facility location: sites, with the demand near them that the scenario makes."""

    names: ClassVar[tuple[str, ...]] = (
        "costs", "capacities", "demands", "deviations", "penalties",
    )  # fmt: skip
    scored: ClassVar[bool] = False
    master: ClassVar[str] = "second-stage"

    def fields(self, instance: Any) -> dict[str, NDArray[Any]]:
        """The arrays of one instance, g = 1."""
        return {name: np.asarray(getattr(instance, name), dtype=float)[None] for name in self.names}

    def _units(self, fields: Fields) -> tuple[Vector, Vector]:
        """All least demands [g, 1] and the mean cost [g, 1, 1]."""
        total = np.asarray(fields["demands"], dtype=float).sum(1, keepdims=True)
        return total, np.asarray(fields["costs"]).mean((1, 2))[:, None, None]

    def _kernels(self, fields: Fields) -> Vector:
        """What of a customer's demand a site sees [g, n, m, k]: by nearness, and as nearest."""
        cost, (_, unit) = np.asarray(fields["costs"], dtype=float), self._units(fields)
        near = [np.exp(-cost / (r * unit)) for r in NEAR]
        n = cost.shape[1]
        own = float(n) * (cost.argmin(1)[:, None] == np.arange(n)[:, None])
        return np.stack([*near, own, np.ones_like(cost)], -1)

    def _places(self, fields: Fields) -> Vector:
        """Where sites lie [g, n, 2], as far as costs tell, by the mean cost.

        Classical scaling (W. Torgerson, Multidimensional scaling: I, Psychometrika 17, 1952)
        of ways from site to site by way of a customer; axes point to the longer tail.
        """
        out = []
        for cost, unit in zip(fields["costs"], self._units(fields)[1], strict=True):
            ways = np.array([(row + cost).min(1) for row in np.asarray(cost, dtype=float)])
            np.fill_diagonal(ways, 0.0)
            squares = ways**2
            middle = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
            values, vectors = np.linalg.eigh(-0.5 * middle)
            size = np.sqrt(np.maximum(0.0, values[::-1][:2]))
            axes = np.zeros((len(cost), 2))
            axes[:, : len(size)] = vectors[:, ::-1][:, :2] * size
            out.append(axes * np.where((axes**3).sum(0) < 0.0, -1.0, 1.0) / unit)
        return np.array(out)

    def features(self, fields: Fields) -> dict[str, Vector]:
        """Capacity, demand around, what filling the capacity costs, near customers, penalty.

        And where the site lies.
        """
        cost, d = (np.asarray(fields[k], dtype=float) for k in ("costs", "demands"))
        total, unit = self._units(fields)
        n = cost.shape[1]
        room = n * fields["capacities"] / total
        around = np.einsum("gnmk,gm->gnk", self._kernels(fields), d / total)[..., :-1]
        cost = cost / unit
        order = np.argsort(cost, axis=2)
        ranked = np.take_along_axis(cost, order, 2)
        served = np.take_along_axis(np.broadcast_to(d[:, None], cost.shape), order, 2)
        # The nearest demand that the capacity can serve, and what a unit of it costs.
        limit = np.minimum(np.cumsum(served, 2), fields["capacities"][:, :, None])
        part = np.diff(limit, axis=2, prepend=0.0)
        filling = (part * ranked).sum(2) / np.maximum(1e-9, part.sum(2))
        mean = (cost * d[:, None]).sum(2) / total
        places = [ranked[:, :, int(q * (cost.shape[2] - 1))] for q in (0.1, 0.3, 0.6)]
        spread = np.broadcast_to((fields["penalties"] / unit[:, 0]).mean(1)[:, None], room.shape)
        size = np.full_like(room, 1.0 / n)
        parts = [room, filling, mean, *places, spread, size]
        return {"items": np.concatenate([np.stack(parts, -1), around, self._places(fields)], -1)}

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """Demand near each site, that it is nearest to, and of all."""
        total, _ = self._units(fields)
        demand = fields["demands"][:, None] + fields["deviations"][:, None] * xi
        seen = np.einsum("gnmk,gbm->gbnk", self._kernels(fields), demand / total[:, None])
        return {"items": seen}

    def scale(self, fields: Fields) -> Vector:
        """What all least demands cost at the mean cost."""
        total, unit = self._units(fields)
        return np.asarray(total[:, 0] * unit[:, 0, 0])

    def seen(self, problem: TwoStageProblem) -> NDArray[np.intp]:
        """All."""
        return np.arange(problem.n)


#: Problem -> its encoder.
ENCODERS: dict[str, Encoder] = {
    "two-stage": OwnEncoder(),
    "two-stage-knapsack": KnapsackEncoder(),
    "capital-budgeting": CapitalBudgetingEncoder(),
    "capital-budgeting-loans": LoansEncoder(),
    "facility-location": FacilityLocationEncoder(),
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
    low, width
        First stages enter as ``(x - low) / width`` [n]; by default as they are.
    """

    features: tuple[Vector, ...]
    base: tuple[Vector | None, ...]
    slope: tuple[Vector | None, ...]
    scale: float
    low: Vector | float = 0.0
    width: Vector | float = 1.0

    def inputs(self, x: Vector) -> Vector:
        """First stages [..., n] as the network sees them."""
        return np.asarray((x - self.low) / self.width)

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
        *(fields[k][0] for k in ("low", "width") if k in fields),
    )
