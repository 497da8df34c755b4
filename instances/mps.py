"""MPS and LP models, plain or gzipped, and SCIP's ``.sol`` solutions.

MPS is parsed here; LP by HiGHS, and by SCIP where HiGHS refuses, both imported on use.
"""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from scipy import sparse

from nco.instances.core import InputError, Sense
from nco.instances.io import Format, decimal, read_text, redirected
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
            (r"^\s*sos[12]?\s*$|\bs[12]\s*::", "special ordered sets"),
            (r"->", "indicator constraints"),
            (r"^\s*(semi-continuous|semi|semis)\s*$", "semi-continuous columns"),
            (r"(^|[^\w.\]])\[", "quadratic terms"),
            (r"^\s*general constraints\s*$", "general constraints"),
        ):
            if re.search(pattern, code, re.IGNORECASE):
                raise InputError(path, number, f"{what} are not supported", "linearise them")
        if "[" in code:
            raise InputError(
                path, number, "names with brackets are not supported", "rename them, or write .mps"
            )


_NUMBER = r"[+-]?\s*(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)"
_RANGED = re.compile(
    rf"(?:(?P<name>[^\s:<>=]+)\s*:)?\s*(?P<low>{_NUMBER})\s*(?P<sense>[<>]=?|=[<>])"
    rf"(?P<terms>[^<>=:]+)(?P<again>[<>]=?|=[<>])\s*(?P<high>{_NUMBER})(?![\w.])",
    re.IGNORECASE,
)
_ROWS_BEGIN = re.compile(
    r"^\s*(subject\s+to|such\s+that|s\.?t\.?)(?=[\s:]|$)", re.IGNORECASE | re.MULTILINE
)
_ROWS_END = re.compile(
    r"^\s*(bounds?|generals?|gen|integers?|int|binary|binaries|bin|end)\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def _without_ranges(text: str) -> tuple[str, dict[str, tuple[str, float]]]:
    """LP text with one limit for each row, and which one ("lower", "upper") is left out.

    Neither library reads ``low <= terms <= high``. Line numbers stay as they are.
    """
    begin = _ROWS_BEGIN.search(text)
    if begin is None:
        return text, {}
    end = _ROWS_END.search(text, begin.end())
    stop = len(text) if end is None else end.start()
    left: dict[str, tuple[str, float]] = {}

    def number(part: str) -> float:
        return float("".join(part.split()))

    def keep_one(row: re.Match[str]) -> str:
        if row["sense"].strip("=") != row["again"].strip("="):
            return row[0]
        name = row["name"] or f"range{len(left)}"
        while row["name"] is None and name in text:
            name += "_"
        below = "<" in row["sense"]
        left[name] = ("upper" if below else "lower", number(row["high"]))
        lines = "\n" * (row[0].count("\n") - row["terms"].count("\n"))
        kept = max(-1e30, min(1e30, number(row["low"])))
        return f"{lines} {name}: {row['terms']} {'>=' if below else '<='} {kept!r}"

    rows = _RANGED.sub(keep_one, re.sub(r"\\.*", "", text[begin.end() : stop]))
    return text[: begin.end()] + rows + text[stop:], left


def _with_ranges(mip: MIP, left: dict[str, tuple[str, float]]) -> MIP:
    """The model with the limits that `_without_ranges` took out."""
    limits = {"lower": mip.row_lower.copy(), "upper": mip.row_upper.copy()}
    place = {name: k for k, name in enumerate(mip.rows)}
    for name, (side, limit) in left.items():
        limits[side][place[name]] = math.copysign(math.inf, limit) if abs(limit) >= 1e20 else limit
    return mip.replace(row_lower=limits["lower"], row_upper=limits["upper"])


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Keep what C libraries print for a while; the list holds the text afterwards."""
    text: list[str] = []
    with tempfile.TemporaryFile() as sink:
        try:
            with redirected(sink.fileno()):
                yield text
        finally:
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
    """A model object of SCIP (`pyscipopt.Model`) or HiGHS (`Highs`, `HighsModel`, `HighsLp`).

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
        whole = model.getModel() if hasattr(model, "getModel") else model
        if hasattr(whole, "hessian_"):
            if whole.hessian_.dim_:
                raise ValueError("quadratic objectives are not supported; linearise them.")
            return _convert(whole.lp_)
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
        # Files leave a column several times in a row; the values are its coefficients' parts.
        values = model.getConsVals(constraint)
        for variable, value in zip(model.getConsVars(constraint), values, strict=True):
            entries.append((len(rows), index[variable.name], value))
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
    first, second = _through_both(text)
    if not isinstance(second, MIP):
        text, left = _without_ranges(text)
        if left:
            first, second = _through_both(text)
            second = _with_ranges(second, left) if isinstance(second, MIP) else second
    if isinstance(second, MIP):
        if not second.n:
            raise InputError(path, None, "has no columns", "is the file truncated?")
        return second.replace(name=path.name.split(".")[0])
    assert isinstance(first, _Refusal)
    line = second.line if first.line is None else first.line
    raise InputError(
        path, line, f"HiGHS: {first.text}; SCIP: {second.text}", "mend it, or check its suffix"
    )


def _through_both(text: str) -> tuple[MIP | _Refusal, MIP | _Refusal]:
    """What HiGHS makes of LP text, and where it refuses what SCIP does."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.lp"
        plain.write_text(text, encoding="utf-8")
        first = _through_highs(plain)
        return first, first if isinstance(first, MIP) else _through_scip(plain)


def _convert(lp: Any) -> MIP:
    import highspy

    n, m = lp.num_col_, lp.num_row_
    if n == 0:
        raise ValueError("has no columns.")
    kinds = list(lp.integrality_) or [highspy.HighsVarType.kContinuous] * n
    allowed = {highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger}
    for kind in set(kinds) - allowed:
        if "Semi" in kind.name:
            raise ValueError("semi-continuous columns are not supported; linearise them.")
        raise ValueError("implied integer columns are not supported; declare them.")
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
        columns=_filled(lp.col_names_, n, "x"),
        rows=_filled(lp.row_names_, m, "r"),
    )


def _filled(names: Any, n: int, letter: str) -> list[str]:
    """HiGHS' names, with others for the columns or rows that were given none."""
    given = list(names) or [""] * n
    known = set(given)
    out = []
    for k, name in enumerate(given):
        new = name or f"{letter}{k}"
        while not name and new in known:
            new += "_"
        out.append(new)
    return out


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
            elif low or high < 0:
                # A negative upper bound alone opens the lower one.
                file.write(f" LO BND {name} {_number(low)}\n")
            # Integer columns without an upper bound are read as binary by some readers.
            if not np.isinf(high):
                file.write(f" UP BND {name} {_number(high)}\n")
            elif whole:
                file.write(f" PL BND {name}\n")
    file.write("ENDATA\n")


_LP_NAME = r"[A-Za-z_!\"#$%&(),;?@'`{}~][A-Za-z0-9_!\"#$%&(),.;?@'`{}~]*"


#: Words that begin a section, also where they are meant as a column.
_LP_WORDS = re.compile(
    r"max(imi[sz]e|imum)?|min(imi[sz]e|imum)?|s\.?t\.?|bounds?|gen(erals?)?|int(egers?)?"
    r"|bin(ary|aries)?|semis?|sos[12]?|end",
    re.IGNORECASE,
)


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
    word = next((name for name in mip.columns if _LP_WORDS.fullmatch(name)), None)
    if word is not None:
        raise ValueError(
            f"a column name that is a word of the format, {word!r}; write .mps instead."
        )

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
        # A name may have blanks, as in fixed MPS; SCIP writes the cost behind the value.
        words = re.sub(r"\s*\(obj:[^()]*\)\s*$", "", line.strip()).rsplit(None, 1)
        if len(words) < 2 or words[0] not in instance.index:
            words = line.split()
            # Names of columns may look like a comment.
            if not words or _HEADER.match(line.strip()):
                continue
        if len(words) < 2:
            raise InputError(path, number, f"no value for {words[0][:40]!r}", "write 'name value'")
        if words[0] not in instance.index:
            raise InputError(path, number, f"column {words[0][:40]!r} does not exist", "mend it")
        if words[0] in solution:
            raise InputError(path, number, f"column {words[0][:40]!r} comes twice", "remove one")
        value = decimal(words[1])
        if not math.isfinite(value):
            raise InputError(path, number, f"{words[1][:40]!r} is not a number", "mend it")
        solution[words[0]] = value
    return solution


_STATED = re.compile(
    r"^[ \t]*(?:#?[ \t]*objective value[ \t]*[:=]|=obj=)[ \t]*([-+.0-9e]+)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)


def stated_cost(path: Path) -> float | None:
    """The objective that a solution file claims, as SCIP, Gurobi or MIPLIB write it, or None."""
    match = _STATED.search(read_text(path))
    try:
        return float(match[1]) if match else None
    except ValueError:
        return None


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
    stated_cost=stated_cost,
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
    stated_cost=stated_cost,
)
