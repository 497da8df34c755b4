"""MPS and LP models, plain or gzipped, and SCIP's ``.sol`` solutions.

MPS is parsed here; LP by HiGHS, and by SCIP where HiGHS refuses, both imported on use.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from scipy import sparse

from nco.instances.core import InputError, Sense
from nco.instances.io import Format, read_text
from nco.instances.mip import MIP
from nco.instances.mps_reader import parse_mps

_LP_STARTS = re.compile(r"^\s*(max|min)(imi[sz]e|imum)?\b", re.IGNORECASE)


def _check_lp(path: Path, text: str) -> None:
    started = False
    for number, line in enumerate(text.split("\n"), 1):
        code = line.split("\\", 1)[0]
        if not code.strip():
            continue
        if not started:
            started = True
            if not _LP_STARTS.match(code):
                raise InputError(
                    path, number, "does not start with Minimize or Maximize", "mend it"
                )
        for pattern, what in (
            (r"^\s*(sos|sos1|sos2|s1\s*::|s2\s*::)\b", "special ordered sets"),
            (r"->", "indicator constraints"),
            (r"^\s*(semi-continuous|semi|semis)\s*$", "semi-continuous columns"),
            (r"\[", "quadratic terms"),
            (r"^\s*general constraints\s*$", "general constraints"),
        ):
            if re.search(pattern, code, re.IGNORECASE):
                raise InputError(path, number, f"{what} are not supported", "linearise them")


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Keep what C libraries print for a while; the list holds the text afterwards."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    text: list[str] = []
    with tempfile.TemporaryFile() as sink:
        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield text
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for handle in kept:
                os.close(handle)
            sink.seek(0)
            text.append(sink.read().decode("utf-8", "replace"))


@dataclass(frozen=True)
class _Refusal:
    """What a library says about a file, and the line if it gives one."""

    line: int | None
    text: str


def _through_highs(path: Path) -> MIP | _Refusal:
    import highspy

    with captured() as printed:
        highs = highspy.Highs()
        status = highs.readModel(str(path))
        refused = status == highspy.HighsStatus.kError
        lp = None if refused else highs.getLp()
    if lp is not None:
        return _convert(lp)
    words = re.search(r"ERROR:\s*(\S.*)", printed[0])
    place = re.search(r"-->.*?:(\d+):\d+", printed[0]) or re.search(r"[Ll]ine (\d+)", printed[0])
    text = words.group(1).strip() if words else "not readable"
    return _Refusal(int(place.group(1)) if place else None, text.replace(str(path), "the file"))


def _through_scip(path: Path) -> MIP | _Refusal:
    import pyscipopt

    model = pyscipopt.Model()
    model.hideOutput()
    failure = ""
    with captured() as printed:
        try:
            model.readProblem(str(path))
        except Exception as error:  # pyscipopt raises bare Exception, too
            failure = str(error)
    if failure:
        words = re.search(r"ERROR:\s*(\S.*)", printed[0])
        place = re.search(r"line (\d+)", printed[0])
        text = words.group(1).strip() if words else failure
        return _Refusal(int(place.group(1)) if place else None, text)
    return _from_scip(model)


def from_model(model: Any) -> MIP:
    """A model object of SCIP (`pyscipopt.Model`) or HiGHS (`highspy.Highs`, `HighsLp`).

    The object itself stays as it is.

    Raises
    ------
    InputError
        When it holds what a `MIP` cannot, or is something else.
    """
    kind = type(model).__name__
    try:
        if hasattr(model, "getConss"):
            return _from_scip(model)
        if hasattr(model, "getLp"):
            return _convert(model.getLp())
        if hasattr(model, "a_matrix_"):
            return _convert(model)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(None, None, f"{kind}: {error}") from None
    raise InputError(None, None, f"a {kind} is no model", "give a SCIP Model or a HiGHS object")


def _from_scip(model: Any) -> MIP:
    variables = model.getVars(transformed=False)
    names = [v.name for v in variables]
    index = {name: k for k, name in enumerate(names)}
    rows: list[str] = []
    lower: list[float] = []
    upper: list[float] = []
    entries: list[tuple[int, int, float]] = []
    for constraint in model.getConss(transformed=False):
        kind = constraint.getConshdlrName()
        if kind != "linear":
            raise ValueError(f"{kind} constraints are not supported; linearise them.")
        for name, value in model.getValsLinear(constraint).items():
            entries.append((len(rows), index[name], value))
        rows.append(constraint.name or f"r{len(rows)}")
        lower.append(model.getLhs(constraint))
        upper.append(model.getRhs(constraint))
    kinds = {v.vtype() for v in variables}
    if not kinds <= {"BINARY", "INTEGER", "CONTINUOUS"}:
        raise ValueError("implied integer columns are not supported; declare them.")
    row, column, value = zip(*entries, strict=True) if entries else ((), (), ())
    infinity = model.infinity()
    maximize = model.getObjectiveSense() == "maximize"
    return MIP(
        c=np.array([v.getObj() for v in variables]),
        A=sparse.csr_array(
            (np.array(value, dtype=float), (np.array(row, dtype=int), np.array(column, dtype=int))),
            shape=(len(rows), len(names)),
        ),
        row_lower=_infinite(lower, infinity),
        row_upper=_infinite(upper, infinity),
        lower=_infinite([v.getLbOriginal() for v in variables], infinity),
        upper=_infinite([v.getUbOriginal() for v in variables], infinity),
        integrality=np.array([v.vtype() != "CONTINUOUS" for v in variables], dtype=bool),
        offset=model.getObjoffset(original=True),
        sense=Sense.MAXIMIZE if maximize else Sense.MINIMIZE,
        columns=names,
        rows=rows,
    )


def _infinite(values: Any, infinity: float) -> Any:
    array = np.array(values, dtype=np.float64)
    return np.where(np.abs(array) >= infinity, np.copysign(np.inf, array), array)


def read_mps(path: Path, problem: str = "") -> MIP:
    """Read an MPS model, fixed or free.

    Raises
    ------
    InputError
        When it is not one, is truncated, or holds what is not linear.
    """
    path = Path(path)
    return parse_mps(path, read_text(path))


def read_lp(path: Path, problem: str = "") -> MIP:
    """Read an LP model through HiGHS, or SCIP where HiGHS refuses.

    Raises
    ------
    InputError
        When neither can read it (both are quoted), or it holds what is not linear.
    """
    path = Path(path)
    text = read_text(path)
    _check_lp(path, text)
    if not re.search(r"^\s*end\s*$", text, re.IGNORECASE | re.MULTILINE):
        # SCIP takes a file without it, HiGHS does not.
        text += "\nEnd\n"
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.lp"
        plain.write_text(text, encoding="utf-8")
        first = _through_highs(plain)
        second = first if isinstance(first, MIP) else _through_scip(plain)
    if isinstance(second, MIP):
        return second.replace(name=path.name.split(".")[0])
    assert isinstance(first, _Refusal)
    line = second.line if first.line is None else first.line
    raise InputError(
        path, line, f"HiGHS: {first.text}; SCIP: {second.text}", "mend it, or check its suffix"
    )


def _convert(lp: Any) -> MIP:
    import highspy

    n, m = lp.num_col_, lp.num_row_
    if n == 0:
        raise ValueError("has no columns; is the file truncated?")
    kinds = list(lp.integrality_) or [highspy.HighsVarType.kContinuous] * n
    allowed = {highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger}
    if not set(kinds) <= allowed:
        raise ValueError("semi-continuous columns are not supported; linearise them.")
    matrix = lp.a_matrix_
    shape = (m, n)
    data = (np.array(matrix.value_), np.array(matrix.index_), np.array(matrix.start_))
    if matrix.format_ == highspy.MatrixFormat.kColwise:
        rows: Any = sparse.csc_array(data, shape=shape)
    else:
        rows = sparse.csr_array(data, shape=shape)
    maximize = lp.sense_ == highspy.ObjSense.kMaximize
    return MIP(
        c=np.array(lp.col_cost_),
        A=rows,
        row_lower=np.array(lp.row_lower_),
        row_upper=np.array(lp.row_upper_),
        lower=np.array(lp.col_lower_),
        upper=np.array(lp.col_upper_),
        integrality=np.array([k == highspy.HighsVarType.kInteger for k in kinds]),
        offset=float(lp.offset_),
        sense=Sense.MAXIMIZE if maximize else Sense.MINIMIZE,
        columns=list(lp.col_names_) or [f"x{k}" for k in range(n)],
        rows=list(lp.row_names_) or [f"r{k}" for k in range(m)],
    )


def _range(low: float, high: float) -> tuple[str, float]:
    """Row kind and range from which readers get both limits back, to the bit if possible."""
    width = high - low
    for candidate in (width, np.nextafter(width, np.inf), np.nextafter(width, 0.0)):
        if high - candidate == low:
            return "L", float(candidate)
        if low + candidate == high:
            return "G", float(candidate)
    return "L", width


def _number(value: float) -> str:
    if np.isinf(value):
        return "1e30" if value > 0 else "-1e30"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def _check_names(mip: MIP, allowed: str) -> None:
    pattern = re.compile(allowed)
    for name in (*mip.columns, *mip.rows):
        if not pattern.fullmatch(name):
            raise ValueError(f"name {name[:40]!r} cannot be written in this format; rename it.")


def write_mps(mip: MIP, file: TextIO) -> None:
    """Write free MPS; reading it back gives the same numbers.

    The format stores a row with two limits as one limit and a range, so that in rare
    cases (limits of different signs, not whole) one of them comes back one bit off.

    Raises
    ------
    ValueError
        When a name holds white space.
    """
    _check_names(mip, r"[^\s$*][^\s]*")
    objective = "obj"
    while objective in mip.rows:
        objective += "_"
    file.write(f"NAME {'_'.join(mip.name.split()) or 'mip'}\n")
    if mip.sense is Sense.MAXIMIZE:
        file.write("OBJSENSE\n    MAX\n")
    file.write(f"ROWS\n N {objective}\n")
    kinds = []
    for low, high in zip(mip.row_lower, mip.row_upper, strict=True):
        if low == high:
            kinds.append("E")
        elif np.isinf(high) or (np.isfinite(low) and _range(low, high)[0] == "G"):
            # Also rows without limits: readers drop further N rows.
            kinds.append("G")
        else:
            kinds.append("L")
    file.writelines(f" {kind} {row}\n" for kind, row in zip(kinds, mip.rows, strict=True))
    file.write("COLUMNS\n")
    columns = sparse.csc_array(mip.A)
    marked = False
    for k, name in enumerate(mip.columns):
        if mip.integrality[k] != marked:
            marked = not marked
            file.write(f" MARKER 'MARKER' '{'INTORG' if marked else 'INTEND'}'\n")
        entries = range(columns.indptr[k], columns.indptr[k + 1])
        if mip.c[k] or not entries:
            file.write(f" {name} {objective} {_number(mip.c[k])}\n")
        for e in entries:
            file.write(f" {name} {mip.rows[columns.indices[e]]} {_number(columns.data[e])}\n")
    if marked:
        file.write(" MARKER 'MARKER' 'INTEND'\n")
    file.write("RHS\n")
    if mip.offset:
        file.write(f" RHS {objective} {_number(-mip.offset)}\n")
    ranges = []
    for kind, row, low, high in zip(kinds, mip.rows, mip.row_lower, mip.row_upper, strict=True):
        right = low if kind in "EG" else high
        if right:
            file.write(f" RHS {row} {_number(right)}\n")
        if kind != "E" and np.isfinite(low) and np.isfinite(high):
            ranges.append(f" RNG {row} {_number(_range(low, high)[1])}\n")
    if ranges:
        file.write("RANGES\n")
        file.writelines(ranges)
    file.write("BOUNDS\n")
    for name, low, high, whole in zip(
        mip.columns, mip.lower, mip.upper, mip.integrality, strict=True
    ):
        if np.isinf(low) and np.isinf(high):
            file.write(f" FR BND {name}\n")
        elif low == high:
            file.write(f" FX BND {name} {_number(low)}\n")
        else:
            if np.isinf(low):
                file.write(f" MI BND {name}\n")
            elif low:
                file.write(f" LO BND {name} {_number(low)}\n")
            # Integer columns without an upper bound are read as binary by some readers.
            if not np.isinf(high):
                file.write(f" UP BND {name} {_number(high)}\n")
            elif whole:
                file.write(f" PL BND {name}\n")
    file.write("ENDATA\n")


_LP_NAME = r"[A-Za-z_!\"#$%&(),;?@'`{}~][A-Za-z0-9_!\"#$%&(),.;?@'`{}~]*"


def write_lp(mip: MIP, file: TextIO) -> None:
    """Write an LP model; reading it back gives the same numbers.

    Raises
    ------
    ValueError
        When a name cannot be written.
    """
    _check_names(mip, _LP_NAME)
    if any(re.match(r"[eE]\d*", name) and not name[1:].strip("0123456789") for name in mip.columns):
        raise ValueError("a column name that looks like an exponent; write .mps instead.")

    def terms(indices: Any, values: Any) -> str:
        parts = [
            f"{'-' if v < 0 else '+'} {_number(abs(v))} {mip.columns[k]}"
            for k, v in zip(indices, values, strict=True)
        ]
        return "\n  ".join(" ".join(parts[k : k + 8]) for k in range(0, len(parts), 8))

    file.write("Maximize\n" if mip.sense is Sense.MAXIMIZE else "Minimize\n")
    # Readers number columns as they appear: naming all of them here keeps their order.
    constant = f" {'-' if mip.offset < 0 else '+'} {_number(abs(mip.offset))}" if mip.offset else ""
    body = terms(range(mip.n), mip.c)
    file.write(f" obj: {body}{constant}\nSubject To\n")
    for k, row in enumerate(mip.rows):
        entries = slice(mip.A.indptr[k], mip.A.indptr[k + 1])
        low, high = mip.row_lower[k], mip.row_upper[k]
        body = terms(mip.A.indices[entries], mip.A.data[entries]) or f"+ 0 {mip.columns[0]}"
        if low == high:
            file.write(f" {row}: {body} = {_number(low)}\n")
        elif np.isinf(low) and np.isinf(high):
            file.write(f" {row}: {body} >= -1e30\n")
        elif np.isinf(low):
            file.write(f" {row}: {body} <= {_number(high)}\n")
        elif np.isinf(high):
            file.write(f" {row}: {body} >= {_number(low)}\n")
        else:
            raise ValueError(f"row {row!r} has two limits; write .mps instead.")
    file.write("Bounds\n")
    for name, low, high in zip(mip.columns, mip.lower, mip.upper, strict=True):
        if np.isinf(low) and np.isinf(high):
            file.write(f" {name} free\n")
        else:
            left = "-infinity" if np.isinf(low) else _number(low)
            right = "+infinity" if np.isinf(high) else _number(high)
            file.write(f" {left} <= {name} <= {right}\n")
    whole = [name for name, flag in zip(mip.columns, mip.integrality, strict=True) if flag]
    if whole:
        file.write("General\n")
        file.writelines(f" {name}\n" for name in whole)
    file.write("End\n")


_HEADER = re.compile(r"(objective value|solution status|#|=obj=)", re.IGNORECASE)


def read_columns(path: Path, instance: MIP) -> dict[str, float]:
    """Read ``name value`` lines, as SCIP writes them.

    Raises
    ------
    InputError
        When a name is unknown or comes twice, or a value is not a number.
    """
    solution: dict[str, float] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        words = line.split()
        if not words or _HEADER.match(line.strip()):
            continue
        if len(words) < 2:
            raise InputError(path, number, f"no value for {words[0][:40]!r}", "write 'name value'")
        if words[0] not in instance.index:
            raise InputError(path, number, f"column {words[0][:40]!r} does not exist", "mend it")
        if words[0] in solution:
            raise InputError(path, number, f"column {words[0][:40]!r} comes twice", "remove one")
        try:
            value = float(words[1])
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise InputError(path, number, f"{words[1][:40]!r} is not a number", "mend it")
        solution[words[0]] = value
    return solution


def write_columns(instance: MIP, solution: dict[str, float], file: TextIO) -> None:
    """Write a solution as SCIP does: the objective, then the columns that are not zero."""
    file.write(f"objective value: {instance.objective(solution)!r}\n")
    file.writelines(f"{name} {_number(value)}\n" for name, value in solution.items())


MPS = Format(
    problem="mip",
    suffixes=(".mps",),
    sniff=lambda head: re.search(r"^ROWS\s*$", head, re.MULTILINE) is not None,
    read=read_mps,
    write=write_mps,
    read_solution=read_columns,
    write_solution=write_columns,
    solution_suffixes=(".sol",),
)
LP = Format(
    problem="mip",
    suffixes=(".lp",),
    sniff=lambda head: (
        re.search(r"^\s*(subject to|such that|s\.t\.)\s*$", head, re.I | re.M) is not None
    ),
    read=read_lp,
    write=write_lp,
    read_solution=read_columns,
    write_solution=write_columns,
    solution_suffixes=(".sol",),
)
