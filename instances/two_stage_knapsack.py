"""The two-stage robust knapsack: accept orders, then produce, repair or outsource."""

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

ARRAYS = ("profits", "degradations", "repair_weights", "weights", "outsourcing_costs")


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoStageKnapsack(TwoStageInstance):
    """Accept orders x; the scenario takes away profit; then produce y and repair r.

    ``max sum (p - f) x + min_xi max_(y,r) sum (f - d xi) y + d xi r`` over ``sum c y + t r <=
    C, r <= y <= x``, all binary, and ``0 <= xi <= 1, sum xi <= gamma``; an order that is
    accepted and not produced is outsourced (A. Arslan and B. Detienne, INFORMS J. Computing
    34, 2022, section 5.1). The recourse is y, then r.

    Parameters
    ----------
    profits, degradations
        Profit p and largest loss of it d of every order [n].
    repair_weights, weights
        Capacity t for a repair and c for production [n].
    outsourcing_costs
        Cost f of outsourcing [n].
    capacity
        C.
    gamma
        How many orders may be hit in full.

    Raises
    ------
    ValueError
        When lengths disagree, numbers are negative or not finite, or gamma is not within 0
        and n.
    """

    problem: ClassVar[str] = "two-stage-knapsack"
    sense: Sense = field(default=Sense.MAXIMIZE, init=False, repr=False)

    profits: NDArray[Any]
    degradations: NDArray[Any]
    repair_weights: NDArray[Any]
    weights: NDArray[Any]
    outsourcing_costs: NDArray[Any]
    capacity: float
    gamma: float

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        for name in ARRAYS:
            array = frozen_array(name, getattr(self, name), ndim=1)
            if (array < 0).any():
                k = int(np.argmax(array < 0))
                raise ValueError(f"order {k}: {name} {array[k]} < 0.")
            object.__setattr__(self, name, array)
        if len({len(getattr(self, name)) for name in ARRAYS}) > 1:
            lengths = ", ".join(f"{len(getattr(self, name))} {name}" for name in ARRAYS)
            raise ValueError(f"lengths disagree: {lengths}.")
        if not self.n:
            raise ValueError("has no orders.")
        for name, most in (("capacity", math.inf), ("gamma", self.n)):
            value = float(getattr(self, name))
            if not (math.isfinite(value) and 0 <= value <= most):
                limits = "a number >= 0" if most == math.inf else f"0 to n = {self.n}"
                raise ValueError(f"{name} = {value:g} not understood; give {limits}.")
            object.__setattr__(self, name, as_number(value, value.is_integer()))

    @property
    def n(self) -> int:
        """Number of orders."""
        return len(self.profits)

    def _float(self, *names: str) -> list[NDArray[np.float64]]:
        return [np.asarray(getattr(self, name), dtype=np.float64) for name in names]

    @cached_property
    def two_stage(self) -> TwoStageProblem:
        """First stage, recourse and uncertainty set."""
        from scipy import sparse

        from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
        from nco.robust.uncertainty import BudgetSet

        n = self.n
        p, d, t, c, f = self._float(*ARRAYS)
        eye = sparse.identity(n, format="csr")
        none = sparse.csr_array((n, n))
        return TwoStageProblem(
            name=self.name,
            first_stage=FirstStage(c=p - f),
            recourse=Recourse(
                q=np.concatenate([f, np.zeros(n)]),
                q_xi=sparse.vstack([sparse.diags_array(-d), sparse.diags_array(d)]),
                T=sparse.vstack([sparse.csr_array((1, n)), -eye, none]),
                W=sparse.vstack([
                    sparse.csr_array(np.concatenate([c, t])[None]),
                    sparse.hstack([eye, none]),
                    sparse.hstack([-eye, eye]),
                ]),
                row_upper=np.concatenate([[float(self.capacity)], np.zeros(2 * n)]),
                upper=np.ones(2 * n),
                whole=np.ones(2 * n, dtype=bool),
            ),
            uncertainty=BudgetSet(n, float(self.gamma)),
            oracle=self._recourse,
            cutter=self._cutter,
            switches=np.arange(n),
            compiler=_compile,
        )  # fmt: skip

    def _recourse(
        self, x: NDArray[np.float64], xi: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from nco.robust.recourse import knapsack_recourse

        _, d, t, c, f = self._float(*ARRAYS)
        values, y, r = knapsack_recourse(f, d, c, t, float(self.capacity), x, xi)
        return values, np.concatenate([y, r], axis=-1).astype(np.float64)

    def _cutter(
        self, x: NDArray[np.float64], xi: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float] | None:
        from nco.robust.recourse import cut_of_orders

        return cut_of_orders(self._float(*ARRAYS[1:]), float(self.capacity), x, xi)

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "UN", **options: Any) -> Self:
        """A random instance by the published recipe; see `random_orders`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        table = {name: random_orders for name in ("UN", "WC", "ASC", "SC")}
        name = f"{cls.problem}-{distribution}-n{n}-s{seed}"
        if distribution in table:
            options = {**options, "correlation": distribution}
        return cls(**generate._draw(table, distribution, n, rng, options), name=name)


def _compile() -> None:
    from nco.robust import recourse

    recourse.compile_knapsack()


def random_orders(
    n: int,
    rng: np.random.Generator,
    *,
    correlation: str = "UN",
    h: int = 50,
    budget_factor: float = 0.1,
    delta: float = 0.5,
    largest: int = 1000,
) -> dict[str, Any]:
    """Fields of a random instance, as A. Arslan and B. Detienne draw them (section 5.1).

    Weights are uniform on 1..R, degradations profits times uniform in [(1 - delta) / 2,
    (1 + delta) / 2], outsourcing costs profits times uniform in [1.1, 1.5]. Profits and
    repair weights are uniform on 1..R and 1..c (UN); within R/20 of c and R/40 of d / 2 (WC);
    within R/1000 of c + R/10 and of d / 2 + c / 10 (ASC); or these themselves (SC).

    Parameters
    ----------
    n
        Number of orders.
    rng
        Source of randomness.
    correlation
        UN, WC, ASC or SC.
    h
        The capacity is h / 101 of the total weight.
    budget_factor
        Gamma is this share of n.
    delta
        Spread of the degradations.
    largest
        R.

    Raises
    ------
    InputError
        When an option is out of range.
    """
    from nco.instances.generate import _check

    _check(0 < h <= 100, "0 < h <= 100")
    _check(0 <= budget_factor <= 1, "0 <= budget_factor <= 1")
    _check(0 <= delta <= 1, "0 <= delta <= 1")
    _check(largest >= 1, "largest >= 1")

    def near(middle: Any, width: int) -> Any:
        return np.maximum(1, np.rint(middle + rng.integers(-width, width + 1, n)))

    c = rng.integers(1, largest + 1, n)
    tenth, hair = largest // 10, max(1, largest // 1000)
    if correlation == "UN":
        p = rng.integers(1, largest + 1, n)
    elif correlation == "WC":
        p = near(c, largest // 20)
    else:
        p = near(c + tenth, hair if correlation == "ASC" else 0)
    d = np.maximum(1, np.rint(p * rng.uniform((1 - delta) / 2, (1 + delta) / 2, n)))
    if correlation == "UN":
        t = rng.integers(1, c + 1)
    elif correlation == "WC":
        t = near(d / 2, largest // 40)
    else:
        t = near(d / 2 + c / 10, hair if correlation == "ASC" else 0)
    f = np.maximum(1, np.rint(p * rng.uniform(1.1, 1.5, n)))
    return {
        "profits": p.astype(np.int64),
        "degradations": d.astype(np.int64),
        "repair_weights": t.astype(np.int64),
        "weights": c,
        "outsourcing_costs": f.astype(np.int64),
        "capacity": int(h * int(c.sum()) // 101),
        "gamma": float(budget_factor * n),
    }
