"""Capital budgeting under risk, without and with loans."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nco.instances.core import Budget, Sense, frozen_array
from nco.instances.two_stage import TwoStageInstance

if TYPE_CHECKING:
    from nco.robust.two_stage import Evaluation, TwoStageProblem

Vector = NDArray[np.float64]

#: Share of the revenue that a late investment brings.
LATE_SHARE = 0.8
#: Costs with loans are multiples of 1 / CENTS: second stages with others have no end of values
#: that are nearly the best, and are not exact.
CENTS = 100
#: Scenarios between two looks at the clock.
CHUNK = 100


def _array(self: Any, name: str, ndim: int, *, signed: bool = False) -> NDArray[Any]:
    array = frozen_array(name, getattr(self, name), ndim=ndim)
    if not signed and (array < 0).any():
        k = int(np.argmax((array < 0).reshape(len(array), -1).any(1)))
        raise ValueError(f"project {k}: {name} < 0.")
    object.__setattr__(self, name, array)
    return array


def _scalars(self: Any, *names: str) -> None:
    for name in names:
        value = float(getattr(self, name))
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} = {value:g} not understood; give a number >= 0.")
        object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False, kw_only=True)
class CapitalBudgeting(TwoStageInstance):
    """Invest now or, for less revenue, once the risk factors are known.

    With ``c(xi) = (1 + phi xi / 2) c`` and ``r(xi) = (1 + psi xi / 2) r`` for xi in [-1, 1]^m:
    ``max_x min_xi max_y r(xi) (x + 0.8 y)`` over ``x + y <= 1, c(xi) (x + y) <= B``, binary
    (A. Subramanyam, C. Gounaris and W. Wiesemann, Math. Prog. Comp. 12, 2020, section 5.2).
    The worst case is sought in the list of `strong_worst_case`.

    Parameters
    ----------
    costs, revenues
        c and r [n].
    phi, psi
        What the risk factors do to them [n, m], not negative, rows adding up to at most 2.
    budget
        B, used as it is written; see `truncated`.
    max_loan, source_seed
        Kept for files only.

    Raises
    ------
    ValueError
        When shapes disagree, or numbers are negative or not finite.
    """

    problem: ClassVar[str] = "capital-budgeting"
    sense: Sense = field(default=Sense.MAXIMIZE, init=False, repr=False)

    costs: NDArray[Any]
    revenues: NDArray[Any]
    phi: NDArray[Any] = field(metadata={"ndim": 2})
    psi: NDArray[Any] = field(metadata={"ndim": 2})
    budget: float
    max_loan: float = 0.0
    source_seed: int = 0

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        sizes = {len(_array(self, name, 1)) for name in ("costs", "revenues")}
        shapes = {_array(self, name, 2).shape for name in ("phi", "psi")}
        if len(sizes) > 1 or len(shapes) > 1 or {s[0] for s in shapes} != sizes:
            raise ValueError("costs, revenues, phi and psi need one row for each project.")
        if not self.n or not self.phi.shape[1]:
            raise ValueError("has no projects or no risk factors.")
        for name in ("phi", "psi"):
            total = getattr(self, name).sum(1)
            if (total > 2 + 1e-9).any():
                k = int(np.argmax(total))
                raise ValueError(f"project {k}: {name} adds up to {total[k]:g} > 2.")
        _scalars(self, "budget", "max_loan")

    @property
    def n(self) -> int:
        """Number of projects."""
        return len(self.costs)

    def truncated(self) -> Self:
        """The same with B rounded down, as the published results have it."""
        return self.replace(budget=float(math.floor(self.budget)), ref_cost=None)

    def factors(self, xi: Vector) -> tuple[Vector, Vector]:
        """Costs and revenues [b, n] in scenarios [b, m]."""
        cost = (1.0 + 0.5 * xi @ self.phi.T) * self.costs
        return cost, (1.0 + 0.5 * xi @ self.psi.T) * self.revenues

    @cached_property
    def two_stage(self) -> TwoStageProblem:
        """First stage, recourse and uncertainty set."""
        from scipy import sparse

        from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
        from nco.robust.uncertainty import Box

        n, m = self.phi.shape
        c, r = np.asarray(self.costs, dtype=float), np.asarray(self.revenues, dtype=float)
        eye, none = sparse.identity(n, format="csr"), sparse.csr_array((n, n))
        spread = 0.5 * r[:, None] * self.psi
        moved = {
            j: sparse.vstack([sparse.csr_array((0.5 * c * self.phi[:, j])[None]), none])
            for j in range(m)
        }
        rows = sparse.vstack([sparse.csr_array(c[None]), eye])
        return TwoStageProblem(
            name=self.name,
            # What is bought at once must be affordable at the highest costs.
            first_stage=FirstStage(
                c=np.zeros(n), A=(c * (1.0 + 0.5 * self.phi.sum(1)))[None],
                row_upper=np.array([self.budget]),
            ),
            recourse=Recourse(
                q=LATE_SHARE * r, q_xi=LATE_SHARE * spread, p=r, p_xi=spread,
                T=rows, W=rows, T_xi=moved, W_xi=moved,
                row_upper=np.concatenate([[self.budget], np.ones(n)]),
                upper=np.ones(n), whole=np.ones(n, dtype=bool),
            ),
            uncertainty=Box(-np.ones(m), np.ones(m)),
            oracle=self._recourse,
            screen=self._screen,
            evaluator=self._worst_case,
            compiler=_compile,
        )  # fmt: skip

    def _recourse(self, x: Vector, xi: Vector) -> tuple[Vector, Vector]:
        from nco.robust.recourse import budget_recourse

        cost, revenue = self.factors(xi)
        values, y = budget_recourse(LATE_SHARE * revenue, cost, self.budget, x)
        return values + x @ revenue.T, y.astype(np.float64)

    def _screen(self, x: Vector, xi: Vector, least: Vector) -> Vector:
        from nco.robust.recourse import screen_budgets

        cost, revenue = self.factors(xi)
        early = x @ revenue
        late = screen_budgets(LATE_SHARE * revenue, cost, self.budget, x, least - early)
        return np.asarray(late + early)

    def _worst_case(
        self, problem: TwoStageProblem, x: Vector, budget: Budget, scenarios: Vector
    ) -> Evaluation:
        return strong_worst_case(self, x, budget)

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """A random instance; costs in [1, 10], revenues a fifth of them, B half of them all."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        fields = generate._draw({"uniform": random_projects}, distribution, n, rng, options)
        return cls(**fields, name=f"{cls.problem}-{distribution}-n{n}-s{seed}")


