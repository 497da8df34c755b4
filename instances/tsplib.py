"""TSPLIB 95 and CVRPLIB files: TSP, ATSP and CVRP instances, tours and routes.

G. Reinelt, TSPLIB 95, Universität Heidelberg (1995), with CVRPLIB's keywords
``SERVICE_TIME`` and ``VEHICLES``, and its ``.sol`` files.

Unrounded Euclidean lengths, which TSPLIB cannot express, are written and read as
``EDGE_WEIGHT_TYPE: EXACT_2D``, the name that LKH-3 uses. Nodes become 0, 1, ... in the
order of their numbers, the depot first; the files' own numbers are not kept.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import (
    MAX_MATRIX_NODES,
    METRICS,
    InputError,
    Instance,
    SpatialInstance,
)
from nco.instances.cvrp import CVRP
from nco.instances.io import Format, decimal, read_text
from nco.instances.op import OP
from nco.instances.registry import problems
from nco.instances.tour_edges import edge_array, fixed_fault, missing_fault, unlisted_fault
from nco.instances.tsp import TSP

#: Keywords of the specification part; the last three are extensions in common use.
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
#: EDGE_WEIGHT_TYPE -> metric.
METRIC_NAMES = {**{name: name for name in METRICS if name != "exact"}, "EXACT_2D": "exact"}
#: TYPE -> problem; a Hamiltonian cycle is a tour of edges that cost 1.
TYPES = {
    "TSP": "tsp", "ATSP": "atsp", "CVRP": "cvrp", "OVRP": "ovrp", "OP": "op", "HCP": "tsp",
}  # fmt: skip
#: Sections of edges -> fields of tours.
EDGE_SECTIONS = {"FIXED_EDGES_SECTION": "fixed", "EDGE_DATA_SECTION": "edges"}

#: Largest cost or coordinate; sums of larger ones are not exact.
LARGEST = 1e12

_WORD_LINE = re.compile(r"^[ \t]*([A-Za-z_]\w*)[ \t]*:?(.*)$", re.MULTILINE | re.ASCII)
_BLOCK = 1 << 20


@dataclass
class Section:
    """The numbers of one section, with the lines they stand on.

    Parameters
    ----------
    path, name
        For error texts.
    line
        Line on which ``text`` begins.
    text
        What follows the section's keyword.
    """

    path: Path
    name: str
    line: int
    text: str = ""

    def _blocks(self) -> Iterator[list[str]]:
        # The words of a large section are never all in memory at once.
        begin = 0
        while begin < len(self.text):
            end = self.text.find("\n", begin + _BLOCK)
            end = len(self.text) if end < 0 else end
            yield self.text[begin:end].split()
            begin = end

    def numbers(self) -> NDArray[np.float64]:
        """All numbers of the section, in reading order.

        Raises
        ------
        InputError
            When something is not a finite number, with its line.
        """
        parts = []
        try:
            for words in self._blocks():
                parts.append(np.fromiter(map(float, words), np.float64, len(words)))
        except ValueError:
            raise self._not_a_number() from None
        values = np.concatenate(parts) if parts else np.empty(0)
        # Python's float also reads 1_000 and the digits of other scripts.
        if not np.isfinite(values).all() or "_" in self.text or not self.text.isascii():
            raise self._not_a_number()
        return values

    def _not_a_number(self) -> InputError:
        for number, text in enumerate(self.text.split("\n"), self.line):
            for word in text.split():
                if not is_number(word):
                    return self.error(
                        f"{word[:40]!r} in {self.name} is not a number", "mend it", number
                    )
        return self.error(f"{self.name} holds something that is not a number", "mend it")

    def rows(self, width: int, count: int, what: str) -> NDArray[np.float64]:
        """The numbers as rows [count, width].

        Parameters
        ----------
        width
            Numbers per row.
        count
            Number of rows, from DIMENSION.
        what
            What a row holds, for the hint.

        Raises
        ------
        InputError
            When there are more or fewer.
        """
        values = self.numbers()
        if len(values) == width * count:
            return values.reshape(count, width)
        # Where rows stand on lines of their own, the first odd line is the culprit.
        for number, text in enumerate(self.text.split("\n"), self.line):
            found = len(text.split())
            if found not in (0, width) and (found < width or found % width):
                raise self.error(
                    f"{found} numbers in {self.name}, expected {width}", f"give {what}", number
                )
        many = len(values) > width * count
        raise self.error(
            f"{self.name} has {len(values) // width} entries, DIMENSION says {count}",
            "mend DIMENSION or the section" if many else "mend DIMENSION; is the file truncated?",
            self.line_of(width * count if many else len(values) - 1),
        )

    def line_of(self, position: int) -> int:
        """The line of the number at a position in reading order; the last line at most."""
        seen, last = 0, self.line
        for number, text in enumerate(self.text.split("\n"), self.line):
            found = len(text.split())
            seen += found
            last = number if found else last
            if seen > position:
                return number
        return last

    def error(self, what: str, hint: str, line: int | None = None) -> InputError:
        """An `InputError` about this section, by default at its beginning."""
        return InputError(self.path, line or self.line, what, hint)


def is_number(word: str) -> bool:
    """Whether a word is a finite decimal number."""
    return math.isfinite(decimal(word))


@dataclass
class Specification:
    """A TSPLIB-like file, split into its keywords and sections.

    Parameters
    ----------
    path
        The file.
    keywords
        Keyword -> (text, line); comments are joined by spaces.
    sections
        Section name -> its content.
    """

    path: Path
    keywords: dict[str, tuple[str, int]] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)

    def line(self, key: str) -> int | None:
        """The line of a keyword, or None without it."""
        return self.keywords[key][1] if key in self.keywords else None

    def text(self, key: str) -> str:
        """The text of a keyword, or ""."""
        return self.keywords[key][0] if key in self.keywords else ""

    def word(self, key: str) -> str:
        """The first word of a keyword's text, upper case, or ""."""
        return (self.text(key).upper().split() or [""])[0]

    def number(self, key: str) -> float:
        """A keyword's number, an int where it is whole.

        Raises
        ------
        InputError
            When it is missing, or not one finite number >= 0.
        """
        if key not in self.keywords:
            raise InputError(self.path, None, f"{key} is missing", f"add '{key}: <number>'")
        text, line = self.keywords[key]
        if not is_number(text) or float(text) < 0:
            raise InputError(
                self.path, line, f"{key} {text[:40]!r} is not a number >= 0", "mend it"
            )
        value = float(text)
        return int(value) if value.is_integer() else value

    def dimension(self) -> int:
        """DIMENSION; nothing of that size may be allocated before the sections are counted.

        Raises
        ------
        InputError
            When it is missing or not a whole number >= 1.
        """
        value = self.number("DIMENSION")
        if not isinstance(value, int) or value < 1:
            raise InputError(
                self.path, self.line("DIMENSION"), f"DIMENSION {value} is not a node count",
                "give the number of nodes",
            )  # fmt: skip
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


