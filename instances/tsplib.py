"""TSPLIB 95 and CVRPLIB files: TSP, ATSP and CVRP instances, tours and routes.

G. Reinelt, TSPLIB 95, Universität Heidelberg (1995); CVRPLIB's ``.sol`` files.

Unrounded Euclidean lengths, which TSPLIB cannot express, are written and read as
``EDGE_WEIGHT_TYPE: EXACT_2D``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nco.instances.atsp import ATSP
from nco.instances.core import METRICS, InputError, SpatialInstance
from nco.instances.cvrp import CVRP
from nco.instances.io import Format, read_text
from nco.instances.tsp import TSP

#: Keywords of the specification part; the last two are extensions in common use.
KEYWORDS = (
    "NAME", "TYPE", "COMMENT", "DIMENSION", "CAPACITY", "EDGE_WEIGHT_TYPE", "EDGE_WEIGHT_FORMAT",
    "EDGE_DATA_FORMAT", "NODE_COORD_TYPE", "DISPLAY_DATA_TYPE", "DISTANCE", "SERVICE_TIME",
    "VEHICLES", "COST_LIMIT",
)  # fmt: skip
SECTIONS = (
    "NODE_COORD_SECTION", "DEPOT_SECTION", "DEMAND_SECTION", "EDGE_DATA_SECTION",
    "FIXED_EDGES_SECTION", "DISPLAY_DATA_SECTION", "TOUR_SECTION", "EDGE_WEIGHT_SECTION",
    "NODE_SCORE_SECTION",
)  # fmt: skip
WEIGHT_FORMATS = (
    "FULL_MATRIX", "UPPER_ROW", "LOWER_ROW", "UPPER_DIAG_ROW", "LOWER_DIAG_ROW", "UPPER_COL",
    "LOWER_COL", "UPPER_DIAG_COL", "LOWER_DIAG_COL",
)  # fmt: skip
_METRIC_NAMES = {**{name: name for name in METRICS if name != "exact"}, "EXACT_2D": "exact"}
_TYPES = ("TSP", "ATSP", "CVRP")
_WORD = re.compile(r"\s*([A-Za-z_][A-Za-z_0-9]*)\s*:?\s*(.*)$")


@dataclass
class Section:
    """The numbers of one section, with the lines they stand on.

    Parameters
    ----------
    path, name
        For error texts.
    line
        Line of the section's keyword.
    lines
        The data lines, as text; the first stands on ``line + 1``.
    """

    path: Path
    name: str
    line: int
    lines: list[str] = field(default_factory=list)

    def numbers(self) -> NDArray[np.float64]:
        """All numbers of the section, in reading order.

        Raises
        ------
        InputError
            When something is not a finite number, with its line.
        """
        tokens = " ".join(self.lines).split()
        try:
            values = np.array(tokens, dtype=np.float64)
        except ValueError:
            values = None
        if values is None or not np.isfinite(values).all():
            for number, text in enumerate(self.lines, self.line + 1):
                for token in text.split():
                    if not _finite(token):
                        raise self.error(f"{token[:40]!r} is not a number", "mend it", number)
            raise self.error("holds something that is not a number", "mend it")
        return values

    def rows(self, width: int, count: int, what: str) -> NDArray[np.float64]:
        """The numbers as ``count`` rows [count, width].

        Raises
        ------
        InputError
            When there are more or fewer.
        """
        values = self.numbers()
        if len(values) == width * count:
            return values.reshape(count, width)
        for number, text in enumerate(self.lines, self.line + 1):
            found = len(text.split())
            if found not in (0, width):
                raise self.error(
                    f"{found} numbers in {self.name}, expected {width}", f"give {what}", number
                )
        raise self.error(
            f"{self.name} has {len(values) // width} entries, DIMENSION says {count}",
            "mend DIMENSION or the section",
            self.line + len(self.lines),
        )

    def line_of(self, position: int) -> int:
        """The line of the number at a position in reading order."""
        seen = 0
        for number, text in enumerate(self.lines, self.line + 1):
            seen += len(text.split())
            if seen > position:
                return number
        return self.line + len(self.lines)

    def error(self, what: str, hint: str, line: int | None = None) -> InputError:
        """An `InputError` about this section."""
        return InputError(self.path, line or self.line, what, hint)


def _finite(token: str) -> bool:
    try:
        return bool(np.isfinite(float(token))) and "_" not in token
    except ValueError:
        return False


@dataclass
class Specification:
    """A TSPLIB-like file, split into its keywords and sections.

    Parameters
    ----------
    path
        The file.
    keywords
        Keyword -> (text, line).
    sections
        Section name -> its content.
    """

    path: Path
    keywords: dict[str, tuple[str, int]] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)

    def text(self, key: str, default: str = "") -> str:
        """The first word of a keyword's text, upper case."""
        value = self.keywords.get(key, (default, 0))[0].split()
        return value[0].upper() if value else default

    def number(self, key: str, default: float | None = None) -> float:
        """A keyword's number, an int where it is whole.

        Raises
        ------
        InputError
            When it is missing without a default, or not a finite number >= 0.
        """
        if key not in self.keywords:
            if default is not None:
                return default
            raise InputError(self.path, None, f"{key} is missing", f"add '{key}: <number>'")
        text, line = self.keywords[key]
        word = text.split()[0] if text.split() else ""
        if not _finite(word) or float(word) < 0:
            raise InputError(
                self.path, line, f"{key} {word[:40]!r} is not a number >= 0", "mend it"
            )
        value = float(word)
        return int(value) if value.is_integer() else value

    def dimension(self) -> int:
        """DIMENSION.

        Raises
        ------
        InputError
            When it is missing or not a whole number >= 1.
        """
        value = self.number("DIMENSION")
        if not isinstance(value, int) or not 1 <= value <= 2**31:
            line = self.keywords["DIMENSION"][1]
            raise InputError(self.path, line, f"DIMENSION {value} is not a node count", "mend it")
        return value

    def section(self, name: str) -> Section:
        """A section that must be there.

        Raises
        ------
        InputError
            When it is missing.
        """
        if name not in self.sections:
            raise InputError(self.path, None, f"{name} is missing", "is the file truncated?")
        return self.sections[name]