def _compile() -> None:
    from nco.robust import recourse

    recourse.compile_budgeting()


def _simplex(n: int, m: int, rng: np.random.Generator) -> Vector:
    """Uniform points of the unit simplex [n, m]: gaps between sorted uniform numbers."""
    cuts = np.sort(rng.random((n, m - 1)), axis=1)
    return np.diff(np.hstack([np.zeros((n, 1)), cuts, np.ones((n, 1))]), axis=1)


def random_projects(n: int, rng: np.random.Generator, *, factors: int = 4) -> dict[str, Any]:
    """Fields as A. Subramanyam, C. Gounaris and W. Wiesemann draw them (section 5.2).

    Parameters
    ----------
    n
        Number of projects.
    rng
        Source of randomness.
    factors
        Number of risk factors.

    Raises
    ------
    InputError
        When there are no factors.
    """
    from nco.instances.generate import _check

    _check(1 <= factors <= 1000, "1 <= factors <= 1000")
    c = rng.uniform(1.0, 10.0, n)
    return {
        "costs": c,
        "revenues": c / 5.0,
        "phi": _simplex(n, factors, rng),
        "psi": _simplex(n, factors, rng),
        "budget": float(c.sum() / 2.0),
    }


def _late_for_certain(instance: CapitalBudgeting, x: Vector) -> tuple[Vector, float]:
    """Late projects [n] that are affordable beside x in all scenarios, and what both bring."""
    most = instance.costs * (1.0 + 0.5 * instance.phi.sum(1))
    room = instance.budget - float(most @ x)
    y = np.zeros(instance.n)
    for i in np.argsort(-instance.revenues / np.maximum(most, 1e-12), kind="stable"):
        if x[i] < 0.5 and most[i] <= room:
            y[i] = 1.0
            room -= most[i]
    taken = (x + LATE_SHARE * y) * instance.revenues
    return y, float(taken.sum() - 0.5 * np.abs(taken @ instance.psi).sum())