def parse(path: str | Path, also: Collection[str] = ()) -> Specification:
    """Split a TSPLIB-like file into keywords and sections.

    Accepted: any case, blanks before the colon or no colon at all, comments anywhere,
    data on the section's own line, a missing EOF. What follows EOF is ignored.

    Parameters
    ----------
    path
        The file; may be gzipped.
    also
        Further keywords that this kind of file may hold.

    Raises
    ------
    InputError
        When a keyword is unknown, a keyword or section comes twice, or a line belongs to
        no section.
    """
    path = Path(path)
    text = read_text(path)
    spec = Specification(path)
    section: Section | None = None
    position, line = 0, 1

    def take(data: str) -> None:
        if section is not None:
            section.text += data
        elif data.strip():
            before, _, _ = data.partition(data.strip())
            shown = data.split("\n")[before.count("\n")].strip()[:40]
            raise InputError(
                path, line + before.count("\n"), f"{shown!r} belongs to no section",
                "remove the line",
            )  # fmt: skip

    for match in _WORD_LINE.finditer(text):
        data = text[position : match.start()]
        take(data)
        line += data.count("\n")
        position = match.end()
        key, rest = match[1].upper(), match[2].strip()
        if key == "EOF":
            return spec
        if key == "COMMENT":
            # A comment does not end a section.
            said = f"{spec.text(key)} {rest}".strip()
            spec.keywords[key] = (said, spec.line(key) or line)
        elif key in SECTIONS:
            if key in spec.sections:
                raise InputError(path, line, f"{key} comes twice", "remove one")
            section = spec.sections[key] = Section(path, key, line, rest)
        elif key in KEYWORDS or key in also:
            if key in spec.keywords:
                raise InputError(path, line, f"{key} comes twice", "remove one")
            section = None
            spec.keywords[key] = (rest.strip("\"'").strip(), line)
        else:
            raise _unknown_word(path, line, match[1], section)
    take(text[position:])
    return spec


def _unknown_word(path: Path, line: int, word: str, section: Section | None) -> InputError:
    near = difflib.get_close_matches(word.upper(), [*KEYWORDS, *SECTIONS], n=1, cutoff=0.7)
    if near:
        return InputError(path, line, f"unknown keyword {word[:40]!r}", f"did you mean {near[0]}?")
    if section is not None:
        what = f"{word[:40]!r} in {section.name}: neither a number nor a keyword"
        return InputError(path, line, what, "mend it")
    what = f"unknown keyword {word[:40]!r}"
    return InputError(path, line, what, f"known: {', '.join((*KEYWORDS, *SECTIONS))}")


