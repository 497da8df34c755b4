"""A two-stage problem of one's own: an MPS model, an MPS uncertainty set, a TOML beside them.

The model has the columns of both stages and the rows at the scenario zero. The TOML says
which columns wait for the scenario, and what one unit of an entry of it adds to which
coefficients::

    model = "model.mps"
    uncertainty = "uncertainty.mps"
    second_stage = ["y*", "unmet"]

    [uncertain.objective]
    y1 = { xi1 = -2.5 }

    [uncertain.demand]
    rhs = { xi1 = 4, xi2 = 1 }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import InputError
from nco.instances.io import Format, read_text
from nco.instances.mip import MIP

if TYPE_CHECKING:
    from nco.robust.two_stage import TwoStageProblem
    from nco.robust.uncertainty import UncertaintySet

Vector = NDArray[np.float64]

KEYS = ("model", "uncertainty", "second_stage", "uncertain")


class _Reader:
    """One TOML file; errors name its line where a word gives one away."""

    def __init__(self, path: Path):
        self.path = path
        self.text = read_text(path)
        try:
            self.values = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))
            raise InputError(
                path, int(line[1]) if line else None, f"not valid TOML: {error}", "mend it"
            ) from None
        for key in self.values:
            if key not in KEYS:
                raise self.fail([key], f"unknown key {key[:40]!r}", f"known: {', '.join(KEYS)}")
        for key in KEYS[:3]:
            if key not in self.values:
                raise InputError(path, None, f"needs the key {key}", "add it")

    def fail(self, words: Sequence[str], what: str, hint: str) -> InputError:
        """An error at the line that holds the last of these words, each one after the others."""
        lines = [line.partition("#")[0] for line in self.text.split("\n")]
        at = None
        for word in words:
            near = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
            begin = at or 0
            at = next((k for k in range(begin, len(lines)) if near.search(lines[k])), at)
        return InputError(self.path, None if at is None else at + 1, what, hint)

    def model(self, key: str) -> MIP:
        """The MIP in the file that a key names, relative to the TOML's folder."""
        from nco.instances import io

        name = self.values[key]
        if not isinstance(name, str):
            raise self.fail([key], f"{key} is not a file name", "name an .mps or .lp file")
        found = io.read(self.path.parent / name, "mip")
        assert isinstance(found, MIP)
        return found

    def number(self, words: Sequence[str], value: Any) -> float:
        """A finite number at the end of a path of keys."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
            what = f"{'.'.join(words[:-1])}: {str(value)[:40]!r} is not a finite number"
            raise self.fail(words, what, "mend it")
        return float(value)

    def second_stage(self, columns: Sequence[str]) -> NDArray[np.bool_]:
        """Which columns are named, or match a name with ``*``."""
        patterns = self.values["second_stage"]
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            raise self.fail(["second_stage"], "second_stage is not a list of names", 'write ["y*"]')
        late = np.zeros(len(columns), dtype=bool)
        for pattern in patterns:
            form = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
            found = [form.fullmatch(name) is not None for name in columns]
            if not any(found):
                what = f"second_stage: the model has no column {pattern[:40]!r}"
                raise self.fail(["second_stage", pattern], what, _known(columns))
            late |= found
        return late


def _known(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"known: {', '.join(n[:40] for n in names[:6])}{more}"


def _sets(reader: _Reader) -> tuple[UncertaintySet, Sequence[str]]:
    """The uncertainty set and the names of a scenario's entries."""
    from nco.robust.uncertainty import from_dict

    values = reader.values["uncertainty"]
    if not isinstance(values, dict):
        mip = reader.model("uncertainty")
        path = reader.path.parent / str(values)
        try:
            return _as_set(mip), mip.columns
        except ValueError as error:
            raise InputError(
                path, None, str(error).rstrip("."), "mend its rows or bounds"
            ) from None
    values = dict(values)
    names = values.pop("names", None)
    try:
        found = from_dict(values)
    except ValueError as error:
        raise reader.fail(["uncertainty"], str(error).rstrip("."), "see docs/robust.md") from None
    k = found.dimension
    if names is None:
        names = [f"xi{j}" for j in range(k)]
    if not isinstance(names, list) or len(names) != k or len(set(map(str, names))) != k:
        raise reader.fail(
            ["uncertainty", "names"], f"uncertainty: names are not {k} different words", "mend them"
        )
    return found, [str(name) for name in names]


def _as_set(mip: MIP) -> UncertaintySet:
    """The columns of a MIP as scenarios; boxes and budgets as such, which are faster."""
    from nco.robust.uncertainty import Box, BudgetSet, Polyhedron

    q = mip.n
    unit = bool((mip.lower == 0).all() and (mip.upper == 1).all())
    budget = mip.m == 1 and bool((mip.A.toarray() == 1).all()) and mip.row_lower[0] <= 0
    if mip.integrality.any() and not (mip.integrality.all() and unit and (budget or not mip.m)):
        raise ValueError(
            "whole scenario columns are understood if all are 0 or 1, with one row: their sum."
        )
    if unit and (budget or (not mip.m and mip.integrality.any())):
        gamma = min(float(mip.row_upper[0]), float(q)) if mip.m else float(q)
        return BudgetSet(q, gamma, cardinality=bool(mip.integrality.any()))
    if not mip.m:
        for k in np.flatnonzero(~np.isfinite(mip.lower) | ~np.isfinite(mip.upper)).tolist():
            raise ValueError(f"the uncertainty set is unbounded: column {mip.columns[k]}.")
        for k in np.flatnonzero(mip.lower > mip.upper).tolist():
            raise ValueError(f"the uncertainty set is empty: column {mip.columns[k]}.")
        return Box(mip.lower, mip.upper)
    return Polyhedron(
        mip.A.toarray(), mip.row_upper, row_lower=mip.row_lower, lower=mip.lower, upper=mip.upper
    )


