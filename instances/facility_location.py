"""Facility location whose demands are known only after the sites are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Sense, as_number, frozen_array
from nco.instances.two_stage import TwoStageInstance

if TYPE_CHECKING:
    from nco.robust.two_stage import TwoStageProblem

SITES = ("fixed_costs", "capacities")
CUSTOMERS = ("demands", "deviations", "penalties")


@dataclass(frozen=True, eq=False, kw_only=True)
class FacilityLocation(TwoStageInstance):
    """Open sites x; the scenario raises demands; then ship y and leave u unmet.

    ``min sum f x + max_xi min_(y,u) sum c y + p u`` over ``sum_i y_ij + u_j >= d_j + e_j
    xi_j, sum_j y_ij <= s_i x_i``, x binary, y and u not negative, and ``0 <= xi <= 1, sum xi
    <= gamma`` (the demand uncertainty of B. Zeng and L. Zhao, Operations Research Letters 41,
    2013, section 4; unmet demand is paid for, so that all sites may be closed). The recourse
    is y, site by site, then u.

    Parameters
    ----------
    fixed_costs, capacities
        Cost f of opening a site and what it can ship s [n].
    costs
        Cost c of shipping a unit from a site to a customer [n, m].
    demands, deviations
        Least demand d and what the scenario may add e [m].
    penalties
        Cost p of a unit of unmet demand [m].
    gamma
        How many demands may rise in full.

    Raises
    ------
    ValueError
        When shapes disagree, numbers are negative or not finite, or gamma is not within 0
        and m.
    """

    problem: ClassVar[str] = "facility-location"
    sense: Sense = field(default=Sense.MINIMIZE, init=False, repr=False)

    fixed_costs: NDArray[Any]
    capacities: NDArray[Any]
    costs: NDArray[Any] = field(metadata={"ndim": 2})
    demands: NDArray[Any]
    deviations: NDArray[Any]
    penalties: NDArray[Any]
    gamma: float

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        for names, what in ((SITES, "site"), (("costs",), "site"), (CUSTOMERS, "customer")):
            for name in names:
                array = frozen_array(name, getattr(self, name), ndim=2 if name == "costs" else 1)
                if (array < 0).any():
                    k = int(np.argmax((array < 0).reshape(len(array), -1).any(1)))
                    raise ValueError(f"{what} {k}: {name} < 0.")
                object.__setattr__(self, name, array)
        n, m = self.costs.shape
        for names, size in ((SITES, n), (CUSTOMERS, m)):
            for name in names:
                if len(getattr(self, name)) != size:
                    raise ValueError(
                        f"{len(getattr(self, name))} {name} for costs of {n} sites and "
                        f"{m} customers."
                    )
        if not n or not m:
            raise ValueError("has no sites or no customers.")
        value = float(self.gamma)
        if not 0 <= value <= m:
            raise ValueError(f"gamma = {value:g} not understood; give 0 to {m}, the customers.")
        object.__setattr__(self, "gamma", as_number(value, value.is_integer()))

    @property
    def n(self) -> int:
        """Number of sites."""
        return len(self.fixed_costs)

    @cached_property
    def two_stage(self) -> TwoStageProblem:
        """First stage, recourse and uncertainty set."""
        from scipy import sparse

        from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
        from nco.robust.uncertainty import BudgetSet

        n, m = self.costs.shape
        f, s, c, d, e, p = (
            np.asarray(getattr(self, name), dtype=np.float64)
            for name in (*SITES, "costs", *CUSTOMERS)
        )
        eye = sparse.identity(m, format="csr")
        none = sparse.csr_array((m, n))

        def recourse(x: NDArray[Any], xi: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            from nco.robust.transport import transport_recourse

            costs, shipped, unmet = transport_recourse(c, s, p, d + e * xi, x)
            y = np.concatenate([shipped.reshape(*costs.shape, n * m), unmet], axis=-1)
            return -costs, y

        return TwoStageProblem(
            name=self.name,
            sense=Sense.MINIMIZE,
            first_stage=FirstStage(c=f),
            recourse=Recourse(
                q=np.concatenate([c.ravel(), p]),
                W=sparse.vstack([
                    sparse.hstack([sparse.kron(np.ones((1, n)), eye), eye]),
                    sparse.hstack([sparse.kron(sparse.identity(n), np.ones((1, m))),
                                   sparse.csr_array((n, m))]),
                ]),
                T=sparse.vstack([none, sparse.diags_array(-s)]),
                row_lower=np.concatenate([d, np.full(n, -math.inf)]),
                row_upper=np.concatenate([np.full(m, math.inf), np.zeros(n)]),
                h_xi=sparse.vstack([sparse.diags_array(e), sparse.csr_array((n, m))]),
            ),
            uncertainty=BudgetSet(m, float(self.gamma)),
            oracle=recourse,
            compiler=_compile,
        )  # fmt: skip

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """A random instance; see `random_sites`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        fields = generate._draw({"uniform": random_sites}, distribution, n, rng, options)
        return cls(**fields, name=f"{cls.problem}-{distribution}-n{n}-s{seed}")


def _compile() -> None:
    from nco.robust import transport

    transport.compile_shipments()


def random_sites(
    n: int,
    rng: np.random.Generator,
    *,
    customers: int | None = None,
    ratio: float = 3.0,
    deviation: float = 0.5,
    budget_factor: float = 0.1,
    penalty: float = 5.0,
) -> dict[str, Any]:
    """Fields drawn as G. Cornuejols, R. Sridharan and J. M. Thizy do, with demands that rise.

    Sites and customers are uniform in the unit square, demands on 5..35, capacities on
    10..160 and then scaled to ``ratio`` times all demands, fixed costs U(0, 90) + U(100, 110)
    sqrt(capacity); a unit costs 10 times the distance (A comparison of heuristics and
    relaxations for the capacitated plant location problem, EJOR 50, 1991, section 6).

    Parameters
    ----------
    n
        Number of sites.
    rng
        Source of randomness.
    customers
        Their number; default 2 n.
    ratio
        All capacities by all demands.
    deviation
        A demand may rise by this share of it.
    budget_factor
        Gamma is this share of the customers.
    penalty
        A unit of unmet demand costs so many times the longest way possible, 10 sqrt(2).

    Raises
    ------
    InputError
        When an option is out of range.
    """
    from nco.instances.generate import _check

    m = 2 * n if customers is None else customers
    _check(1 <= m <= 10**6, "1 <= customers <= 1000000")
    _check(0 <= budget_factor <= 1, "0 <= budget_factor <= 1")
    _check(ratio > 0 and math.isfinite(ratio), "ratio > 0")
    _check(all(math.isfinite(v) and v >= 0 for v in (deviation, penalty)), "options >= 0")
    sites, places = rng.random((n, 2)), rng.random((m, 2))
    d = rng.integers(5, 36, m)
    s = rng.uniform(10.0, 160.0, n)
    f = rng.uniform(0.0, 90.0, n) + rng.uniform(100.0, 110.0, n) * np.sqrt(s)
    s = np.maximum(1.0, np.rint(s * ratio * float(d.sum()) / s.sum()))
    return {
        "fixed_costs": np.round(f, 2),
        "capacities": s,
        "costs": np.round(10.0 * np.hypot(*(sites[:, None] - places[None]).transpose(2, 0, 1)), 4),
        "demands": d,
        "deviations": np.round(deviation * d, 2),
        "penalties": np.full(m, round(penalty * 10.0 * math.sqrt(2.0), 2)),
        "gamma": float(budget_factor * m),
    }