def strong_worst_case(
    instance: CapitalBudgeting, x: Vector, budget: Budget | None = None
) -> Evaluation:
    """The worst case of x [n] in the list ``strong-v1``; the same for every method.

    The list is the corners of the box (up to 8 factors), 10,000 uniform scenarios of one
    seed, and those that a search from the 24 worst of them visits: to the corners, just
    beyond the facet where the best recourse becomes too expensive, and at random nearby. Out
    of time, it is the interval between the worst so far and what late projects bring that are
    affordable in all scenarios.

    Raises
    ------
    InfeasibleRecourseError
        When x alone may exceed the budget.
    """
    from nco.robust.recourse import worst_budgets
    from nco.robust.two_stage import Evaluation, InfeasibleRecourseError

    m = instance.phi.shape[1]
    rng = np.random.default_rng(10_000)
    first = np.asarray(x, dtype=float)[None]
    worst_cost = float(instance.costs @ (first[0] * (1.0 + 0.5 * instance.phi.sum(1))))
    if worst_cost > instance.budget + 1e-6 * max(1.0, instance.budget):
        raise InfeasibleRecourseError(np.ones(m))

    def values(xi: Vector, worst: Vector) -> tuple[Vector, Any]:
        cost, revenue = instance.factors(xi)
        return worst_budgets(
            revenue @ first[0], LATE_SHARE * revenue, cost, instance.budget, first[0], worst
        )

    def interval(value: float, xi: Vector, y: Vector) -> Evaluation:
        late, certain = _late_for_certain(instance, first[0])
        return Evaluation(
            first[0], value, min(value, certain), xi, y.astype(float), policies=late[None]
        )

    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * m)).reshape(m, -1).T if m <= 8 else None
    uniform = rng.uniform(-1.0, 1.0, (10_000, m))
    xi = uniform if corners is None else np.concatenate([corners, uniform])
    worst = np.full(24, math.inf)
    parts: list[tuple[Vector, Any]] = []
    for begin in range(0, len(xi), CHUNK):
        if begin and budget is not None and budget.done() is not None:
            value, y = (np.concatenate(part) for part in zip(*parts, strict=True))
            k = int(np.argmin(value))
            return interval(float(value[k]), xi[k], y[k])
        parts.append(values(xi[begin : begin + CHUNK], worst))
    value, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    keep = np.argsort(value, kind="stable")[:24]
    xi, value, y = xi[keep], value[keep], y[keep]
    c = np.asarray(instance.costs, dtype=float)
    for round_ in range(40):
        if budget is not None and budget.done() is not None:
            return interval(float(value[0]), xi[0], y[0])
        radius = 0.5 * 0.85**round_
        taken = np.maximum(y.astype(float), first)
        # Gradient of what the best recourse costs, and the room it leaves.
        gradient = 0.5 * (taken * c) @ instance.phi
        room = instance.budget - (taken * (instance.factors(xi)[0])).sum(1)
        length = np.maximum((gradient**2).sum(1, keepdims=True), 1e-12)
        beyond = xi + (room[:, None] * (1 + 1e-9) + 1e-7) * gradient / length
        cheaper = xi - radius * np.sign(0.5 * (taken * instance.revenues) @ instance.psi)
        nearby = xi + rng.normal(size=xi.shape) * radius
        moved = beyond + rng.normal(size=xi.shape) * radius * 0.2
        single = xi.copy()
        column = rng.integers(m, size=len(xi))
        single[np.arange(len(xi)), column] = rng.choice([-1.0, 1.0], len(xi))
        trial = np.clip(np.concatenate([beyond, cheaper, nearby, moved, single]), -1.0, 1.0)
        # Exact for what is worse than the worst so far; others only serve the search.
        trial_value, trial_y = values(trial, value[:1].copy())
        xi = np.concatenate([xi, trial])
        value, y = np.concatenate([value, trial_value]), np.concatenate([y, trial_y])
        keep = np.argsort(value, kind="stable")[:24]
        xi, value, y = xi[keep], value[keep], y[keep]
    return Evaluation(
        first[0], float(value[0]), -math.inf, xi[0], y[0].astype(float), sampled="strong-v1"
    )


