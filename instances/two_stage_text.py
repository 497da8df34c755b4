"""Two-stage knapsack and capital budgeting files in their published layouts.

All are numbers between blanks, without any word. The two-stage knapsack and capital
budgeting with loans: A. Arslan and B. Detienne, INFORMS J. Computing 34 (2022); capital
budgeting: A. Subramanyam, C. Gounaris and W. Wiesemann, Math. Prog. Comp. 12 (2020), in the
files of Neur2RO (ICLR 2024). Facility location has a layout like that of OR-Library's
capacitated warehouses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from nco.instances.capital_budgeting import CapitalBudgeting, CapitalBudgetingLoans, in_cents
from nco.instances.core import InputError
from nco.instances.facility_location import FacilityLocation
from nco.instances.io import HEAD, Format, decimal, read_text
from nco.instances.two_stage_knapsack import TwoStageKnapsack

Row = tuple[int, list[float]]

#: Largest number of items, projects, sites, customers or risk factors.
MOST = 1_000_000

_KNAPSACK = "write 'n C Gamma', then n lines 'profit degradation repair-weight weight outsourcing'"
_CAPITAL = "write 'seed n m B max_loan', a line of n costs, one of n revenues, 2 n lines of m"
_FACILITY = (
    "write 'sites customers Gamma', a line 'capacity fixed-cost' for each site, and "
    "'demand deviation penalty' with a cost per unit from every site for each customer"
)
_LOANS = "write 'N B C1 C2 l1 l2 f rho M', then N lines 'profit cost Q1 .. QM'"


def _rows(path: Path, hint: str) -> list[Row]:
    rows = []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        values = [_number(path, number, word, hint) for word in text.split()]
        if values:
            rows.append((number, values))
    return rows


def _number(path: Path, line: int, word: str, hint: str) -> float:
    value = decimal(word)
    if not math.isfinite(value):
        raise InputError(path, line, f"{word[:40]!r} is not a number", hint)
    return value


def _width(path: Path, row: Row, width: int, hint: str) -> list[float]:
    line, values = row
    if len(values) != width:
        raise InputError(path, line, f"{len(values)} numbers, expected {width}", hint)
    return values


def _count(path: Path, line: int, value: float, what: str) -> int:
    if not value.is_integer() or not 1 <= value <= MOST:
        raise InputError(path, line, f"{value:g} is not a number of {what}", f"give 1 to {MOST}")
    return int(value)


def _positive(path: Path, line: int, names: Sequence[str], values: Sequence[float]) -> None:
    for name, value in zip(names, values, strict=True):
        if value < 0:
            raise InputError(path, line, f"{name} = {value:g} < 0", "give a number >= 0")


def _complete(path: Path, rows: Sequence[Row], expected: int, hint: str) -> None:
    if len(rows) != expected:
        line = rows[min(len(rows), expected + 1) - 1][0]
        raise InputError(
            path, line, f"{len(rows)} lines of numbers, expected {expected}",
            "is the file truncated?" if len(rows) < expected else hint,
        )  # fmt: skip


def _checked(
    path: Path, rows: Sequence[Row], fine: Callable[[list[float]], str | None], hint: str
) -> None:
    for line, values in rows:
        wrong = fine(values)
        if wrong:
            raise InputError(path, line, wrong, hint)


def _array(rows: Any) -> Any:
    array = np.array(rows, dtype=np.float64)
    whole = bool((array == np.rint(array)).all()) and bool((np.abs(array) < 2**53).all())
    return array.astype(np.int64) if whole else array


def read_knapsack(path: Path, problem: str = "") -> TwoStageKnapsack:
    """Read a two-stage knapsack: ``n C Gamma``, then lines ``p d t c f``.

    Raises
    ------
    InputError
        When it is none, or counts or numbers are out of range.
    """
    rows = _rows(path, _KNAPSACK)
    line, head = rows[0]
    _width(path, rows[0], 3, _KNAPSACK)
    n = _count(path, line, head[0], "items")
    if not 0 <= head[2] <= n:
        raise InputError(path, line, f"Gamma = {head[2]:g} is not within 0 and n = {n}", "mend it")
    _positive(path, line, ("capacity",), head[1:2])
    _complete(path, rows, n + 1, _KNAPSACK)

    body = [(number, _width(path, (number, v), 5, _KNAPSACK)) for number, v in rows[1:]]
    names = ("profit", "degradation", "repair weight", "weight", "outsourcing cost")
    _checked(path, body, partial(_negative, names), "numbers must not be negative")
    p, d, t, c, f = (_array([v[k] for _, v in body]) for k in range(5))
    return TwoStageKnapsack(
        profits=p, degradations=d, repair_weights=t, weights=c, outsourcing_costs=f,
        capacity=head[1], gamma=head[2], name=path.name.removesuffix(".rkp"),
    )  # fmt: skip


def _text(values: Any) -> str:
    return " ".join(repr(v) for v in np.asarray(values).tolist())


def write_knapsack(instance: TwoStageKnapsack, file: TextIO) -> None:
    """Write the layout that `read_knapsack` reads."""
    file.write(f"{instance.n} {instance.capacity!r} {instance.gamma!r}\n")
    for k in range(instance.n):
        values = (
            instance.profits[k], instance.degradations[k], instance.repair_weights[k],
            instance.weights[k], instance.outsourcing_costs[k],
        )  # fmt: skip
        file.write(" " + " ".join(repr(v.item()) for v in values) + "\n")


def read_capital(path: Path, problem: str = "") -> CapitalBudgeting:
    """Read capital budgeting without loans.

    Raises
    ------
    InputError
        When it is none, or counts or numbers are out of range.
    """
    rows = _rows(path, _CAPITAL)
    line, head = rows[0]
    _width(path, rows[0], 5, _CAPITAL)
    n = _count(path, line, head[1], "projects")
    m = _count(path, line, head[2], "risk factors")
    if not head[0].is_integer():
        raise InputError(path, line, f"seed = {head[0]:g} is not whole", "give a whole number")
    _positive(path, line, ("B", "max_loan"), head[3:])
    _complete(path, rows, 3 + 2 * n, _CAPITAL)
    costs, revenues = (_width(path, row, n, _CAPITAL) for row in rows[1:3])
    loadings = [_width(path, row, m, _CAPITAL) for row in rows[3:]]
    instance_line = {"cost": rows[1][0], "revenue": rows[2][0]}
    for what, values in (("cost", costs), ("revenue", revenues)):
        if min(values) < 0:
            raise InputError(
                path, instance_line[what], f"{what} {min(values):g} < 0", "give numbers >= 0"
            )
    _checked(path, rows[3:], _loading, "give numbers >= 0 that add up to at most 2")
    return CapitalBudgeting(
        costs=np.array(costs), revenues=np.array(revenues), phi=np.array(loadings[:n]),
        psi=np.array(loadings[n:]), budget=head[3], max_loan=head[4], source_seed=int(head[0]),
        name=path.name.removesuffix(".cb"),
    )  # fmt: skip


def _loading(values: list[float]) -> str | None:
    if min(values) < 0:
        return f"loading {min(values):g} < 0"
    return f"loadings add up to {sum(values):g} > 2" if sum(values) > 2 + 1e-9 else None


def write_capital(instance: CapitalBudgeting, file: TextIO) -> None:
    """Write the layout that `read_capital` reads."""
    m = instance.phi.shape[1]
    file.write(f"{instance.source_seed} {instance.n} {m} {instance.budget!r} ")
    file.write(f"{instance.max_loan!r}\n{_text(instance.costs)}\n{_text(instance.revenues)}\n")
    for row in (*instance.phi, *instance.psi):
        file.write(_text(row) + "\n")


def read_loans(path: Path, problem: str = "") -> CapitalBudgetingLoans:
    """Read capital budgeting with loans: ``N B C1 C2 l1 l2 f rho M``, then ``p c Q``.

    Raises
    ------
    InputError
        When it is none, or counts or numbers are out of range.
    """
    rows = _rows(path, _LOANS)
    line, head = rows[0]
    _width(path, rows[0], 9, _LOANS)
    n = _count(path, line, head[0], "projects")
    m = _count(path, line, head[8], "risk factors")
    _positive(path, line, ("B", "C1", "C2", "l1", "l2", "f", "rho"), head[1:8])
    _complete(path, rows, n + 1, _LOANS)
    body = [(number, _width(path, (number, v), 2 + m, _LOANS)) for number, v in rows[1:]]

    def fine(values: list[float]) -> str | None:
        wrong = [f"{k} {v:g} < 0" for k, v in zip(("profit", "cost"), values, strict=False)
                 if v < 0]  # fmt: skip
        if not wrong and not in_cents(values[1]):
            wrong = [f"cost {values[1]:.12g} has more than two decimals"]
        return wrong[0] if wrong else None

    _checked(path, body, fine, "give numbers >= 0, costs in cents")
    values = np.array([v for _, v in body])
    return CapitalBudgetingLoans(
        profits=_array(values[:, 0]), costs=_array(values[:, 1]), loadings=values[:, 2:],
        budget=head[1], early_loan=head[2], late_loan=head[3], early_price=head[4],
        late_price=head[5], late_share=head[6], spread=head[7],
        name=path.name.removesuffix(".cbl"),
    )  # fmt: skip


def write_loans(instance: CapitalBudgetingLoans, file: TextIO) -> None:
    """Write the layout that `read_loans` reads."""
    head = (
        instance.n, instance.budget, instance.early_loan, instance.late_loan,
        instance.early_price, instance.late_price, instance.late_share, instance.spread,
        instance.loadings.shape[1],
    )  # fmt: skip
    file.write(" ".join(repr(v) for v in head) + "\n")
    for p, c, q in zip(instance.profits, instance.costs, instance.loadings, strict=True):
        file.write(f" {p.item()!r} {c.item()!r} {_text(q)}\n")


def read_facility(path: Path, problem: str = "") -> FacilityLocation:
    """Read facility location: ``n m Gamma``, n lines ``s f``, m lines ``d e p c_1 .. c_n``.

    Raises
    ------
    InputError
        When it is none, or counts or numbers are out of range.
    """
    rows = _rows(path, _FACILITY)
    line, head = rows[0]
    _width(path, rows[0], 3, _FACILITY)
    n = _count(path, line, head[0], "sites")
    m = _count(path, line, head[1], "customers")
    if not 0 <= head[2] <= m:
        raise InputError(path, line, f"Gamma = {head[2]:g} is not within 0 and m = {m}", "mend it")
    _complete(path, rows, 1 + n + m, _FACILITY)
    sites = [(number, _width(path, (number, v), 2, _FACILITY)) for number, v in rows[1 : n + 1]]
    places = [(number, _width(path, (number, v), 3 + n, _FACILITY)) for number, v in rows[n + 1 :]]
    for body, names in (
        (sites, ("capacity", "fixed cost")), (places, ("demand", "deviation", "penalty")),
    ):  # fmt: skip
        _checked(path, body, partial(_negative, names), "numbers must not be negative")
    values, other = np.array([v for _, v in places]), [v for _, v in sites]
    return FacilityLocation(
        fixed_costs=_array([v[1] for v in other]), capacities=_array([v[0] for v in other]),
        costs=_array(values[:, 3:].T), demands=_array(values[:, 0]),
        deviations=_array(values[:, 1]), penalties=_array(values[:, 2]), gamma=head[2],
        name=path.name.removesuffix(".rfl"),
    )  # fmt: skip


def _negative(names: Sequence[str], values: list[float]) -> str | None:
    for k, value in enumerate(values):
        if value < 0:
            return f"{names[k] if k < len(names) else 'cost'} {value:g} < 0"
    return None


def write_facility(instance: FacilityLocation, file: TextIO) -> None:
    """Write the layout that `read_facility` reads."""
    n, m = instance.costs.shape
    file.write(f"{n} {m} {instance.gamma!r}\n")
    for s, f in zip(instance.capacities, instance.fixed_costs, strict=True):
        file.write(f"{s.item()!r} {f.item()!r}\n")
    for j in range(m):
        own = (instance.demands[j], instance.deviations[j], instance.penalties[j])
        file.write(" ".join(repr(v.item()) for v in own) + f" {_text(instance.costs[:, j])}\n")


def _numbers_in(head: str, most: int = 2) -> list[list[float]] | None:
    """The first lines of numbers, None if there is anything else before the second."""
    out: list[list[float]] = []
    for text in head.split("\n"):
        words = text.split()
        if not words:
            continue
        if not all(re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", word) for word in words):
            break
        try:
            out.append([float(word) for word in words])
        except ValueError:
            break
        if len(out) == most:
            break
    return out if len(out) >= 2 else None


def _is_knapsack(head: str) -> bool:
    rows = _numbers_in(head)
    # A Gamma that is too large is for the reader to say.
    return rows is not None and len(rows[0]) == 3 and len(rows[1]) == 5


def _is_capital(head: str) -> bool:
    rows = _numbers_in(head)
    # A second line cut off by the head's end is long anyway.
    return rows is not None and len(rows[0]) == 5 and (
        len(rows[1]) == rows[0][1] or len(rows[1]) > 400
    )  # fmt: skip


def _is_facility(head: str) -> bool:
    rows = _numbers_in(head, most=HEAD)
    if rows is None or len(rows[0]) != 3 or len(rows[1]) != 2 or rows[0][0] < 1:
        return False
    # Knapsack lines are pairs too: the first customer decides, unless it is beyond the head.
    first = int(min(rows[0][0], HEAD)) + 1
    cut = len(head) >= HEAD
    return len(rows[first]) == 2 + first if first < len(rows) - cut else cut


def _is_loans(head: str) -> bool:
    rows = _numbers_in(head)
    return rows is not None and len(rows[0]) == 9 and len(rows[1]) == 2 + rows[0][8]


KNAPSACK = Format(
    problem="two-stage-knapsack",
    suffixes=(".rkp",),
    sniff=_is_knapsack,
    read=read_knapsack,
    write=write_knapsack,
)
CAPITAL = Format(
    problem="capital-budgeting",
    suffixes=(".cb",),
    sniff=_is_capital,
    read=read_capital,
    write=write_capital,
)
LOANS = Format(
    problem="capital-budgeting-loans",
    suffixes=(".cbl",),
    sniff=_is_loans,
    read=read_loans,
    write=write_loans,
)
FACILITY = Format(
    problem="facility-location",
    suffixes=(".rfl",),
    sniff=_is_facility,
    read=read_facility,
    write=write_facility,
)
