"""Graphs as text, for independent sets: DIMACS, METIS and edge lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import InputError
from nco.instances.io import Format, read_text
from nco.instances.mis import MIS

#: A header that claims more nodes than this is refused before memory is taken.
MAX_NODES = 200_000_000


def _whole(path: Path, line: int, token: str, least: int, most: int, what: str) -> int:
    try:
        value = int(token)
    except ValueError:
        raise InputError(path, line, f"{token[:40]!r} is not a {what}", "give a number") from None
    if not least <= value <= most:
        raise InputError(path, line, f"{what} {value} is out of range", f"known: {least}..{most}")
    return value


def _lines(path: Path, comments: str) -> Iterator[tuple[int, list[str]]]:
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if text.strip() and text.lstrip()[0] not in comments:
            yield number, text.split()


def _make(path: Path, edges: list[tuple[int, int]], weights: NDArray[np.int64]) -> MIS:
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    # A loop constrains nothing that a solver could use: the node may not be chosen.
    if len(pairs) and (pairs[:, 0] == pairs[:, 1]).any():
        k = int(pairs[np.argmax(pairs[:, 0] == pairs[:, 1]), 0])
        raise InputError(path, None, f"node {k + 1} is adjacent to itself", "remove the loop")
    return MIS(edges=pairs, weights=weights, name=path.name.split(".")[0])


def read_dimacs(path: Path, problem: str = "") -> MIS:
    """Read ``p edge n m``, ``e u v`` and, for weights, ``n v w`` lines.

    Raises
    ------
    InputError
        When a line is malformed, or the header is missing or wrong.
    """
    path = Path(path)
    weights: NDArray[np.int64] | None = None
    edges: list[tuple[int, int]] = []
    claimed = 0
    for line, words in _lines(path, ""):
        kind = words[0].lower()
        if kind == "c":
            continue
        if kind == "p":
            if weights is not None or len(words) != 4:
                raise InputError(path, line, "not a problem line", "write one 'p edge n m'")
            n = _whole(path, line, words[2], 1, MAX_NODES, "number of nodes")
            claimed = _whole(path, line, words[3], 0, 2**40, "number of edges")
            weights = np.ones(n, dtype=np.int64)
        elif kind in ("e", "n"):
            if weights is None:
                raise InputError(path, line, f"'{kind}' before the problem line", "'p edge n m'")
            if len(words) != 3:
                raise InputError(path, line, f"{len(words) - 1} numbers, expected 2", "mend it")
            first = _whole(path, line, words[1], 1, len(weights), "node") - 1
            if kind == "n":
                weights[first] = _whole(path, line, words[2], 0, 2**40, "weight")
            else:
                edges.append((first, _whole(path, line, words[2], 1, len(weights), "node") - 1))
        else:
            raise InputError(path, line, f"unknown line type {words[0][:20]!r}", "known: c p e n")
    if weights is None:
        raise InputError(path, None, "no problem line", "write 'p edge n m'")
    # Some files list every edge in both directions, or repeat some.
    if len(edges) < claimed and len(set(edges)) * 2 != claimed:
        raise InputError(
            path, None, f"{len(edges)} edges, the header says {claimed}", "is it truncated?"
        )
    return _make(path, edges, weights)


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
        file.writelines(f"n {k} {w}\n" for k, w in enumerate(instance.weights, 1))
    file.writelines(f"e {i + 1} {j + 1}\n" for i, j in instance.edges)


def _integral(instance: MIS) -> None:
    if instance.weights.dtype != np.int64:
        raise ValueError("the format holds whole weights only; use .npz or .json.")


def read_metis(path: Path, problem: str = "") -> MIS:
    """Read METIS: ``n m [fmt [ncon]]``, then the neighbours of every node.

    Raises
    ------
    InputError
        When counts disagree, an edge has one direction only, or a node has more than
        one weight.
    """
    path = Path(path)
    texts = read_text(path).split("\n")
    rows = [(k, t.split()) for k, t in enumerate(texts, 1) if not t.lstrip().startswith("%")]
    while rows and not rows[0][1]:
        rows.pop(0)
    line, head = rows[0] if rows else (1, [])
    if not 2 <= len(head) <= 4:
        raise InputError(path, line, "not a METIS header", "write 'n m [fmt [ncon]]'")
    n = _whole(path, line, head[0], 1, MAX_NODES, "number of nodes")
    claimed = _whole(path, line, head[1], 0, 2**40, "number of edges")
    fmt = (head[2] if len(head) > 2 else "").zfill(3)
    if not re.fullmatch(r"[01]{3}", fmt) or (len(head) == 4 and head[3] != "1"):
        raise InputError(
            path, line, f"format {' '.join(head[2:])[:20]!r} not supported", "one weight"
        )
    sizes, weighted, edge_weights = (c == "1" for c in fmt)
    body = rows[1:]
    while len(body) > n and not body[-1][1]:
        body.pop()
    if len(body) != n:
        last = body[-1][0] if body else line
        raise InputError(path, last, f"{len(body)} node lines, the header says {n}", "mend one")
    weights = np.ones(n, dtype=np.int64)
    edges: list[tuple[int, int]] = []
    for node, (number, words) in enumerate(body):
        words = words[1:] if sizes else words
        if weighted:
            if not words:
                raise InputError(path, number, "no node weight", "give one first")
            weights[node] = _whole(path, number, words[0], 0, 2**40, "weight")
            words = words[1:]
        for token in words[:: 2 if edge_weights else 1]:
            edges.append((node, _whole(path, number, token, 1, n, "node") - 1))
    if len(edges) != 2 * claimed:
        raise InputError(
            path, line, f"{len(edges)} neighbours, {claimed} edges need {2 * claimed}", "mend one"
        )
    return _make(path, edges, weights)


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
    for node in range(instance.n):
        row = (indices[indptr[node] : indptr[node + 1]] + 1).tolist()
        words = [int(instance.weights[node]), *row] if weighted else row
        file.write(" ".join(map(str, words)) + "\n")


def read_edge_list(path: Path, problem: str = "") -> MIS:
    """Read one edge per line, ``#`` and ``%`` comments; all weights are 1.

    Node numbers may be any whole numbers; node k is the k-th smallest of them. A node
    without an edge cannot be expressed.

    Raises
    ------
    InputError
        When a line is not two node numbers.
    """
    path = Path(path)
    edges: list[tuple[int, int]] = []
    for line, words in _lines(path, "#%"):
        if len(words) != 2:
            raise InputError(path, line, f"{len(words)} words, expected two nodes", "write 'u v'")
        first, second = (_whole(path, line, w, -(2**53), 2**53, "node") for w in words)
        if first == second:
            raise InputError(path, line, f"node {first} is adjacent to itself", "remove the line")
        edges.append((first, second))
    if not edges:
        raise InputError(path, None, "holds no edge", "write one 'u v' per line")
    ids, index = np.unique(np.array(edges), return_inverse=True)
    return MIS(
        edges=index.reshape(-1, 2),
        weights=np.ones(len(ids), dtype=np.int64),
        name=path.name.split(".")[0],
    )


def write_edge_list(instance: MIS, file: TextIO) -> None:
    """Write one edge per line, nodes counted from 0.

    Raises
    ------
    ValueError
        When weights differ from 1, or a node has no edge.
    """
    if (instance.weights != 1).any() or len(np.unique(instance.edges)) != instance.n:
        raise ValueError("an edge list holds neither weights nor lone nodes; use .dimacs or .npz.")
    file.writelines(f"{i} {j}\n" for i, j in instance.edges)


def read_nodes(path: Path, instance: MIS) -> list[int]:
    """Read a solution: chosen nodes, counted from 1, one or more to a line.

    Raises
    ------
    InputError
        When something is not a node.
    """
    return [
        _whole(Path(path), line, word, 1, instance.n, "node") - 1
        for line, words in _lines(Path(path), "#c%")
        for word in words
    ]


def write_nodes(instance: MIS, solution: list[int], file: TextIO) -> None:
    """Write the chosen nodes, counted from 1, one to a line."""
    file.write(f"# independent set, weight {instance.objective(solution)}\n")
    file.writelines(f"{node + 1}\n" for node in solution)


def _format(
    suffixes: tuple[str, ...],
    sniff: Callable[[str], bool],
    read: Callable[[Path, str], MIS],
    write: Callable[[MIS, TextIO], None],
) -> Format:
    return Format(
        problem="mis",
        suffixes=suffixes,
        sniff=sniff,
        read=read,
        write=write,
        read_solution=read_nodes,
        write_solution=write_nodes,
        solution_suffixes=(".mis", ".sol", ".txt"),
    )


_PROBLEM_LINE = re.compile(r"^p\s+(edge|edges|col)\s", re.MULTILINE)

DIMACS = _format(
    (".dimacs", ".col", ".clq"),
    lambda head: _PROBLEM_LINE.search(head) is not None,
    read_dimacs,
    write_dimacs,
)
METIS = _format((".graph", ".metis"), lambda head: False, read_metis, write_metis)
EDGE_LIST = _format((".edges", ".edgelist"), lambda head: False, read_edge_list, write_edge_list)
