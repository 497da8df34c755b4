"""Knapsack instances as text, in the layouts in common use.

- ``n capacity``, then ``n`` lines ``value weight``; the capacity second. A last line of
  ``n`` zeros and ones, if there and n is not 2, is a known solution.
- Pisinger's ``n``, then ``n`` lines ``index value weight`` with consecutive indices, then
  the capacity (D. Pisinger, Where are the hard knapsack problems?, Computers & OR 32,
  2005).
- Pisinger's blocks: a name ``knapPI_...``, lines ``n``, ``c``, ``z`` (optimum) and
  ``time``, then ``index,value,weight,chosen`` lines, then ``-----``. Several blocks of
  one size make a batch.

Text after ``#`` is a comment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Batch, InputError, close
from nco.instances.io import Format, decimal, read_text
from nco.instances.knapsack import Knapsack

_FORMS = "write 'n capacity', then 'value weight' lines; or Pisinger's 'index value weight'"
#: Largest number; more do not add up in 64 bits.
LARGEST = 2**62
Row = tuple[int, list[float]]
Line = tuple[int, str]


def _number(path: Path, line: int, word: str) -> float:
    value = decimal(word)
    if not math.isfinite(value):
        raise InputError(path, line, f"{word[:40]!r} is not a number", _FORMS)
    if value < 0:
        raise InputError(path, line, f"{word[:40]} < 0", "numbers must not be negative")
    if value > LARGEST:
        raise InputError(path, line, f"{word[:40]} > 2^62", "scale all numbers down")
    # Through a float, whole numbers beyond 2^53 would change.
    return int(word if word.isdigit() else value) if value.is_integer() else value


def _row(path: Path, line: Line) -> Row:
    number, text = line
    return number, [_number(path, number, word) for word in text.replace(",", " ").split()]


def _lines(path: Path) -> list[Line]:
    lines = []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        text = text.split("#", 1)[0].strip()
        if text:
            lines.append((number, text))
    if not lines:
        raise InputError(path, None, "holds no numbers", _FORMS)
    return lines


def _count(path: Path, line: int, value: float) -> int:
    if not isinstance(value, int) or value < 1:
        raise InputError(path, line, f"{value:g} is not a number of items", "give n >= 1")
    return value


def read(path: Path, problem: str = "") -> Knapsack | Batch[Any]:
    """Read a knapsack file in any of the layouts.

    Parameters
    ----------
    path
        The file.
    problem
        Ignored: these files hold knapsacks only.

    Raises
    ------
    InputError
        When it is in none of them, or the counts disagree.
    """
    path = Path(path)
    lines = _lines(path)
    name = path.name.split(".")[0]
    if re.match(r"[A-Za-z]", lines[0][1]):
        return _read_blocks(path, lines)
    rows = [_row(path, line) for line in lines]
    line, head = rows[0]
    if len(head) == 2:
        return _read_plain(path, name, rows)
    if len(head) != 1:
        raise InputError(path, line, f"{len(head)} numbers in the first line", _FORMS)
    n = _count(path, line, head[0])
    last, tail = rows[-1]
    if len(rows) < 2 or len(tail) != 1:
        raise InputError(path, last, "the last line is not the capacity", _FORMS)
    values, weights = _indexed(path, rows[1:-1], n)
    return Knapsack(values=values, weights=weights, capacity=tail[0], name=name)


def _widths(path: Path, rows: Sequence[Row], width: int, n: int, end: int) -> None:
    for number, row in rows:
        if len(row) != width:
            raise InputError(path, number, f"{len(row)} numbers, expected {width}", _FORMS)
    if len(rows) != n:
        raise InputError(
            path, rows[-1][0] if rows else end, f"{len(rows)} items, n says {n}",
            "mend n; is the file truncated?",
        )  # fmt: skip


def _read_plain(path: Path, name: str, rows: list[Row]) -> Knapsack:
    line, (first, capacity) = rows[0]
    n, body = _count(path, line, first), rows[1:]
    flags: Row | None = None
    # For n = 2 it could as well be a third item, which is an error.
    if len(body) == n + 1 and len(body[-1][1]) == n != 2 and set(body[-1][1]) <= {0, 1}:
        flags = body.pop()
    if len(body) == capacity != n:
        hint = "is it 'capacity n'? swap the two"
        raise InputError(path, line, f"n is {n}, but {len(body)} items follow", hint)
    _widths(path, body, 2, n, line)
    instance = Knapsack(
        values=np.array([row[0] for _, row in body]),
        weights=np.array([row[1] for _, row in body]),
        capacity=capacity,
        name=name,
    )
    if flags is None:
        return instance
    return _known(path, instance, flags[0], [k for k, flag in enumerate(flags[1]) if flag])


def _known(
    path: Path, instance: Knapsack, line: int, items: list[int], stated: float | None = None
) -> Knapsack:
    """The instance with the solution that its file holds, which must be right."""
    faults = instance.violations(items)
    if faults:
        raise InputError(path, line, f"the solution in the file: {faults[0]}", "remove it")
    value = float(instance.objective(items))
    if stated is not None and not close(value, stated, 1e-9):
        what = f"the chosen items are worth {value:g}, z says {stated:g}"
        raise InputError(path, line, what, "mend one of them")
    return instance.replace(ref_cost=value, ref_solution=items, ref_method="stated in the file")


def _indexed(path: Path, rows: Sequence[Row], n: int, end: int = 0) -> tuple[NDArray[Any], ...]:
    """Values and weights of ``index value weight`` rows, counted from 0 or 1."""
    _widths(path, rows, 3, n, end)
    start = 0 if rows[0][1][0] == 0 else 1
    for position, (number, row) in enumerate(rows, start):
        if row[0] != position:
            raise InputError(path, number, f"index {row[0]:g}, expected {position}", _FORMS)
    return np.array([row[1] for _, row in rows]), np.array([row[2] for _, row in rows])


def _read_block(path: Path, lines: list[Line], position: int) -> tuple[Knapsack, int]:
    """One block that begins at a position of ``lines``, and where the next one begins."""
    name = path.name.split(".")[0]
    keys: dict[str, float] = {}
    first = lines[position][0]
    while position < len(lines) and re.match(r"[A-Za-z]", lines[position][1]):
        number, text = lines[position]
        word, _, rest = text.partition(" ")
        if word in ("n", "c", "z", "time"):
            if word in keys:
                raise InputError(path, number, f"{word} comes twice", "remove one")
            keys[word] = _number(path, number, rest.strip())
        elif keys:
            raise InputError(path, number, f"{text[:40]!r} in a block", "known: n, c, z, time")
        else:
            name = text
        position += 1
    for key in ("n", "c"):
        if key not in keys:
            raise InputError(path, first, f"a block without {key}", "write 'n 50' and 'c 995'")
    end = lines[position - 1][0]
    rows = []
    while position < len(lines) and lines[position][1][0].isdigit():
        rows.append(_row(path, lines[position]))
        position += 1
    n = _count(path, end, keys["n"])
    chosen = bool(rows) and len(rows[0][1]) == 4
    if chosen:
        _widths(path, rows, 4, n, end)
    values, weights = _indexed(
        path, [(at, row[:3]) for at, row in rows] if chosen else rows, n, end
    )
    instance = Knapsack(values=values, weights=weights, capacity=keys["c"], name=name)
    if chosen:
        for at, row in rows:
            if row[3] not in (0, 1):
                raise InputError(path, at, f"chosen is {row[3]:g}", "write 0 or 1")
        items = [k for k, (_, row) in enumerate(rows) if row[3]]
        # Unsolved blocks have no item chosen and no optimum.
        if items or keys.get("z"):
            instance = _known(path, instance, end, items, keys.get("z"))
    elif keys.get("z"):
        instance = instance.replace(ref_cost=float(keys["z"]), ref_method="stated in the file")
    if position < len(lines) and set(lines[position][1]) == {"-"}:
        position += 1
    elif position < len(lines):
        number, text = lines[position]
        raise InputError(path, number, f"{text[:40]!r} after a block", "end it with -----")
    return instance, position


def _read_blocks(path: Path, lines: list[Line]) -> Knapsack | Batch[Any]:
    found: list[Knapsack] = []
    position = 0
    while position < len(lines):
        instance, position = _read_block(path, lines, position)
        found.append(instance)
    if len(found) == 1:
        return found[0]
    sizes = sorted({k.n for k in found})
    if len(sizes) > 1:
        raise InputError(
            path, None, f"holds {len(found)} instances of {len(sizes)} sizes ({sizes[0]} to "
            f"{sizes[-1]})", "split the file: a batch has one size",
        )  # fmt: skip
    return Batch.of(found, name=path.name.split(".")[0])


def write(instance: Knapsack, file: TextIO) -> None:
    """Write ``n capacity`` and ``value weight`` lines."""
    file.write(f"{instance.n} {instance.capacity!r}\n")
    pairs = zip(instance.values.tolist(), instance.weights.tolist(), strict=True)
    file.writelines(f"{value!r} {weight!r}\n" for value, weight in pairs)


def read_items(path: Path, instance: Knapsack) -> list[int]:
    """Read a solution: chosen items, counted from 0, one to a line; or ``n`` zeros and ones.

    Parameters
    ----------
    path
        The file.
    instance
        The instance whose items they are; its size tells the two forms apart: a line of
        at least two words is zeros and ones.

    Raises
    ------
    InputError
        When something is not an item of the instance.
    """
    path = Path(path)
    lines = [
        (number, text.split("#", 1)[0].split())
        for number, text in enumerate(read_text(path).split("\n"), 1)
    ]
    lines = [(number, words) for number, words in lines if words]
    if len(lines) == 1 and len(lines[0][1]) > 1:
        number, words = lines[0]
        if len(words) != instance.n or not set(words) <= {"0", "1"}:
            raise InputError(
                path, number, f"{len(words)} numbers in a line",
                f"write one item to a line, or all {instance.n} zeros and ones",
            )  # fmt: skip
        return [k for k, word in enumerate(words) if word == "1"]
    items = []
    for number, words in lines:
        if len(words) > 1:
            raise InputError(path, number, f"{len(words)} numbers", "write one item to a line")
        if not re.fullmatch(r"[0-9]{1,15}", words[0]) or int(words[0]) >= instance.n:
            raise InputError(
                path, number, f"item {words[0][:40]} does not exist", f"known: 0..{instance.n - 1}"
            )
        items.append(int(words[0]))
    return items


def write_items(instance: Knapsack, solution: list[int], file: TextIO) -> None:
    """Write the chosen items, counted from 0, one to a line."""
    file.write(f"# {len(solution)} items, value {instance.objective(solution)}\n")
    file.writelines(f"{item}\n" for item in solution)


def stated_cost(path: Path) -> float | None:
    """The value that a solution file claims in its comment, or None."""
    match = re.search(r"^#.*\bvalue ([0-9.e+]+)$", read_text(path), re.MULTILINE)
    try:
        return float(match[1]) if match else None
    except ValueError:
        return None


FORMAT = Format(
    problem="knapsack",
    suffixes=(".kp", ".knap", ".knapsack"),
    sniff=lambda head: re.match(r"\s*knapPI_", head) is not None,
    read=read,
    write=write,
    read_solution=read_items,
    write_solution=write_items,
    solution_suffixes=(".sol", ".txt"),
    stated_cost=stated_cost,
)
