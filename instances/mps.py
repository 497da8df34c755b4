"""MPS and LP models, plain or gzipped, and SCIP's ``.sol`` solutions.

Models are parsed by HiGHS, and by SCIP where HiGHS refuses; both are imported on use.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from scipy import sparse

from nco.instances.core import InputError, Sense
from nco.instances.io import Format, read_text
from nco.instances.mip import MIP

_MPS_SECTIONS = {
    "NAME", "OBJSENSE", "OBJSENSES", "OBJNAME", "OBJSENS", "REFROW", "ROWS", "LAZYCONS",
    "USERCUTS", "COLUMNS", "RHS", "RANGES", "BOUNDS", "ENDATA",
}  # fmt: skip
_UNSUPPORTED = {
    "SOS": "special ordered sets", "SETS": "special ordered sets", "SOS1": "special ordered sets",
    "SOS2": "special ordered sets", "INDICATORS": "indicator constraints",
    "GENCONS": "general constraints", "PWLOBJ": "piecewise linear objectives",
    "PWLNAM": "piecewise linear objectives", "PWLCON": "piecewise linear constraints",
    "QUADOBJ": "quadratic objectives", "QMATRIX": "quadratic objectives",
    "QSECTION": "quadratic objectives", "QCMATRIX": "quadratic constraints",
    "CSECTION": "cone constraints", "SCENARIOS": "scenarios",
}  # fmt: skip


def _check_mps(path: Path, text: str) -> None:
    ended = False
    sections = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("*"):
            continue
        if line[0].isspace():
            continue
        word = line.split()[0].upper()
        sections.add(word)
        if word in _UNSUPPORTED:
            raise InputError(
                path, number, f"{_UNSUPPORTED[word]} are not supported", "linearise them"
            )
        if word not in _MPS_SECTIONS:
            raise InputError(path, number, f"unknown section {word[:20]!r}", "is this an MPS file?")
        if word == "ENDATA":
            ended = True
            break
    missing = {"ROWS", "COLUMNS"} - sections
    if missing:
        raise InputError(path, None, f"no section {min(missing)}", "is this an MPS file?")
    if not ended:
        raise InputError(path, None, "ends without ENDATA", "is the file truncated?")


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
def silenced() -> Iterator[None]:
    """Send what C libraries print to nowhere for a while."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for handle in (*kept, nowhere):
            os.close(handle)


def _highs_model(path: Path) -> Any:
    import highspy

    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    status = highs.readModel(str(path))
    return None if status == highspy.HighsStatus.kError else highs.getLp()


def _through_scip(path: Path, folder: Path) -> Path | str:
    """Rewrite a model as MPS with SCIP; its error text if it cannot read it either."""
    import pyscipopt

    model = pyscipopt.Model()
    model.hideOutput()
    try:
        model.readProblem(str(path))
        out = folder / "model.mps"
        model.writeProblem(str(out), trans=False, genericnames=False, verbose=False)
    except Exception as error:  # pyscipopt raises bare Exception
        return str(error)
    return out


def _read(path: Path, suffix: str) -> MIP:
    path = Path(path)
    text = read_text(path)
    (_check_mps if suffix == ".mps" else _check_lp)(path, text)
    with tempfile.TemporaryDirectory() as folder, silenced():
        plain = Path(folder) / f"plain{suffix}"
        plain.write_text(text, encoding="utf-8")
        lp = _highs_model(plain)
        if lp is None:
            other = _through_scip(plain, Path(folder))
            lp = _highs_model(other) if isinstance(other, Path) else None
    if lp is None:
        raise InputError(path, None, "neither HiGHS nor SCIP can read it", "check its syntax")
    return _convert(path, lp)


def _convert(path: Path, lp: Any) -> MIP:
    import highspy

    n, m = lp.num_col_, lp.num_row_
    if n == 0:
        raise InputError(path, None, "has no columns", "is the file truncated?")
    kinds = list(lp.integrality_) or [highspy.HighsVarType.kContinuous] * n
    allowed = {highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger}
    if not set(kinds) <= allowed:
        raise InputError(path, None, "semi-continuous columns are not supported", "linearise them")
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
        columns=list(lp.col_names_) or None,
        rows=list(lp.row_names_) or None,
        name=path.name.split(".")[0],
    )


def read_mps(path: Path, problem: str = "") -> MIP:
    """Read an MPS model, fixed or free.

    Raises
    ------
    InputError
        When it is not one, is truncated, or holds what is not linear.
    """
    return _read(path, ".mps")


def read_lp(path: Path, problem: str = "") -> MIP:
    """Read an LP model.

    Raises
    ------
    InputError
        When it is not one, or holds what is not linear.
    """
    return _read(path, ".lp")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def _check_names(mip: MIP, allowed: str) -> None:
    pattern = re.compile(allowed)
    for name in (*mip.columns, *mip.rows):
        if not pattern.fullmatch(name):
            raise ValueError(f"name {name[:40]!r} cannot be written in this format; rename it.")


def write_mps(mip: MIP, file: TextIO) -> None:
    """Write free MPS; reading it back gives the same numbers.

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
        elif np.isinf(low) and np.isinf(high):
            kinds.append("N")
        else:
            kinds.append("G" if np.isinf(high) else "L")
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
        if kind != "N" and right:
            file.write(f" RHS {row} {_number(right)}\n")
        if kind == "L" and not np.isinf(low):
            ranges.append(f" RNG {row} {_number(high - low)}\n")
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
            file.write(f" {row}: {body} >= -infinity\n")
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