def parse(path: str | Path) -> Specification:
    """Split a TSPLIB-like file into keywords and sections.

    Raises
    ------
    InputError
        When a keyword is unknown, or a keyword or section comes twice.
    """
    path = Path(path)
    spec = Specification(path)
    current: Section | None = None
    for number, line in enumerate(read_text(path).split("\n"), 1):
        head = line.lstrip()[:1]
        if current is not None and not (head.isalpha() or head == "_"):
            current.lines.append(line)
            continue
        if not head:
            continue
        match = _WORD.match(line)
        if match is None:
            shown = line.strip()[:40]
            raise InputError(path, number, f"{shown!r} belongs to no section", "remove the line")
        key, rest = match[1].upper(), match[2].strip()
        if key == "EOF":
            break
        if key in SECTIONS:
            if key in spec.sections:
                raise InputError(path, number, f"{key} comes twice", "remove one")
            current = spec.sections[key] = Section(path, key, number)
            if rest:
                raise InputError(path, number, f"{rest[:40]!r} after {key}", "start a new line")
        elif key in KEYWORDS:
            current = None
            if key == "COMMENT":
                continue
            if key in spec.keywords:
                raise InputError(path, number, f"{key} comes twice", "remove one")
            spec.keywords[key] = (rest.strip("\"'"), number)
        else:
            if current is not None:
                shown = line.split()[0][:40]
                raise InputError(
                    path, number, f"{shown!r} in {current.name}: neither number nor keyword",
                    "mend it",
                )  # fmt: skip
            raise InputError(
                path, number, f"unknown keyword {match[1][:40]!r}", f"known: {', '.join(KEYWORDS)}"
            )
    return spec