# --------------------------------------------------------------------------- instances


def _matrix(spec: Specification, n: int, symmetric: bool) -> NDArray[np.float64]:
    section = spec.section("EDGE_WEIGHT_SECTION")
    kind = spec.word("EDGE_WEIGHT_FORMAT")
    if kind not in WEIGHT_FORMATS:
        raise InputError(
            spec.path, spec.line("EDGE_WEIGHT_FORMAT"),
            f"EDGE_WEIGHT_FORMAT {kind[:40]} not supported" if kind else "no EDGE_WEIGHT_FORMAT",
            f"supported: {', '.join(WEIGHT_FORMATS)}",
        )  # fmt: skip
    values = section.numbers()
    if kind == "FULL_MATRIX":
        expected = n * n
    else:
        expected = n * (n + 1) // 2 if "DIAG" in kind else n * (n - 1) // 2
    if len(values) != expected:
        few = len(values) < expected
        raise section.error(
            f"EDGE_WEIGHT_SECTION has {len(values)} numbers, {kind} of {n} nodes needs {expected}",
            "mend DIMENSION or the format" + ("; is the file truncated?" if few else ""),
            section.line_of(len(values) - 1 if few else expected),
        )
    for bad, what, hint in (
        (values < 0, "< 0", "add a constant to all costs"),
        (values > LARGEST, f"> {LARGEST:g}", "scale all costs down"),
    ):
        if bad.any():
            k = int(np.argmax(bad))
            raise section.error(f"cost {values[k]:g} {what}", hint, section.line_of(k))
    if kind == "FULL_MATRIX":
        matrix = values.reshape(n, n)
        # The diagonal is never travelled; files fill it with anything.
        np.fill_diagonal(matrix, 0.0)
        if symmetric and not (matrix == matrix.T).all():
            i, j = (int(k) for k in np.argwhere(matrix != matrix.T)[0])
            raise section.error(
                f"cost {i + 1}-{j + 1} is {matrix[i, j]:g}, {j + 1}-{i + 1} is {matrix[j, i]:g}",
                "an asymmetric matrix needs TYPE: ATSP", section.line_of(i * n + j),
            )  # fmt: skip
        return matrix
    # An upper triangle by columns is a lower triangle by rows, and vice versa.
    offset = 0 if "DIAG" in kind else 1
    upper = kind.startswith("UPPER") == kind.endswith("ROW")
    rows, columns = np.triu_indices(n, offset) if upper else np.tril_indices(n, -offset)
    matrix = np.zeros((n, n))
    matrix[rows, columns] = values
    matrix[columns, rows] = values
    np.fill_diagonal(matrix, 0.0)
    return matrix


def node_rows(
    section: Section, n: int, width: int, what: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.intp]]:
    """The rows of a section that lists every node once, in the order of their numbers.

    Parameters
    ----------
    section
        Rows of a node number and what belongs to the node.
    n
        Number of nodes.
    width
        Numbers per row, the node's included.
    what
        What a row holds, for the hint.

    Returns
    -------
    The node numbers [n], the rest of the rows [n, width - 1], and where in the section
    each row stood [n].

    Raises
    ------
    InputError
        When rows are missing, odd or repeated.
    """
    rows = section.rows(width, n, what)
    whole = (rows[:, 0] == np.rint(rows[:, 0])) & (np.abs(rows[:, 0]) < 2**53)
    if not whole.all():
        k = int(np.argmin(whole))
        raise section.error(
            f"node number {rows[k, 0]:g} is not whole", "mend it", section.line_of(k * width)
        )
    ids = rows[:, 0].astype(np.int64)
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(twice):
        again = int(order[twice[0] + 1])
        raise section.error(
            f"node {ids[again]} comes twice in {section.name}", "remove one or renumber",
            section.line_of(again * width),
        )  # fmt: skip
    return ids[order], np.ascontiguousarray(rows[order, 1:]), order