class _Shifts:
    """What the scenario adds, collected from the tables ``uncertain``."""

    def __init__(self, reader: _Reader, mip: MIP, entries: Sequence[str]):
        self.reader, self.mip = reader, mip
        self.entry = {name: j for j, name in enumerate(entries)}
        k = len(entries)
        self.cost = np.zeros((mip.n, k))
        self.constant = np.zeros(k)
        self.right = np.zeros((mip.m, k))
        #: Entry of the scenario -> rows, columns, amounts.
        self.matrix: dict[int, list[tuple[int, int, float]]] = {}
        rows = {name: i for i, name in enumerate(mip.rows)}
        for name, row in self._table(["uncertain"], reader.values.get("uncertain", {})):
            words = ["uncertain", name]
            if name != "objective" and name not in rows:
                what = f"uncertain: the model has no row {name[:40]!r}"
                raise reader.fail(words, what, f"{_known(mip.rows)}; or objective")
            if name == "objective" and name in rows:
                what = "uncertain.objective is a row of the model as well"
                raise reader.fail(words, what, "rename the row")
            for column, amounts in self._table(words, row):
                for entry, value in self._table([*words, column], amounts):
                    self._add(rows.get(name, -1), [*words, column, entry], value)

    def _table(self, words: Sequence[str], value: Any) -> list[tuple[str, Any]]:
        if not isinstance(value, Mapping):
            what = f"{'.'.join(words)} is not a table"
            raise self.reader.fail(
                words, what, f"write {words[-1]} = {{ {min(self.entry)} = 2.5 }}"
            )
        return list(value.items())

    def _add(self, row: int, words: Sequence[str], value: Any) -> None:
        column, entry = words[-2:]
        if entry not in self.entry:
            what = f"{'.'.join(words[:-1])}: scenarios have no entry {entry[:40]!r}"
            raise self.reader.fail(words, what, _known(list(self.entry)))
        amount = self.reader.number(words, value)
        j = self.entry[entry]
        special = "constant" if row < 0 else "rhs"
        if column in self.mip.index:
            if row < 0:
                self.cost[self.mip.index[column], j] += amount
            else:
                self.matrix.setdefault(j, []).append((row, self.mip.index[column], amount))
        elif column != special:
            what = f"{'.'.join(words[:-2])}: the model has no column {column[:40]!r}"
            raise self.reader.fail(words[:-1], what, f"a column's name or {special!r}")
        elif row < 0:
            self.constant[j] += amount
        else:
            self.right[row, j] += amount


def _problem(reader: _Reader) -> TwoStageProblem:
    from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem

    mip = reader.model("model")
    uncertainty, entries = _sets(reader)
    late = reader.second_stage(mip.columns)
    shifts = _Shifts(reader, mip, entries)
    early = ~late
    if not early.any():
        raise reader.fail(["second_stage"], "no column is left for the first stage", "name fewer")
    waits: NDArray[np.bool_] = shifts.right.any(1) | (np.abs(mip.A[:, late]).sum(1) > 0)
    waits[[row for triples in shifts.matrix.values() for row, _, _ in triples]] = True
    now = ~waits
    place = np.cumsum(waits) - 1

    def parts(columns: NDArray[np.bool_]) -> dict[int, Any]:
        index = np.cumsum(columns) - 1
        out = {}
        for j, triples in shifts.matrix.items():
            mine = [(place[r], index[c], v) for r, c, v in triples if columns[c]]
            if mine:
                r, c, v = zip(*mine, strict=True)
                shape = (int(waits.sum()), int(columns.sum()))
                out[j] = sparse.csr_array((np.array(v), (np.array(r), np.array(c))), shape=shape)
        return out

    return TwoStageProblem(
        name=reader.path.name.split(".")[0],
        sense=mip.sense,
        first_stage=FirstStage(
            c=mip.c[early], offset=mip.offset, A=mip.A[now][:, early],
            row_lower=mip.row_lower[now], row_upper=mip.row_upper[now],
            lower=mip.lower[early], upper=mip.upper[early], whole=mip.integrality[early],
        ),
        recourse=Recourse(
            q=mip.c[late], q_xi=shifts.cost[late], p_xi=shifts.cost[early],
            offset_xi=shifts.constant,
            T=mip.A[waits][:, early], W=mip.A[waits][:, late],
            T_xi=parts(early), W_xi=parts(late),
            row_lower=mip.row_lower[waits], row_upper=mip.row_upper[waits],
            h_xi=shifts.right[waits],
            lower=mip.lower[late], upper=mip.upper[late], whole=mip.integrality[late],
        ),
        uncertainty=uncertainty,
    )  # fmt: skip


def read_two_stage(path: Path, problem: str = "") -> TwoStageProblem:
    """Read a two-stage problem: a TOML that names a model and an uncertainty set.

    Parameters
    ----------
    path
        The TOML; files named in it are beside it.
    problem
        Not used.

    Raises
    ------
    InputError
        When a file cannot be understood, a name is unknown, or the set is empty or unbounded.
    """
    return _problem(_Reader(Path(path)))


def _is_two_stage(head: str) -> bool:
    return re.search(r"^\s*second_stage\s*=", head, re.MULTILINE) is not None


FORMAT = Format(
    problem="two-stage",
    suffixes=(".toml",),
    sniff=_is_two_stage,
    read=read_two_stage,
)