def _matrix(spec: Specification, n: int) -> NDArray[Any]:
    section = spec.section("EDGE_WEIGHT_SECTION")
    kind = spec.text("EDGE_WEIGHT_FORMAT")
    if kind not in WEIGHT_FORMATS:
        line = spec.keywords.get("EDGE_WEIGHT_FORMAT", ("", 0))[1] or None
        raise InputError(
            spec.path, line, f"EDGE_WEIGHT_FORMAT {kind or 'missing'!r} not supported",
            f"supported: {', '.join(WEIGHT_FORMATS)}",
        )  # fmt: skip
    values = section.numbers()
    if kind == "FULL_MATRIX":
        expected = n * n
    else:
        expected = n * (n + 1) // 2 if "DIAG" in kind else n * (n - 1) // 2
    if len(values) != expected:
        raise section.error(
            f"EDGE_WEIGHT_SECTION has {len(values)} numbers, {kind} of {n} nodes needs {expected}",
            "mend DIMENSION or the section",
            section.line + len(section.lines),
        )
    if (values < 0).any():
        first = int(np.argmax(values < 0))
        raise section.error(
            f"cost {values[first]:g} < 0", "add a constant to all costs", section.line_of(first)
        )
    if kind == "FULL_MATRIX":
        matrix = values.reshape(n, n)
    else:
        # An upper triangle by columns is a lower triangle by rows, and vice versa.
        offset = 0 if "DIAG" in kind else 1
        upper = kind.startswith("UPPER") == kind.endswith("ROW")
        i, j = np.triu_indices(n, offset) if upper else np.tril_indices(n, -offset)
        matrix = np.zeros((n, n))
        matrix[i, j] = values
        matrix[j, i] = values
    # The diagonal is never travelled; files fill it with anything.
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _coordinates(section: Section, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    first = next((text for text in section.lines if text.strip()), "")
    width = 4 if len(first.split()) == 4 else 3
    rows = section.rows(width, n, "a node number and its coordinates")
    ids = _ids(section, rows[:, 0], width)
    order = np.argsort(ids, kind="stable")
    return ids[order], np.ascontiguousarray(rows[order, 1:])


def _ids(section: Section, values: NDArray[np.float64], width: int) -> NDArray[np.int64]:
    whole = (values == np.rint(values)) & (np.abs(values) < 2**53)
    if not whole.all():
        k = int(np.argmin(whole))
        raise section.error(
            f"node number {values[k]:g} is not whole", "mend it", section.line_of(k * width)
        )
    ids = values.astype(np.int64)
    unique, count = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        twice = unique[np.argmax(count > 1)]
        again = int(np.flatnonzero(ids == twice)[1])
        raise section.error(
            f"node {twice} comes twice", "remove one", section.line_of(again * width)
        )
    return ids


def _space(spec: Specification, n: int) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Node numbers, sorted, and the coords, matrix and metric of a file."""
    kind = spec.text("EDGE_WEIGHT_TYPE")
    if not kind and "EDGE_WEIGHT_SECTION" in spec.sections:
        kind = "EXPLICIT"
    for name in ("FIXED_EDGES_SECTION", "EDGE_DATA_SECTION"):
        if name in spec.sections:
            raise spec.sections[name].error(f"{name} is not supported", "remove the section")
    ids = np.arange(1, n + 1)
    if kind == "EXPLICIT":
        space: dict[str, Any] = {"matrix": _matrix(spec, n)}
        for name in ("NODE_COORD_SECTION", "DISPLAY_DATA_SECTION"):
            if name in spec.sections:
                ids, coords = _coordinates(spec.sections[name], n)
                space["coords"] = coords
        return ids, space
    if kind not in _METRIC_NAMES:
        line = spec.keywords.get("EDGE_WEIGHT_TYPE", ("", 0))[1] or None
        supported = ", ".join(["EXPLICIT", *_METRIC_NAMES])
        raise InputError(
            spec.path, line, f"EDGE_WEIGHT_TYPE {kind or 'missing'!r} not supported",
            f"supported: {supported}",
        )  # fmt: skip
    metric = _METRIC_NAMES[kind]
    section = spec.section("NODE_COORD_SECTION")
    ids, coords = _coordinates(section, n)
    dimension = METRICS[metric][1]
    if coords.shape[1] < dimension:
        raise section.error(f"{kind} needs {dimension} coordinates per node", "add the third")
    # 2-d files padded with a zero column exist.
    if coords.shape[1] > dimension and coords[:, dimension:].any():
        raise section.error(f"{kind} takes {dimension} coordinates per node", "use EUC_3D")
    return ids, {"coords": coords[:, :dimension], "metric": metric}


def _type(spec: Specification, problem: str) -> str:
    kind = spec.text("TYPE")
    known = {"tsp": "TSP", "atsp": "ATSP", "cvrp": "CVRP"}
    if kind == "TOUR" or (not kind and "TOUR_SECTION" in spec.sections):
        raise InputError(spec.path, None, "is a tour, not an instance", "nco check INSTANCE TOUR")
    if problem in known:
        return known[problem]
    if kind not in _TYPES:
        line = spec.keywords.get("TYPE", ("", 0))[1] or None
        raise InputError(
            spec.path, line, f"TYPE {kind or 'missing'!r} not supported",
            f"supported: {', '.join(_TYPES)}",
        )  # fmt: skip
    return kind


def read(path: Path, problem: str = "") -> TSP | CVRP:
    """Read a TSP, ATSP or CVRP file.

    Parameters
    ----------
    path
        The file.
    problem
        Read it as "tsp", "atsp" or "cvrp"; "" follows TYPE.

    Raises
    ------
    InputError
        When the file cannot be understood.
    """
    spec = parse(path)
    kind = _type(spec, problem)
    n = spec.dimension()
    name = spec.keywords.get("NAME", ("", 0))[0].strip() or path.name.split(".")[0]
    ids, space = _space(spec, n)
    if kind == "CVRP":
        return _read_cvrp(spec, n, name, ids, space)
    if kind == "ATSP":
        if "matrix" not in space:
            raise InputError(path, None, "an ATSP needs EDGE_WEIGHT_TYPE: EXPLICIT", "or TYPE: TSP")
        return ATSP(name=name, **space)
    matrix = space.get("matrix")
    if matrix is not None and not (matrix == matrix.T).all():
        i, j = (int(k) for k in np.argwhere(matrix != matrix.T)[0])
        raise spec.section("EDGE_WEIGHT_SECTION").error(
            f"cost {i + 1}-{j + 1} is {matrix[i, j]:g}, {j + 1}-{i + 1} is {matrix[j, i]:g}",
            "an asymmetric matrix needs TYPE: ATSP",
        )
    return TSP(name=name, **space)


def _read_cvrp(
    spec: Specification, n: int, name: str, ids: NDArray[np.int64], space: dict[str, Any]
) -> CVRP:
    capacity = spec.number("CAPACITY")
    section = spec.section("DEMAND_SECTION")
    rows = section.rows(2, n, "a node number and its demand")
    numbers = _ids(section, rows[:, 0], 2)
    order = np.argsort(numbers, kind="stable")
    if not (numbers[order] == ids).all():
        k = int(np.argmax(numbers[order] != ids))
        raise section.error(
            f"node {numbers[order][k]} has a demand but no coordinates", "mend the number",
            section.line_of(int(order[k]) * 2),
        )  # fmt: skip
    demands = rows[order, 1]
    for bad, what in ((demands < 0, "demand < 0"), (demands > capacity, "demand > CAPACITY")):
        if bad.any():
            k = int(np.argmax(bad))
            raise section.error(
                f"node {ids[k]}: {what} ({demands[k]:g}, CAPACITY {capacity:g})",
                "mend the demand or CAPACITY", section.line_of(int(order[k]) * 2),
            )  # fmt: skip
    depot = _depot(spec, ids)
    if demands[depot] != 0:
        raise section.error(
            f"the depot, node {ids[depot]}, has demand {demands[depot]:g}", "set it to 0",
            section.line_of(int(order[depot]) * 2),
        )  # fmt: skip
    first = np.r_[depot, np.delete(np.arange(n), depot)]
    if "coords" in space:
        space["coords"] = space["coords"][first]
    if "matrix" in space:
        space["matrix"] = space["matrix"][np.ix_(first, first)]
    vehicles = spec.number("VEHICLES", 0)
    limit = spec.number("DISTANCE", -1.0) if "DISTANCE" in spec.keywords else None
    return CVRP(
        name=name,
        demands=demands[first],
        capacity=capacity,
        max_distance=limit,
        service_time=spec.number("SERVICE_TIME", 0.0),
        vehicles=int(vehicles) or None,
        **space,
    )


def _depot(spec: Specification, ids: NDArray[np.int64]) -> int:
    if "DEPOT_SECTION" not in spec.sections:
        return 0
    section = spec.sections["DEPOT_SECTION"]
    numbers = [int(v) for v in section.numbers() if v != -1]
    if len(numbers) != 1:
        raise section.error(f"{len(numbers)} depots; one is supported", "give one node and -1")
    found = np.flatnonzero(ids == numbers[0])
    if not len(found):
        raise section.error(f"depot {numbers[0]} is not a node", "give a node number")
    return int(found[0])


def _number(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _write_space(instance: SpatialInstance[Any], file: TextIO) -> None:
    if instance.matrix is not None:
        file.write("EDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: FULL_MATRIX\n")
        if instance.coords is not None:
            file.write("DISPLAY_DATA_TYPE: TWOD_DISPLAY\n")
    else:
        name = "EXACT_2D" if instance.metric == "exact" else instance.metric
        file.write(f"EDGE_WEIGHT_TYPE: {name}\n")


def _write_sections(instance: SpatialInstance[Any], file: TextIO) -> None:
    if instance.coords is not None:
        explicit = instance.matrix is not None
        file.write("DISPLAY_DATA_SECTION\n" if explicit else "NODE_COORD_SECTION\n")
        for number, point in enumerate(instance.coords, 1):
            file.write(f"{number} {' '.join(_number(v) for v in point)}\n")
    if instance.matrix is not None:
        file.write("EDGE_WEIGHT_SECTION\n")
        for row in instance.matrix:
            file.write(" ".join(_number(v) for v in row) + "\n")


def write(instance: TSP | CVRP, file: TextIO) -> None:
    """Write an instance; reading it back gives the same numbers.

    Raises
    ------
    ValueError
        When an asymmetric matrix would be called a TSP.
    """
    routing = isinstance(instance, CVRP)
    kind = "CVRP" if routing else instance.problem.upper()
    if kind == "TSP" and not instance.distances.symmetric:
        raise ValueError("an asymmetric matrix cannot be written as TYPE: TSP; use .atsp or .npz.")
    name = " ".join(instance.name.split()) or instance.problem
    file.write(f"NAME: {name}\nTYPE: {kind}\nDIMENSION: {instance.nodes}\n")
    _write_space(instance, file)
    if isinstance(instance, CVRP):
        file.write(f"CAPACITY: {_number(instance.capacity)}\n")
        if instance.max_distance is not None:
            file.write(f"DISTANCE: {_number(instance.max_distance)}\n")
        if instance.service_time:
            file.write(f"SERVICE_TIME: {_number(instance.service_time)}\n")
        if instance.vehicles is not None:
            file.write(f"VEHICLES: {instance.vehicles}\n")
    _write_sections(instance, file)
    if isinstance(instance, CVRP):
        file.write("DEMAND_SECTION\n")
        for number, demand in enumerate(instance.demands, 1):
            file.write(f"{number} {_number(demand)}\n")
        file.write("DEPOT_SECTION\n1\n-1\n")
    file.write("EOF\n")


def read_tour(path: Path, instance: TSP) -> list[int]:
    """Read a tour: TSPLIB's TOUR_SECTION, or plain node numbers.

    Numbers count from 1; from 0 if a 0 occurs.

    Raises
    ------
    InputError
        When something is not a node number.
    """
    text = read_text(path)
    if "TOUR_SECTION" in text:
        section = parse(path).section("TOUR_SECTION")
    else:
        section = Section(Path(path), "the tour", 0, text.split("\n"))
    values = section.numbers()
    ends = np.flatnonzero(values == -1)
    if len(ends):
        values = values[: ends[0]]
    if not (values == np.rint(values)).all():
        k = int(np.argmin(values == np.rint(values)))
        raise section.error(f"{values[k]:g} is not a node", "mend it", section.line_of(k))
    if not len(values):
        raise section.error("no nodes", "is the file truncated?")
    base = 0 if values.min() == 0 else 1
    outside = (values < base) | (values >= base + instance.n)
    if outside.any():
        k = int(np.argmax(outside))
        raise section.error(
            f"node {values[k]:g} does not exist", f"nodes: {base}..{base + instance.n - 1}",
            section.line_of(k),
        )  # fmt: skip
    return [int(v) - base for v in values]


def write_tour(instance: TSP, solution: list[int], file: TextIO) -> None:
    """Write a TSPLIB tour."""
    name = " ".join(instance.name.split()) or instance.problem
    file.write(f"NAME: {name}.tour\nTYPE: TOUR\n")
    file.write(f"COMMENT: Length {instance.objective(solution)}\n")
    file.write(f"DIMENSION: {instance.n}\nTOUR_SECTION\n")
    file.write("\n".join(str(k + 1) for k in solution) + "\n-1\nEOF\n")


_ROUTE = re.compile(r"\s*route\s*#?\s*\d+\s*:\s*(.*)$", re.IGNORECASE)
_COST = re.compile(r"\s*(cost|obj\w*|time|no\.?|number)\b", re.IGNORECASE)


def read_routes(path: Path, instance: CVRP) -> list[list[int]]:
    """Read CVRPLIB routes; the stated cost is not believed, hence not needed.

    Raises
    ------
    InputError
        When a line is neither a route nor a cost, or a customer does not exist.
    """
    routes = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        match = _ROUTE.match(line)
        if match is None:
            if line.strip() and not _COST.match(line):
                raise InputError(
                    path, number, f"{line.strip()[:40]!r} is not a route", "write 'Route #1: 3 1 2'"
                )
            continue
        try:
            route = [int(token) for token in match[1].split()]
        except ValueError:
            raise InputError(
                path, number, "a route holds customer numbers only", "mend it"
            ) from None
        for customer in route:
            if not 1 <= customer <= instance.n:
                raise InputError(
                    path, number, f"customer {customer} does not exist", f"known: 1..{instance.n}"
                )
        routes.append(route)
    if not routes:
        raise InputError(path, None, "holds no route", "write 'Route #1: 3 1 2'")
    return routes


def write_routes(instance: CVRP, solution: list[list[int]], file: TextIO) -> None:
    """Write CVRPLIB routes with their cost."""
    for number, route in enumerate((r for r in solution if r), 1):
        file.write(f"Route #{number}: {' '.join(str(k) for k in route)}\n")
    file.write(f"Cost {instance.objective(solution)}\n")


def _sniffer(kind: str) -> Any:
    pattern = re.compile(rf"^\s*TYPE\s*:?\s*\"?{kind}\b", re.IGNORECASE | re.MULTILINE)
    return lambda head: pattern.search(head) is not None


TSP_FORMAT = Format(
    problem="tsp",
    suffixes=(".tsp",),
    sniff=_sniffer("TSP"),
    read=read,
    write=write,
    read_solution=read_tour,
    write_solution=write_tour,
    solution_suffixes=(".tour",),
)
ATSP_FORMAT = Format(
    problem="atsp",
    suffixes=(".atsp",),
    sniff=_sniffer("ATSP"),
    read=read,
    write=write,
    read_solution=read_tour,
    write_solution=write_tour,
    solution_suffixes=(".tour",),
)
CVRP_FORMAT = Format(
    problem="cvrp",
    suffixes=(".vrp",),
    sniff=_sniffer("CVRP"),
    read=read,
    write=write,
    read_solution=read_routes,
    write_solution=write_routes,
    solution_suffixes=(".sol",),
)