def in_cents(costs: ArrayLike) -> NDArray[np.bool_]:
    """Whether costs [..] that are not negative have two decimals at most [..]."""
    cents = np.asarray(costs, dtype=np.float64) * CENTS
    return np.asarray(np.abs(cents - np.rint(cents)) <= 1e-9 * np.maximum(1.0, np.rint(cents)))


@dataclass(frozen=True, eq=False, kw_only=True)
class CapitalBudgetingLoans(TwoStageInstance):
    """Capital budgeting with certain costs and a loan in either stage.

    With ``p(xi) = (1 + Q xi / 2) p`` for xi in [-1, 1]^M: ``max_x -l1 x0 + min_xi max_y p(xi)
    (x + f y) - l2 y0`` over ``c x <= B + C1 x0, c (x + y) <= B + C1 x0 + C2 y0, x + y <= 1``,
    binary (A. Arslan and B. Detienne, INFORMS J. Computing 34, 2022, section 5.2). The first
    stage is x, then x0; the recourse y, then y0.

    Parameters
    ----------
    profits, costs
        p and c [N]; costs have two decimals at most.
    loadings
        Q [N, M].
    budget, early_loan, late_loan, early_price, late_price, late_share
        B, C1, C2, l1, l2 and f.
    spread
        A number of the file's, not used.

    Raises
    ------
    ValueError
        When shapes disagree, or numbers are negative or not finite.
    """

    problem: ClassVar[str] = "capital-budgeting-loans"
    sense: Sense = field(default=Sense.MAXIMIZE, init=False, repr=False)

    profits: NDArray[Any]
    costs: NDArray[Any]
    loadings: NDArray[Any] = field(metadata={"ndim": 2})
    budget: float
    early_loan: float
    late_loan: float
    early_price: float
    late_price: float
    late_share: float = LATE_SHARE
    spread: float = 0.0

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        sizes = {len(_array(self, name, 1)) for name in ("profits", "costs")}
        sizes.add(len(_array(self, "loadings", 2, signed=True)))
        if len(sizes) > 1:
            raise ValueError("profits, costs and loadings need one row for each project.")
        if not self.n or not self.loadings.shape[1]:
            raise ValueError("has no projects or no risk factors.")
        fine = in_cents(self.costs)
        if not fine.all():
            k = int(np.argmin(fine))
            raise ValueError(f"project {k}: costs {self.costs[k]:.12g}: more than two decimals.")
        _scalars(self, "budget", "early_loan", "late_loan", "early_price", "late_price")
        _scalars(self, "late_share", "spread")

    @property
    def n(self) -> int:
        """Number of projects."""
        return len(self.costs)

    @cached_property
    def _cents(self) -> Vector:
        return np.rint(np.asarray(self.costs, dtype=np.float64) * CENTS)

    @cached_property
    def two_stage(self) -> TwoStageProblem:
        """First stage, recourse and uncertainty set."""
        from scipy import sparse

        from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
        from nco.robust.uncertainty import Box

        n, m = self.loadings.shape
        p, c = np.asarray(self.profits, dtype=float), np.asarray(self.costs, dtype=float)
        spread = np.vstack([0.5 * p[:, None] * self.loadings, np.zeros((1, m))])
        eye = sparse.hstack([sparse.identity(n), sparse.csr_array((n, 1))])

        def money(loan: float) -> Any:
            return sparse.csr_array(np.append(c, -loan)[None])

        return TwoStageProblem(
            name=self.name,
            first_stage=FirstStage(
                c=np.append(np.zeros(n), -self.early_price),
                A=money(self.early_loan),
                row_upper=np.array([self.budget]),
            ),
            recourse=Recourse(
                q=np.append(self.late_share * p, -self.late_price),
                q_xi=self.late_share * spread,
                p=np.append(p, 0.0),
                p_xi=spread,
                T=sparse.vstack([money(self.early_loan), eye]),
                W=sparse.vstack([money(self.late_loan), eye]),
                row_upper=np.concatenate([[self.budget], np.ones(n)]),
                upper=np.ones(n + 1),
                whole=np.ones(n + 1, dtype=bool),
            ),
            uncertainty=Box(-np.ones(m), np.ones(m)),
            oracle=self._recourse,
            compiler=_compile,
        )

    def _recourse(self, x: Vector, xi: Vector) -> tuple[Vector, Vector]:
        from nco.robust.recourse import loans_recourse

        profit = (1.0 + 0.5 * xi @ self.loadings.T) * self.profits
        loan = (self.early_loan * CENTS, self.late_loan * CENTS, self.late_price)
        late, y, loans = loans_recourse(
            self.late_share * profit, self._cents, self.budget * CENTS, loan, x[:, :-1], x[:, -1]
        )
        y = np.concatenate([y, loans[..., None]], axis=-1)
        return late + x[:, :-1] @ profit.T, y.astype(np.float64)

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """A random instance; see `random_loans`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        fields = generate._draw({"uniform": random_loans}, distribution, n, rng, options)
        return cls(**fields, name=f"{cls.problem}-{distribution}-n{n}-s{seed}")


def random_loans(
    n: int,
    rng: np.random.Generator,
    *,
    factors: int = 4,
    h: int = 40,
    loan: float = 0.2,
    price: float = 0.12,
    late_price: float = 1.2,
    late_share: float = LATE_SHARE,
    largest: int = 100,
) -> dict[str, Any]:
    """Fields in the manner of the published files.

    Costs are uniform on 1..R, profits a fifth of them, B is h / 101 of all costs, both loans
    ``loan B``, at ``price loan B / 5`` and ``late_price`` times that; the loadings are normal
    rows scaled to an absolute sum of 1.

    Parameters
    ----------
    n
        Number of projects.
    rng
        Source of randomness.
    factors, h, loan, price, late_price, late_share, largest
        As above.

    Raises
    ------
    InputError
        When an option is out of range.
    """
    from nco.instances.generate import _check

    _check(1 <= factors <= 1000, "1 <= factors <= 1000")
    _check(0 < h <= 100, "0 < h <= 100")
    _check(min(loan, price, late_price, late_share, largest - 1) >= 0, "options >= 0, largest >= 1")
    c = rng.integers(1, largest + 1, n)
    loadings = rng.normal(size=(n, factors))
    loadings /= np.abs(loadings).sum(1, keepdims=True)
    budget = int(h * int(c.sum()) // 101)
    amount = float(math.floor(loan * budget))
    return {
        "profits": c / 5.0,
        "costs": c,
        "loadings": loadings,
        "budget": float(budget),
        "early_loan": amount,
        "late_loan": amount,
        "early_price": price * amount / 5.0,
        "late_price": late_price * price * amount / 5.0,
        "late_share": late_share,
    }