def _coordinates(
    section: Section, n: int, dimension: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    first = next((text for text in section.text.split("\n") if text.strip()), "")
    # Files with two coordinates padded by a zero column exist.
    width = 4 if dimension == 3 or len(first.split()) == 4 else 3
    what = "a node number and its coordinates"
    ids, coords, order = node_rows(section, n, width, what)
    for bad, fault, hint in (
        (coords[:, dimension:] != 0, "has a third coordinate", "use EUC_3D or remove it"),
        (np.abs(coords) > LARGEST, f"has a coordinate > {LARGEST:g}", "scale all down"),
    ):
        if bad.any():
            k = int(np.argmax(bad.any(1)))
            at = section.line_of(int(order[k]) * width)
            raise section.error(f"node {ids[k]} {fault}", hint, at)
    return ids, coords[:, :dimension]


def read_space(spec: Specification, symmetric: bool = False) -> tuple[Any, dict[str, Any]]:
    """The node numbers, sorted, and the fields coords, matrix and metric of a file.

    Parameters
    ----------
    spec
        The file.
    symmetric
        Refuse an asymmetric matrix.

    Returns
    -------
    Node numbers [n], or None where the file numbers no nodes; and the fields.

    Raises
    ------
    InputError
        When weights or coordinates are missing, malformed or of an unsupported kind.
    """
    n = spec.dimension()
    kind = spec.word("EDGE_WEIGHT_TYPE")
    if not kind and "EDGE_WEIGHT_SECTION" in spec.sections:
        kind = "EXPLICIT"
    if kind == "EXPLICIT":
        fields: dict[str, Any] = {"matrix": _matrix(spec, n, symmetric)}
        ids = None
        for name in ("NODE_COORD_SECTION", "DISPLAY_DATA_SECTION"):
            # For plots only, so one with a third dimension is left alone.
            if name in spec.sections and spec.word("NODE_COORD_TYPE") != "THREED_COORDS":
                ids, fields["coords"] = _coordinates(spec.sections[name], n, 2)
        return ids, fields
    if kind not in METRIC_NAMES:
        raise InputError(
            spec.path, spec.line("EDGE_WEIGHT_TYPE"),
            f"EDGE_WEIGHT_TYPE {kind[:40]} not supported" if kind else "no EDGE_WEIGHT_TYPE",
            f"supported: {', '.join(['EXPLICIT', *METRIC_NAMES])}",
        )  # fmt: skip
    metric = METRIC_NAMES[kind]
    section = spec.section("NODE_COORD_SECTION")
    ids, coords = _coordinates(section, n, METRICS[metric][1])
    return ids, {"coords": coords, "metric": metric}


def _pairs(section: Section, kind: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The pairs [m, 2] of an edge or adjacency list, and where in the section each stands [m]."""
    values = section.numbers()
    ends = np.flatnonzero(values == -1)
    if kind == "ADJ_LIST":
        # A list ends with -1, and the section with one more.
        last = np.flatnonzero(np.diff(ends, prepend=-1) == 1)
        stop = int(ends[last[0]]) if len(last) else len(values)
        firsts = np.r_[0, ends[ends < stop] + 1].astype(np.intp)
        firsts = firsts[firsts < stop]
        owner = np.repeat(values[firsts], np.diff(np.r_[firsts, stop]))
        at = np.delete(np.arange(stop), np.r_[firsts, ends[ends < stop]].astype(np.intp))
        pairs = np.stack([owner, values[:stop]], axis=1)[at]
    else:
        stop = int(ends[0]) if len(ends) else len(values)
        if stop % 2:
            raise section.error(
                f"{section.name} ends within a pair of nodes", "give two nodes per edge, then -1",
                section.line_of(stop - 1),
            )  # fmt: skip
        pairs, at = values[:stop].reshape(-1, 2), np.arange(0, stop, 2)
    if len(values) > stop + 1:
        raise section.error(
            f"{section.name} goes on after its end, -1", "remove what follows",
            section.line_of(stop + 1),
        )  # fmt: skip
    return pairs, at


def read_edges(
    spec: Specification, name: str, ids: NDArray[np.int64] | None, directed: bool
) -> NDArray[np.int64]:
    """The edges [m, 2] of a section, as positions of nodes; arcs with ``directed``.

    Parameters
    ----------
    spec
        The file.
    name
        A key of `EDGE_SECTIONS`.
    ids
        Node numbers, sorted, or None for 1, 2, ...
    directed
        Whether the order within a pair matters.

    Raises
    ------
    InputError
        When an edge is none, or no tour holds all fixed ones, with the line.
    """
    section, n = spec.section(name), spec.dimension()
    kind = "EDGE_LIST" if name == "FIXED_EDGES_SECTION" else spec.word("EDGE_DATA_FORMAT")
    if kind not in ("EDGE_LIST", "ADJ_LIST"):
        raise InputError(
            spec.path, spec.line("EDGE_DATA_FORMAT") or section.line,
            f"EDGE_DATA_FORMAT {kind[:40]} not supported" if kind else "no EDGE_DATA_FORMAT",
            "supported: EDGE_LIST, ADJ_LIST",
        )  # fmt: skip
    pairs, at = _pairs(section, kind)
    if ids is None:
        known = (pairs >= 1) & (pairs <= n) & (pairs == np.rint(pairs))
        edges = np.where(known, pairs, 1).astype(np.int64) - 1
    else:
        edges = np.minimum(np.searchsorted(ids, pairs), n - 1)
        known = ids[edges] == pairs
    if not known.all():
        k = int(np.argmin(known.all(1)))
        node = pairs[k][~known[k]][0]
        nodes = f"nodes: 1..{n}" if ids is None else f"nodes: {ids[0]}..{ids[-1]}"
        raise section.error(f"node {node:g} does not exist", nodes, section.line_of(int(at[k])))
    loops = edges[:, 0] == edges[:, 1]
    if loops.any():
        k = int(np.argmax(loops))
        raise section.error(
            f"an edge from node {pairs[k, 0]:g} to itself", "remove it", section.line_of(int(at[k]))
        )
    return edges


def _edge_fields(
    spec: Specification, ids: NDArray[np.int64] | None, directed: bool
) -> dict[str, NDArray[np.int64]]:
    """The fields of `EDGE_SECTIONS` that a file has; between them there may be a tour."""
    n = spec.dimension()
    fields = {
        key: read_edges(spec, name, ids, directed)
        for name, key in EDGE_SECTIONS.items()
        if name in spec.sections
    }
    numbers = range(1, n + 1) if ids is None else ids.tolist()
    if "edges" in fields:
        fields["edges"] = edge_array("edges", fields["edges"], n, directed)
        what = missing_fault(fields["edges"], n, directed, numbers)
        if what is not None:
            raise spec.section("EDGE_DATA_SECTION").error(what, "there is no tour")
    if "fixed" in fields:
        fixed = fields["fixed"]
        fault = fixed_fault(fixed, n, directed, numbers)
        if fault is None and "edges" in fields:
            fault = unlisted_fault(fixed, fields["edges"], n, directed, numbers)
        if fault is not None:
            section = spec.section("FIXED_EDGES_SECTION")
            # Every row is a pair of numbers.
            line = section.line_of(2 * fault[0])
            raise section.error(fault[1], "there is no such tour; remove an edge", line)
    return fields


def _amounts(
    spec: Specification, name: str, n: int, ids: NDArray[np.int64] | None, what: str
) -> tuple[NDArray[np.float64], int, Callable[[int], int]]:
    """A section's number >= 0 per node, the depot's position, and the lines by position."""
    section = spec.section(name)
    numbers, values, order = node_rows(section, n, 2, f"a node number and its {what}")

    def line(k: int) -> int:
        return section.line_of(int(order[k]) * 2)

    if ids is not None and not (numbers == ids).all():
        k = int(np.argmax(~np.isin(numbers, ids)))
        raise section.error(
            f"node {numbers[k]} has a {what} but no coordinates", "number the nodes alike", line(k)
        )
    amounts = values[:, 0]
    if (amounts < 0).any():
        k = int(np.argmax(amounts < 0))
        raise section.error(
            f"node {numbers[k]}: {what} {amounts[k]:g} < 0", f"mend the {what}", line(k)
        )
    return amounts, _depot(spec, numbers), line


def _demands(
    spec: Specification, n: int, ids: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], int]:
    """Demands by node number, and the position of the depot."""
    capacity = spec.number("CAPACITY")
    demands, depot, line = _amounts(spec, "DEMAND_SECTION", n, ids, "demand")
    numbers = np.arange(1, n + 1) if ids is None else ids
    section = spec.section("DEMAND_SECTION")
    if (demands > capacity).any():
        k = int(np.argmax(demands > capacity))
        raise section.error(
            f"node {numbers[k]}: demand {demands[k]:g} > CAPACITY {capacity}",
            "mend the demand or CAPACITY", line(k),
        )  # fmt: skip
    if demands[depot] != 0:
        raise section.error(
            f"the depot, node {numbers[depot]}, has demand {demands[depot]:g}", "set it to 0",
            line(depot),
        )  # fmt: skip
    return demands, depot


def _depot(spec: Specification, ids: NDArray[np.int64]) -> int:
    if "DEPOT_SECTION" not in spec.sections:
        return 0
    section = spec.sections["DEPOT_SECTION"]
    values = section.numbers()
    ends = np.flatnonzero(values == -1)
    depots = values[: ends[0]] if len(ends) else values
    if len(depots) != 1:
        shown = " ".join(f"{v:g}" for v in depots[:5])
        raise section.error(
            f"{len(depots)} depots ({shown}); one is supported" if shown else "no depot",
            "give one node, then -1",
        )
    found = np.flatnonzero(ids == depots[0])
    if not len(found):
        raise section.error(
            f"depot {depots[0]:g} is not a node", f"nodes: {ids[0]}..{ids[-1]}", section.line_of(0)
        )
    return int(found[0])


def _unit_costs(spec: Specification) -> NDArray[np.float64]:
    """Costs [n, n] of 1, once the section shows that there are edges for so many nodes."""
    n = spec.dimension()
    if n > MAX_MATRIX_NODES:
        raise InputError(
            spec.path, spec.line("DIMENSION"), f"{n} nodes are too many for missing edges",
            f"<= {MAX_MATRIX_NODES}",
        )  # fmt: skip
    edges = read_edges(spec, "EDGE_DATA_SECTION", None, directed=False)
    if len(edges) < n:
        raise spec.section("EDGE_DATA_SECTION").error(
            f"{len(edges)} edges make no cycle of {n} nodes", "mend DIMENSION or add edges"
        )
    return np.ones((n, n)) - np.eye(n)


def read(path: Path, problem: str = "", default: str = "") -> Instance[Any]:
    """Read an instance.

    Parameters
    ----------
    path
        The file.
    problem
        Read it as this problem, any whose fields such a file holds; "" follows TYPE.
    default
        The problem of a file without TYPE.

    Raises
    ------
    InputError
        When the file cannot be understood.
    """
    path = Path(path)
    # OPLib files state their tour's length, from which the limit was made.
    spec = parse(path, also=("TSPSOL",))
    kind = spec.word("TYPE")
    if kind == "TOUR" or (not kind and "TOUR_SECTION" in spec.sections):
        raise InputError(path, spec.line("TYPE"), "is a tour, not an instance", "name its instance")
    if not problem and kind and kind not in TYPES:
        raise InputError(
            path, spec.line("TYPE"), f"TYPE {kind[:40]} not supported",
            f"supported: {', '.join(TYPES)}",
        )  # fmt: skip
    problem = problem or TYPES.get(kind, default)
    if not problem:
        raise InputError(path, None, "TYPE is missing", f"add 'TYPE: TSP' or {', '.join(TYPES)}")
    cls: type[Instance[Any]] = problems.load(problem)
    n = spec.dimension()
    ids: NDArray[np.int64] | None = None
    fields: dict[str, Any]
    if kind == "HCP" and "EDGE_WEIGHT_TYPE" not in spec.keywords:
        fields = {"matrix": _unit_costs(spec)}
    else:
        ids, fields = read_space(spec, symmetric=problem == "tsp")
    for section in EDGE_SECTIONS:
        if section in spec.sections and not issubclass(cls, TSP):
            raise spec.sections[section].error(
                f"{section} is for tsp and atsp, not {problem}", "remove the section"
            )
    fields |= _edge_fields(spec, ids, directed=problem == "atsp")
    depot = 0
    if "demands" in cls.schema():
        fields["demands"], depot = _demands(spec, n, ids)
        fields["capacity"] = spec.number("CAPACITY")
        for key, name in (
            ("DISTANCE", "max_distance"),
            ("SERVICE_TIME", "service_time"),
            ("VEHICLES", "vehicles"),
        ):
            if key in spec.keywords:
                fields[name] = spec.number(key)
        vehicles = fields.get("vehicles", 1)
        if not isinstance(vehicles, int) or vehicles < 1:
            raise InputError(
                path, spec.line("VEHICLES"), f"VEHICLES {vehicles} not understood",
                "give a whole number >= 1",
            )  # fmt: skip
    elif problem == "op":
        fields["prizes"], depot, _ = _amounts(spec, "NODE_SCORE_SECTION", n, ids, "score")
        fields["max_length"] = spec.number("COST_LIMIT")
    if depot:
        first = np.r_[depot, np.delete(np.arange(n), depot)]
        for key in fields.keys() & {"coords", "demands", "prizes"}:
            fields[key] = fields[key][first]
        if "matrix" in fields:
            fields["matrix"] = fields["matrix"][np.ix_(first, first)]
    missing = sorted(cls.required() - fields.keys())
    if missing == ["matrix"]:
        raise InputError(
            path, spec.line("EDGE_WEIGHT_TYPE"), f"{problem} needs EDGE_WEIGHT_TYPE: EXPLICIT",
            "give a matrix, or TYPE: TSP",
        )  # fmt: skip
    if missing:
        raise InputError(
            path, None, f"a TSPLIB file holds no {', '.join(missing)} of {problem}",
            "use .npz or .json",
        )  # fmt: skip
    name = spec.text("NAME") or path.name.split(".")[0]
    return cls(name=name, **{k: v for k, v in fields.items() if k in cls.schema()})


def _number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    value = float(value)
    whole = value.is_integer() and (value != 0 or math.copysign(1.0, value) > 0)
    return str(int(value)) if whole else repr(value)


def _rows(values: NDArray[Any]) -> Iterator[str]:
    for row in values.tolist():
        yield " ".join(map(_number, row))


def _label(instance: Instance[Any]) -> str:
    return " ".join(instance.name.split()).strip("\"' ") or instance.problem


def write(instance: SpatialInstance[Any], file: TextIO) -> None:
    """Write an instance; reading it back gives the same instance, bit for bit.

    Parameters
    ----------
    instance
        A TSP, ATSP, CVRP, OVRP or OP.
    file
        Open for text.

    Raises
    ------
    ValueError
        When an asymmetric matrix would be called a TSP.
    """
    kind = next(key for key, value in TYPES.items() if value == instance.problem)
    explicit = instance.matrix is not None
    if kind == "TSP" and not instance.distances.symmetric:
        raise ValueError("an asymmetric matrix cannot be written as TYPE: TSP; use .npz or .json.")
    write = file.write
    write(f"NAME: {_label(instance)}\nTYPE: {kind}\nDIMENSION: {instance.nodes}\n")
    if explicit:
        write("EDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: FULL_MATRIX\n")
        if instance.coords is not None:
            write("DISPLAY_DATA_TYPE: TWOD_DISPLAY\n")
    else:
        names = {metric: name for name, metric in METRIC_NAMES.items()}
        write(f"EDGE_WEIGHT_TYPE: {names[instance.metric]}\n")
        if METRICS[instance.metric][1] == 3:
            write("NODE_COORD_TYPE: THREED_COORDS\n")
    if isinstance(instance, CVRP):
        write(f"CAPACITY: {_number(instance.capacity)}\n")
        if instance.max_distance is not None:
            write(f"DISTANCE: {_number(instance.max_distance)}\n")
        if instance.service_time:
            write(f"SERVICE_TIME: {_number(instance.service_time)}\n")
        if instance.vehicles is not None:
            write(f"VEHICLES: {instance.vehicles}\n")
    if isinstance(instance, OP):
        write(f"COST_LIMIT: {_number(instance.max_length)}\n")
    edges = {
        section: getattr(instance, key)
        for section, key in EDGE_SECTIONS.items()
        if isinstance(instance, TSP) and getattr(instance, key) is not None
    }
    if "EDGE_DATA_SECTION" in edges:
        write("EDGE_DATA_FORMAT: EDGE_LIST\n")
    if instance.coords is not None:
        write("DISPLAY_DATA_SECTION\n" if explicit else "NODE_COORD_SECTION\n")
        file.writelines(f"{k} {row}\n" for k, row in enumerate(_rows(instance.coords), 1))
    if instance.matrix is not None:
        write("EDGE_WEIGHT_SECTION\n")
        file.writelines(f"{row}\n" for row in _rows(instance.matrix))
    for section, pairs in edges.items():
        write(f"{section}\n")
        file.writelines(f"{row}\n" for row in _rows(pairs + 1))
        write("-1\n")
    amounts = {"DEMAND": "demands", "NODE_SCORE": "prizes"}
    for section, key in amounts.items():
        if not hasattr(instance, key):
            continue
        write(f"{section}_SECTION\n")
        rows = _rows(getattr(instance, key)[:, None])
        file.writelines(f"{k} {row}\n" for k, row in enumerate(rows, 1))
        write("DEPOT_SECTION\n1\n-1\n")
    write("EOF\n")


# --------------------------------------------------------------------------- solutions


def read_tours(path: Path, instance: TSP) -> list[list[int]]:
    """Read tours: TSPLIB's TOUR_SECTION, or plain node numbers; each ends with -1.

    Numbers count from 1; from 0 if a 0 occurs.

    Parameters
    ----------
    path
        The file.
    instance
        The instance whose nodes they are.

    Returns
    -------
    At least one tour.

    Raises
    ------
    InputError
        When something is not a node number, or DIMENSION is not the instance's.
    """
    path = Path(path)
    text = read_text(path)
    if re.search(r"^[ \t]*TOUR_SECTION", text, re.IGNORECASE | re.MULTILINE):
        spec = parse(path)
        section = spec.section("TOUR_SECTION")
        if "DIMENSION" in spec.keywords and spec.dimension() != instance.n:
            raise InputError(
                path, spec.line("DIMENSION"),
                f"a tour of {spec.dimension()} nodes, the instance has {instance.n}",
                "name the tour of this instance",
            )  # fmt: skip
    else:
        section = Section(path, "the tour", 1, text)
    values = section.numbers()
    inner = values[values != -1]
    if not len(inner):
        raise section.error("no nodes in the tour", "is the file truncated?")
    base = 0 if inner.min() == 0 else 1
    last = base + instance.n - 1
    bad = (values != -1) & ((values < base) | (values > last) | (values != np.rint(values)))
    if bad.any():
        k = int(np.argmax(bad))
        raise section.error(
            f"node {values[k]:g} does not exist", f"nodes: {base}..{last}", section.line_of(k)
        )
    ends = np.flatnonzero(values == -1)
    parts = np.split(values.astype(np.int64) - base, ends)
    tours = [part[1:] if k else part for k, part in enumerate(parts)]
    return [tour.tolist() for tour in tours if len(tour)]


def read_tour(path: Path, instance: TSP) -> list[int]:
    """Read a tour; of several, the shortest feasible one.

    Raises
    ------
    InputError
        As `read_tours`.
    """
    tours = read_tours(path, instance)
    if len(tours) == 1:
        return tours[0]
    feasible = [tour for tour in tours if not instance.violations(tour)]
    return min(feasible, key=instance.objective) if feasible else tours[0]


def write_tour(instance: TSP, solution: list[int], file: TextIO) -> None:
    """Write a TSPLIB tour."""
    file.write(f"NAME: {_label(instance)}.tour\nTYPE: TOUR\n")
    file.write(f"COMMENT: Length {_number(instance.objective(solution))}\n")
    file.write(f"DIMENSION: {instance.n}\nTOUR_SECTION\n")
    file.writelines(f"{k + 1}\n" for k in solution)
    file.write("-1\nEOF\n")


_ROUTE = re.compile(r"\s*route\s*#?\s*\d+\s*:(.*)$", re.IGNORECASE)
_REMARK = re.compile(r"\s*(cost|time)\b", re.IGNORECASE)


def read_routes(path: Path, instance: CVRP | OP) -> list[list[int]]:
    """Read CVRPLIB routes, customers counted from 1; the stated cost is not needed.

    Parameters
    ----------
    path
        The file.
    instance
        The instance whose customers they visit.

    Raises
    ------
    InputError
        When a line is neither a route nor a cost, or a customer does not exist.
    """
    routes = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        match = _ROUTE.match(line)
        if match is None:
            if line.strip() and not _REMARK.match(line):
                shown = line.strip()[:40]
                raise InputError(path, number, f"{shown!r} is no route", "write 'Route #1: 3 1 2'")
            continue
        route = []
        for word in match[1].split():
            # Nine digits: no instance has more customers, and int() stays cheap.
            known = re.fullmatch(r"[0-9]{1,9}", word) and 1 <= int(word) <= instance.n
            if not known:
                raise InputError(
                    path, number, f"customer {word[:40]} does not exist",
                    f"known: 1..{instance.n}, the depot left out",
                )  # fmt: skip
            route.append(int(word))
        routes.append(route)
    if not routes:
        raise InputError(path, None, "holds no route", "write 'Route #1: 3 1 2'")
    return routes


def write_routes(instance: CVRP, solution: list[list[int]], file: TextIO) -> None:
    """Write CVRPLIB routes and their cost."""
    for number, route in enumerate((r for r in solution if r), 1):
        file.write(f"Route #{number}: {' '.join(map(str, route))}\n")
    file.write(f"Cost {_number(instance.objective(solution))}\n")


def read_visits(path: Path, instance: OP) -> list[int]:
    """Read the one route of a file of `read_routes`; an empty file of routes has none.

    Raises
    ------
    InputError
        As `read_routes`, and when there are several.
    """
    routes = read_routes(path, instance)
    if len(routes) > 1:
        raise InputError(path, None, f"holds {len(routes)} routes, expected one", "remove some")
    return routes[0]


def write_visits(instance: OP, solution: list[int], file: TextIO) -> None:
    """Write the visited customers as one route, with the score."""
    file.write(f"Route #1: {' '.join(map(str, solution))}\n")
    file.write(f"Cost {_number(instance.objective(solution))}\n")


_STATED = re.compile(
    r"^[ \t]*(?:COMMENT[ \t]*:[ \t]*length|cost)[ \t]*[:=]?[ \t]*([0-9.eE+-]+)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)


def stated_cost(path: Path) -> float | None:
    """The cost that a solution file claims for itself, or None if it claims none."""
    match = _STATED.search(read_text(path))
    return float(match[1]) if match and is_number(match[1]) else None


# ----------------------------------------------------------------------------- formats


def _format(
    problem: str,
    suffix: str,
    solution_suffix: str,
    read_solution: Callable[[Path, Any], Any],
    write_solution: Callable[[Any, Any, TextIO], None],
) -> Format:
    kinds = "|".join(key for key, value in TYPES.items() if value == problem)
    pattern = re.compile(rf"^\s*TYPE\s*:?\s*[\"']?({kinds})\b", re.IGNORECASE | re.MULTILINE)
    return Format(
        problem=problem,
        suffixes=(suffix,),
        sniff=lambda head: pattern.search(head) is not None,
        read=lambda path, wish: read(path, wish, default=problem),
        write=write,
        read_solution=read_solution,
        write_solution=write_solution,
        solution_suffixes=(solution_suffix,),
        stated_cost=stated_cost,
    )


TSP_FORMAT = _format("tsp", ".tsp", ".tour", read_tour, write_tour)
ATSP_FORMAT = _format("atsp", ".atsp", ".tour", read_tour, write_tour)
OVRP_FORMAT = _format("ovrp", ".ovrp", ".sol", read_routes, write_routes)
OP_FORMAT = _format("op", ".oplib", ".sol", read_visits, write_visits)
CVRP_FORMAT = _format("cvrp", ".vrp", ".sol", read_routes, write_routes)
