"""Graphs as text, for independent sets: DIMACS, METIS and edge lists.

Edges are undirected; one that is listed twice, or in both directions, counts once. A
solution file lists the chosen nodes, one to a line, by the numbers of the graph's own
file: from 1 in DIMACS and METIS, any whole numbers in an edge list, and from 0 for a
graph that was not read from text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import InputError
from nco.instances.io import Format, read_text
from nco.instances.mis import MIS

logger = logging.getLogger("nco")

#: Largest weight and node number.
LARGEST = 2**53
WHOLE = r"[+-]?[0-9]{1,18}"
Line = tuple[int, str]


def _whole(path: Path, line: int, word: str, low: int, high: int, what: str) -> int:
    if not re.fullmatch(WHOLE, word):
        raise InputError(path, line, f"{what} {word[:40]!r} is not a whole number", "mend it")
    value = int(word)
    if not low <= value <= high:
        raise InputError(path, line, f"{what} {value} is out of range", f"known: {low}..{high}")
    return value


def _integers(
    path: Path, words: Sequence[str], lines: Sequence[int], low: int, high: int
) -> NDArray[np.int64]:
    """Node numbers [k], each with the line it stands on."""
    try:
        values = np.fromiter(map(int, words), np.int64, len(words))
    except (ValueError, OverflowError):
        values = None
    # Python's int also reads 1_000 and the digits of other scripts.
    plain = values is not None and re.fullmatch(r"[0-9+-]*", "".join(words))
    if values is not None and plain and not ((values < low) | (values > high)).any():
        return values
    for word, line in zip(words, lines, strict=True):
        _whole(path, line, word, low, high, "node")
    return np.array([int(word) for word in words], dtype=np.int64)


def _pairs(
    path: Path, lines: Sequence[Line], low: int, high: int, prefix: str = ""
) -> NDArray[np.int64]:
    """Two node numbers per line [k, 2], after a letter where there is one."""
    rows = [text.split()[1 if prefix else 0 :] for _, text in lines]
    if not {len(row) for row in rows} <= {2}:
        k = next(k for k, row in enumerate(rows) if len(row) != 2)
        hint = f"write '{prefix} u v'" if prefix else "write 'u v'"
        raise InputError(path, lines[k][0], f"{len(rows[k])} numbers, expected two", hint)
    twice = [number for number, _ in lines for _ in range(2)]
    return _integers(path, list(chain.from_iterable(rows)), twice, low, high).reshape(-1, 2)


def _no_loops(
    path: Path, ends: NDArray[np.int64], lines: Sequence[int], labels: NDArray[np.int64]
) -> None:
    loops = ends[:, 0] == ends[:, 1]
    if loops.any():
        k = int(np.argmax(loops))
        node = labels[ends[k, 0]]
        raise InputError(path, lines[k], f"node {node} is adjacent to itself", "remove the loop")


def _room(path: Path, line: int, n: int, size: int) -> None:
    """Refuse a header that claims far more nodes than its file could be about."""
    if n > max(10**6, 64 * size):
        raise InputError(
            path, line, f"{n} nodes claimed in a file of {size} bytes", "mend the header"
        )


def read_dimacs(path: Path, problem: str = "") -> MIS:
    """Read ``p edge n m``, ``e u v`` and, for weights, ``n v w`` lines.

    Parameters
    ----------
    path
        The file.
    problem
        Ignored: these files hold graphs only.

    Raises
    ------
    InputError
        When a line is malformed, or the header is missing or wrong.
    """
    path = Path(path)
    text = read_text(path)
    header: tuple[int, int, int] | None = None
    edges: list[Line] = []
    weighted: list[Line] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        kind = line[:1].lower()
        if not line or kind == "c":
            continue
        if kind == "p":
            if header is not None:
                raise InputError(path, number, "a second problem line", "remove it")
            words = line.split()
            if len(words) != 4 or words[1].lower() not in ("edge", "edges", "col"):
                raise InputError(path, number, f"{line[:40]!r} not supported", "write 'p edge n m'")
            n = _whole(path, number, words[2], 1, LARGEST, "number of nodes")
            _room(path, number, n, len(text))
            header = (number, n, _whole(path, number, words[3], 0, LARGEST, "number of edges"))
        elif kind not in ("e", "n") or not line[1:2].isspace():
            raise InputError(path, number, f"unknown line {line[:20]!r}", "lines: c, p, e, n")
        elif header is None:
            raise InputError(path, number, f"{line[:20]!r} before the header", "begin 'p edge n m'")
        else:
            (edges if kind == "e" else weighted).append((number, line))
    if header is None:
        raise InputError(path, None, "has no problem line", "begin with 'p edge n m'")
    where, n, claimed = header
    ends = _pairs(path, edges, 1, n, prefix="e") - 1
    labels = np.arange(1, n + 1)
    _no_loops(path, ends, [k for k, _ in edges], labels)
    weights = np.ones(n, dtype=np.int64)
    seen: set[int] = set()
    for number, line in weighted:
        words = line.split()
        if len(words) != 3:
            raise InputError(path, number, f"{len(words) - 1} numbers, expected two", "'n v w'")
        node = _whole(path, number, words[1], 1, n, "node")
        if node in seen:
            raise InputError(path, number, f"node {node} has two weights", "remove one")
        seen.add(node)
        weights[node - 1] = _whole(path, number, words[2], 0, LARGEST, "weight")
    graph = MIS(edges=ends, weights=weights, labels=labels, name=path.name.split(".")[0])
    # Files count the lines, the edges, or every edge in both directions.
    unique = len(graph.edges)
    if claimed not in (len(edges), unique, 2 * unique):
        raise InputError(
            path, where, f"the header says {claimed} edges, {len(edges)} follow",
            "mend it; is the file truncated?",
        )  # fmt: skip
    return graph


def _integral(instance: MIS) -> None:
    if instance.weights.dtype != np.int64 or instance.weights.max() > LARGEST:
        raise ValueError("the format holds whole weights only; use .npz or .json.")


def write_dimacs(instance: MIS, file: TextIO) -> None:
    """Write ``p edge``, ``e`` and, where weights differ from 1, ``n`` lines.

    Raises
    ------
    ValueError
        When weights are not integers.
    """
    _integral(instance)
    file.write(f"c {' '.join(instance.name.split())}\n")
    file.write(f"p edge {instance.n} {len(instance.edges)}\n")
    if (instance.weights != 1).any():
        file.writelines(f"n {k} {w}\n" for k, w in enumerate(instance.weights.tolist(), 1))
    file.writelines(f"e {i} {j}\n" for i, j in (instance.edges + 1).tolist())


def read_metis(path: Path, problem: str = "") -> MIS:
    """Read METIS: ``n m [fmt [ncon]]``, then a line of neighbours for every node.

    Node weights are read; node sizes and edge weights mean nothing here and are skipped.

    Parameters
    ----------
    path
        The file.
    problem
        Ignored: these files hold graphs only.

    Raises
    ------
    InputError
        When counts disagree, an edge has one direction only, or a node has more than
        one weight.
    """
    path = Path(path)
    # An empty line is a node without neighbours, the end of the file is not.
    lines = read_text(path).removesuffix("\n").split("\n")
    rows = [
        (number, text.split())
        for number, text in enumerate(lines, 1)
        if not text.lstrip().startswith("%")
    ]
    while rows and not rows[0][1]:
        rows.pop(0)
    line, head = rows[0] if rows else (1, [])
    if not 2 <= len(head) <= 4:
        raise InputError(path, line, "is no METIS header", "begin with 'n m [fmt [ncon]]'")
    n = _whole(path, line, head[0], 1, LARGEST, "number of nodes")
    claimed = _whole(path, line, head[1], 0, LARGEST, "number of edges")
    fmt = (head[2] if len(head) > 2 else "").zfill(3)
    if not re.fullmatch(r"[01]{3}", fmt):
        raise InputError(path, line, f"fmt {fmt[:20]!r} not supported", "known: 0, 1, 10, 11, 100")
    sizes, weighted, edge_weights = (c == "1" for c in fmt)
    if len(head) == 4 and head[3] != "1":
        raise InputError(path, line, f"{head[3][:20]} weights per node", "one is supported")
    body = rows[1:]
    while len(body) > n and not body[-1][1]:
        body.pop()
    if len(body) != n:
        last = body[-1][0] if body else line
        raise InputError(
            path, last, f"{len(body)} node lines, the header says {n}",
            "mend it; is the file truncated?",
        )  # fmt: skip
    first = sizes + weighted
    step = 2 if edge_weights else 1
    weights = np.ones(n, dtype=np.int64)
    for node, (number, words) in enumerate(body):
        if len(words) < first or (len(words) - first) % step:
            raise InputError(path, number, f"{len(words)} numbers do not fit fmt {fmt}", "mend it")
        if weighted:
            weights[node] = _whole(path, number, words[sizes], 0, LARGEST, "weight")
    lists = [words[first::step] for _, words in body]
    degrees = np.array([len(row) for row in lists])
    flat = list(chain.from_iterable(lists))
    where = np.repeat([number for number, _ in body], degrees)
    heads = _integers(path, flat, where.tolist(), 1, n) - 1
    ends = np.stack([np.repeat(np.arange(n), degrees), heads], axis=1)
    labels = np.arange(1, n + 1)
    _no_loops(path, ends, where.tolist(), labels)
    forward, backward = ends[:, 0] * n + ends[:, 1], ends[:, 1] * n + ends[:, 0]
    lonely = ~np.isin(forward, backward)
    if lonely.any():
        k = int(np.argmax(lonely))
        u, v = ends[k] + 1
        raise InputError(
            path, int(where[k]), f"node {u} lists {v}, but {v} does not list {u}", "add it"
        )
    if len(ends) != 2 * claimed:
        raise InputError(
            path, line, f"{len(ends)} neighbours, but {claimed} edges need {2 * claimed}",
            "mend the header or the lists",
        )  # fmt: skip
    return MIS(edges=ends, weights=weights, labels=labels, name=path.name.split(".")[0])


def write_metis(instance: MIS, file: TextIO) -> None:
    """Write METIS, with node weights where they differ from 1.

    Raises
    ------
    ValueError
        When weights are not integers.
    """
    _integral(instance)
    weighted = bool((instance.weights != 1).any())
    file.write(f"{instance.n} {len(instance.edges)}{' 010' if weighted else ''}\n")
    indptr, indices = instance.neighbors()
    rows = np.split(indices + 1, indptr[1:-1])
    for weight, row in zip(instance.weights.tolist(), rows, strict=True):
        words = [weight, *row.tolist()] if weighted else row.tolist()
        file.write(" ".join(map(str, words)) + "\n")


def read_edge_list(path: Path, problem: str = "") -> MIS:
    """Read one edge per line, with ``#`` and ``%`` comments; all weights are 1.

    Nodes may have any whole numbers; node k is the k-th smallest of them. A node without
    an edge cannot be expressed, but by an edge to itself: graphs of SNAP have such, and they
    are left out, which the log says. A comma may stand between the numbers; then the first
    line may name the columns.

    Parameters
    ----------
    path
        The file.
    problem
        Ignored: these files hold graphs only.

    Raises
    ------
    InputError
        When a line is not two node numbers, or the first one looks like a header.
    """
    path = Path(path)
    text = read_text(path)
    if text.startswith("%%MatrixMarket"):
        raise InputError(path, 1, "Matrix Market is not supported", "use an edge list or METIS")
    lines = [
        (number, line)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip() and line.lstrip()[0] not in "#%"
    ]
    columns = lines[0][1].split(",") if lines else []
    if len(columns) == 2 and not any(re.fullmatch(WHOLE, word.strip()) for word in columns):
        del lines[0]
    if not lines:
        raise InputError(path, None, "holds no edge", "write one 'u v' per line")
    lines = [(number, line.replace(",", " ", 1)) for number, line in lines]
    ends = _pairs(path, lines, -LARGEST, LARGEST)
    if len(ends) > 1 and ends[0, 1] == len(ends) - 1 and ends[0, 0] >= ends[1:].max():
        raise InputError(
            path, lines[0][0], "the first line looks like a header 'n m'", "put # before it"
        )
    labels, index = np.unique(ends, return_inverse=True)
    ends = index.reshape(-1, 2)
    loops = ends[:, 0] == ends[:, 1]
    if loops.any():
        logger.warning("%s: %d edges of nodes to themselves are left out", path, loops.sum())
    return MIS(
        edges=ends[~loops],
        weights=np.ones(len(labels), dtype=np.int64),
        labels=labels,
        name=path.name.split(".")[0],
    )


def _labels(instance: MIS) -> NDArray[np.int64]:
    return np.arange(instance.n) if instance.labels is None else instance.labels


def write_edge_list(instance: MIS, file: TextIO) -> None:
    """Write one edge per line, by the labels of the nodes, or counted from 0.

    Raises
    ------
    ValueError
        When weights differ from 1, or a node has no edge.
    """
    if (instance.weights != 1).any() or len(np.unique(instance.edges)) != instance.n:
        raise ValueError("an edge list holds neither weights nor lone nodes; use .dimacs or .npz.")
    file.writelines(f"{i} {j}\n" for i, j in _labels(instance)[instance.edges].tolist())


def read_nodes(path: Path, instance: MIS) -> list[int]:
    """Read a solution: the chosen nodes by their labels, one to a line.

    Parameters
    ----------
    path
        The file; ``#`` begins a comment.
    instance
        The graph.

    Raises
    ------
    InputError
        When something is not a node.
    """
    path = Path(path)
    labels = _labels(instance)
    nodes = []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        words = text.split("#", 1)[0].split()
        if len(words) > 1:
            raise InputError(path, number, f"{len(words)} numbers", "write one node to a line")
        for word in words:
            label = _whole(path, number, word, int(labels[0]), int(labels[-1]), "node")
            node = int(np.searchsorted(labels, label))
            if labels[node] != label:
                raise InputError(path, number, f"node {label} is not in the graph", "mend it")
            nodes.append(node)
    return nodes


def write_nodes(instance: MIS, solution: list[int], file: TextIO) -> None:
    """Write the chosen nodes by their labels, one to a line."""
    file.write(f"# {len(solution)} nodes, weight {instance.objective(solution)}\n")
    file.writelines(f"{label}\n" for label in _labels(instance)[solution].tolist())


def stated_cost(path: Path) -> float | None:
    """The weight that a solution file claims in its comment, or None."""
    match = re.search(r"^#.*\bweight ([0-9.e+]+)$", read_text(path), re.MULTILINE)
    try:
        return float(match[1]) if match else None
    except ValueError:
        return None


def _format(
    suffixes: tuple[str, ...],
    pattern: str,
    read: Callable[[Path, str], MIS],
    write: Callable[[MIS, TextIO], None],
) -> Format:
    known = re.compile(pattern, re.MULTILINE)
    return Format(
        problem="mis",
        suffixes=suffixes,
        sniff=lambda head: known.search(head) is not None,
        read=read,
        write=write,
        read_solution=read_nodes,
        write_solution=write_nodes,
        solution_suffixes=(".mis", ".sol", ".txt"),
        stated_cost=stated_cost,
    )


DIMACS = _format(
    (".dimacs", ".col", ".clq"),
    r"^p[ \t]+(edges?|col)[ \t]+[0-9]+[ \t]+[0-9]+[ \t]*$",
    read_dimacs,
    write_dimacs,
)
#: METIS has nothing that no other file has, so only its suffix tells; likewise an edge
#: list without the comments of SNAP.
METIS = _format((".graph", ".metis"), r"(?!)", read_metis, write_metis)
EDGE_LIST = _format(
    (".edges", ".edgelist", ".csv"),
    r"\A# ((Und|D)irected graph|FromNodeId)",
    read_edge_list,
    write_edge_list,
)
