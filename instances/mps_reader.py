"""A reader of MPS, free and fixed, that knows the line of whatever is wrong.

Conventions follow the solvers': rows of type N after the first are dropped, of several sets
of right hand sides, ranges or bounds the first counts, whole columns without bounds are
binary, a negative upper bound opens a lower bound of 0, and numbers beyond 1e20 are infinite
limits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from nco.instances.core import InputError, Sense
from nco.instances.io import decimal
from nco.instances.mip import MIP

logger = logging.getLogger("nco")

_UNSUPPORTED = {
    "SOS": "special ordered sets", "SETS": "special ordered sets", "SOS1": "special ordered sets",
    "SOS2": "special ordered sets", "INDICATORS": "indicator constraints",
    "GENCONS": "general constraints", "PWLOBJ": "piecewise linear objectives",
    "PWLNAM": "piecewise linear objectives", "PWLCON": "piecewise linear constraints",
    "QUADOBJ": "quadratic objectives", "QMATRIX": "quadratic objectives",
    "QSECTION": "quadratic objectives", "QCMATRIX": "quadratic constraints",
    "CSECTION": "cone constraints", "SCENARIOS": "scenarios",
}  # fmt: skip
_SECTIONS = {
    "NAME", "OBJSENSE", "OBJSENS", "OBJNAME", "ROWS", "LAZYCONS", "USERCUTS", "COLUMNS", "RHS",
    "RANGES", "BOUNDS", "ENDATA",
}  # fmt: skip
_FIELDS = ((1, 3), (4, 12), (14, 22), (24, 36), (39, 47), (49, 61))
#: Numbers beyond this are infinite limits.
INFINITE = 1e20


class _Mistake(Exception):
    def __init__(self, line: int, what: str, hint: str):
        self.arguments = (line, what, hint)


def _fixed(line: str) -> list[str]:
    fields = [line[a:b].strip() for a, b in _FIELDS]
    while fields and not fields[-1]:
        fields.pop()
    return [field for k, field in enumerate(fields) if field or k > 1]


class _Reader:
    """One pass over the lines; ``split`` cuts a data line into fields."""

    def __init__(self, lines: list[str], split: Callable[[str], list[str]]):
        self.lines, self.split = lines, split
        self.number = 0
        self.maximize = False
        self.objective: str | None = None
        self.rows: dict[str, int] = {}
        self.kinds: list[str] = []
        self.free: set[str] = set()
        self.columns: dict[str, int] = {}
        self.cost: list[float] = []
        self.whole: list[bool] = []
        self.row_of: list[int] = []
        self.column_of: list[int] = []
        self.value_of: list[float] = []
        self.right: dict[int, float] = {}
        self.range_of: dict[int, float] = {}
        self.low: dict[int, float] = {}
        self.high: dict[int, float] = {}
        self.bounded: set[int] = set()
        #: Section -> the names of its sets; the first counts.
        self.sets: dict[str, list[str]] = {"RHS": [], "RANGES": [], "BOUNDS": []}
        self.offset = 0.0
        self.integer = False

    def fail(self, what: str, hint: str = "mend it") -> _Mistake:
        return _Mistake(self.number, what, hint)

    def number_of(self, text: str) -> float:
        value = decimal(text)
        if math.isnan(value):
            raise self.fail(f"{text[:40]!r} is not a number")
        return value

    def limit(self, text: str) -> float:
        value = self.number_of(text)
        return math.copysign(math.inf, value) if abs(value) >= INFINITE else value

    def finite(self, text: str) -> float:
        value = self.number_of(text)
        if abs(value) >= INFINITE:
            raise self.fail(f"{text[:40]} is too large a number", "scale the model")
        return value

    def read(self) -> None:
        sections: dict[str, Callable[[str], None]] = {
            "OBJSENSE": self.read_sense,
            "OBJSENS": self.read_sense,
            "OBJNAME": self.read_objective,
            "ROWS": self.read_row,
            "LAZYCONS": self.read_row,
            "USERCUTS": self.read_row,
            "COLUMNS": self.read_column,
            "RHS": self.read_right,
            "RANGES": self.read_range,
            "BOUNDS": self.read_bound,
        }
        current = ""
        seen: set[str] = set()
        for number, line in enumerate(self.lines, 1):
            self.number = number
            if not line.strip() or line.startswith("*"):
                continue
            if not line[0].isspace():
                words = line.split()
                current = words[0].upper()
                if current in _UNSUPPORTED:
                    raise self.fail(f"{_UNSUPPORTED[current]} are not supported", "linearise them")
                if current not in _SECTIONS:
                    raise self.fail(
                        f"unknown section {words[0][:20]!r}", "known: " + " ".join(sections)
                    )
                seen.add(current)
                if current in ("OBJSENSE", "OBJSENS", "OBJNAME") and len(words) > 1:
                    sections[current](words[1])
                if current == "ENDATA":
                    break
                continue
            if current not in sections:
                if current != "NAME":
                    raise self.fail("data outside of any section", "is this an MPS file?")
                continue
            sections[current](line)
        else:
            raise _Mistake(0, "ends without ENDATA", "is the file truncated?")
        for section in ("ROWS", "COLUMNS"):
            if section not in seen:
                raise _Mistake(0, f"no section {section}", "is this an MPS file?")
        if not self.columns:
            raise _Mistake(0, "has no columns", "is the file truncated?")
        if self.objective is not None and self.objective not in self.free:
            raise _Mistake(
                0, f"objective {self.objective[:40]!r} is no row of type N", "mend OBJNAME"
            )

    def read_sense(self, line: str) -> None:
        word = line.split()[0].upper()
        if word not in ("MAX", "MIN", "MAXIMIZE", "MINIMIZE", "MAXIMISE", "MINIMISE"):
            raise self.fail(f"objective sense {word[:20]!r} not understood", "use MAX or MIN")
        self.maximize = word.startswith("MAX")

    def read_objective(self, line: str) -> None:
        if self.columns:
            raise self.fail("OBJNAME behind COLUMNS", "move it to the front")
        self.objective = line.split()[0]

    def read_row(self, line: str) -> None:
        fields = self.split(line)
        if len(fields) != 2 or fields[0].upper() not in ("N", "L", "G", "E"):
            raise self.fail("expected a row: N, L, G or E, and a name")
        kind, name = fields[0].upper(), fields[1]
        if name in self.rows or name in self.free:
            raise self.fail(f"row {name[:40]!r} comes twice", "rename one")
        if kind == "N":
            if self.objective is None:
                self.objective = name
            self.free.add(name)
            return
        self.rows[name] = len(self.kinds)
        self.kinds.append(kind)

    def pairs(self, fields: list[str]) -> Iterator[tuple[str, str]]:
        for k in range(0, len(fields), 2):
            name = fields[k]
            if name not in self.rows and name not in self.free:
                raise self.fail(f"row {name[:40]!r} does not exist", "list it in ROWS")
            yield name, fields[k + 1]

    def read_column(self, line: str) -> None:
        if "'MARKER'" in line:
            if "'INTORG'" in line:
                self.integer = True
            elif "'INTEND'" in line:
                self.integer = False
            elif "'SOSORG'" in line:
                raise self.fail("special ordered sets are not supported", "linearise them")
            else:
                raise self.fail("a marker that is neither INTORG nor INTEND")
            return
        fields = self.split(line)
        if len(fields) not in (3, 5):
            raise self.fail("expected a column, then rows and values")
        name = fields[0]
        column = self.columns.get(name)
        if column is None:
            column = self.columns[name] = len(self.columns)
            self.cost.append(0.0)
            self.whole.append(self.integer)
        elif column != len(self.columns) - 1:
            raise self.fail(f"column {name[:40]!r} comes twice", "rename one")
        for row, text in self.pairs(fields[1:]):
            value = self.finite(text)
            if row == self.objective:
                self.cost[column] += value
            elif row not in self.free:
                self.row_of.append(self.rows[row])
                self.column_of.append(column)
                self.value_of.append(value)

    def counts(self, section: str, name: str) -> bool:
        """Whether a line of that set counts; those without a name belong to the first."""
        known = self.sets[section]
        if name and name not in known:
            known.append(name)
        return not name or name == known[0]

    def values(self, section: str, line: str) -> list[tuple[str, str]]:
        fields = self.split(line)
        name = fields.pop(0) if len(fields) % 2 else ""
        if len(fields) not in (2, 4):
            raise self.fail("expected rows and values")
        # Also what does not count must be understood: it may be a name with blanks.
        values = list(self.pairs(fields))
        return values if self.counts(section, name) else []

    def read_right(self, line: str) -> None:
        for row, text in self.values("RHS", line):
            if row == self.objective:
                self.offset = -self.finite(text)
            elif row not in self.free:
                self.right[self.rows[row]] = self.limit(text)

    def read_range(self, line: str) -> None:
        for row, text in self.values("RANGES", line):
            if row in self.free:
                raise self.fail(f"row {row[:40]!r} has no limit to range", "remove the range")
            self.range_of[self.rows[row]] = self.limit(text)

    def read_bound(self, line: str) -> None:
        fields = self.split(line)
        kind = fields[0].upper() if fields else ""
        needs = {"FR": 0, "MI": 0, "PL": 0, "BV": 0, "UP": 1, "LO": 1, "FX": 1, "UI": 1, "LI": 1}
        if kind == "SC":
            raise self.fail("semi-continuous columns are not supported", "linearise them")
        if kind not in needs:
            raise self.fail(f"bound type {kind[:20]!r} not understood", "known: " + " ".join(needs))
        fields = fields[1:]
        # The set name is optional; a number may follow where none is needed.
        name = ""
        if len(fields) > needs[kind] + 1 and (needs[kind] or fields[1] in self.columns):
            name, *fields = fields
        if len(fields) < needs[kind] + 1 or len(fields) > 2:
            raise self.fail("expected a bound: type, set, column, value")
        column = self.columns.get(fields[0])
        if column is None:
            raise self.fail(f"column {fields[0][:40]!r} does not exist", "list it in COLUMNS")
        if not self.counts("BOUNDS", name):
            return
        self.bounded.add(column)
        value = self.limit(fields[1]) if needs[kind] else 0.0
        if kind in ("UI", "LI", "BV"):
            self.whole[column] = True
        if kind in ("UP", "UI"):
            self.high[column] = value
            if value < 0 and column not in self.low:
                self.low[column] = -math.inf
        elif kind in ("LO", "LI"):
            self.low[column] = value
        elif kind == "FX":
            self.low[column] = self.high[column] = value
        elif kind == "BV":
            self.low[column], self.high[column] = 0.0, 1.0
        elif kind == "MI":
            self.low[column] = -math.inf
        elif kind == "PL":
            self.high[column] = math.inf
        else:
            self.low[column], self.high[column] = -math.inf, math.inf

    def mip(self, name: str) -> MIP:
        n, m = len(self.columns), len(self.rows)
        lower, upper = np.zeros(n), np.full(n, math.inf)
        for column in range(n):
            if self.whole[column] and column not in self.bounded:
                upper[column] = 1.0
        for target, given in ((lower, self.low), (upper, self.high)):
            target[list(given)] = list(given.values())
        row_lower, row_upper = np.full(m, -math.inf), np.full(m, math.inf)
        for row, kind in enumerate(self.kinds):
            right = self.right.get(row, 0.0)
            width = self.range_of.get(row)
            if kind in "GE":
                row_lower[row] = right
            if kind in "LE":
                row_upper[row] = right
            if width is not None:
                if kind == "L" or (kind == "E" and width < 0):
                    row_lower[row] = right - abs(width)
                else:
                    row_upper[row] = right + abs(width)
        matrix = sparse.coo_array(
            (
                np.array(self.value_of, dtype=np.float64),
                (np.array(self.row_of, dtype=np.intp), np.array(self.column_of, dtype=np.intp)),
            ),
            shape=(m, n),
        )
        return MIP(
            c=np.array(self.cost),
            A=matrix,
            row_lower=row_lower,
            row_upper=row_upper,
            lower=lower,
            upper=upper,
            integrality=np.array(self.whole, dtype=bool),
            offset=self.offset,
            sense=Sense.MAXIMIZE if self.maximize else Sense.MINIMIZE,
            columns=list(self.columns),
            rows=list(self.rows),
            name=name,
        )


def parse_mps(path: Path, text: str) -> MIP:
    """The model in the text of an MPS file.

    Raises
    ------
    InputError
        When it is not one, is truncated, or holds what is not linear.
    """
    lines = text.split("\n")
    reader = _Reader(lines, str.split)
    try:
        reader.read()
    except _Mistake as mistake:
        # Names with spaces need the columns of the fixed format.
        reader = _Reader(lines, _fixed)
        try:
            reader.read()
        except _Mistake:
            line, what, hint = mistake.arguments
            raise InputError(path, line or None, what, hint) from None
    for section, names in reader.sets.items():
        for name in names[1:]:
            logger.warning("%s: %s of the set %s are left out", path, section, name[:40])
    return reader.mip(path.name.split(".")[0])
