"""Knapsack instances as text, in the three layouts in common use.

- ``n capacity``, then ``n`` lines ``value weight``;
- Pisinger's ``n``, then ``n`` lines ``index value weight``, then the capacity
  (D. Pisinger, Where are the hard knapsack problems?, Computers & OR 32, 2005);
- Pisinger's blocks ``knapPI_...``: lines ``n``, ``c``, ``z``, ``time``, then
  ``index,value,weight,chosen``; blocks of one size make a batch.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from nco.instances.core import Batch, InputError
from nco.instances.io import Format, read_text
from nco.instances.knapsack import Knapsack

_FORMS = "forms: 'n capacity' then 'value weight' lines; Pisinger's 'index value weight'"


def _numbers(path: Path, line: int, text: str) -> list[float]:
    out = []
    for token in text.replace(",", " ").split():
        try:
            value = float(token)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in token:
            raise InputError(path, line, f"{token[:40]!r} is not a number", _FORMS)
        if value < 0:
            raise InputError(path, line, f"{token[:40]} < 0", "numbers must not be negative")
        out.append(int(value) if value.is_integer() else value)
    return out


def _lines(path: Path) -> list[tuple[int, str]]:
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

    Raises
    ------
    InputError
        When it is in none of them, or the counts disagree.
    """
    path = Path(path)
    lines = _lines(path)
    name = path.name.split(".")[0]
    if any(re.match(r"[czn]\s", text) for _, text in lines[:6]):
        return _read_blocks(path, lines)
    rows = [(number, _numbers(path, number, text)) for number, text in lines]
    line, head = rows[0]
    if len(head) == 2:
        n = _count(path, line, head[0])
        values, weights = _items(path, rows[1:], n, 2)
        return Knapsack(values=values, weights=weights, capacity=head[1], name=name)
    if len(head) == 1:
        n = _count(path, line, head[0])
        last, tail = rows[-1]
        if len(tail) != 1:
            raise InputError(path, last, "the last line is not the capacity", _FORMS)
        values, weights = _items(path, rows[1:-1], n, 3)
        return Knapsack(values=values, weights=weights, capacity=tail[0], name=name)
    raise InputError(path, line, f"{len(head)} numbers in the first line", _FORMS)


def _items(
    path: Path, rows: list[tuple[int, list[float]]], n: int, width: int
) -> tuple[list[float], list[float]]:
    for number, row in rows:
        if len(row) != width:
            raise InputError(path, number, f"{len(row)} numbers, expected {width}", _FORMS)
    if len(rows) != n:
        last = rows[-1][0] if rows else None
        raise InputError(path, last, f"{len(rows)} items, the first line says {n}", "mend one")
    return [row[-2] for _, row in rows], [row[-1] for _, row in rows]


def _read_blocks(path: Path, lines: list[tuple[int, str]]) -> Knapsack | Batch[Any]:
    found: list[Knapsack] = []
    position = 0
    while position < len(lines):
        name = path.name.split(".")[0]
        keys: dict[str, float] = {}
        while position < len(lines):
            number, text = lines[position]
            match = re.match(r"(n|c|z|time)\s+(\S+)$", text)
            if match:
                keys[match[1]] = _numbers(path, number, match[2])[0]
            elif re.match(r"[A-Za-z]", text):
                name = text
            else:
                break
            position += 1
        number = lines[min(position, len(lines) - 1)][0]
        if "n" not in keys or "c" not in keys:
            raise InputError(path, number, "a block without n and c", "give 'n 50' and 'c 995'")
        n = _count(path, number, keys["n"])
        rows = []
        while position < len(lines) and not re.match(r"[A-Za-z-]", lines[position][1]):
            rows.append((lines[position][0], _numbers(path, *lines[position])))
            position += 1
        chosen = bool(rows) and len(rows[0][1]) == 4
        for at, row in rows:
            if len(row) != (4 if chosen else 3):
                raise InputError(path, at, f"{len(row)} numbers", "give index,value,weight,chosen")
        trimmed = [(at, row[:3]) for at, row in rows]
        values, weights = _items(path, trimmed, n, 3)
        instance = Knapsack(values=values, weights=weights, capacity=keys["c"], name=name)
        if chosen and "z" in keys:
            instance = instance.replace(
                ref_cost=float(keys["z"]),
                ref_solution=[k for k, (_, row) in enumerate(rows) if row[3] == 1],
                ref_method="stated in the file",
            )
        found.append(instance)
        while position < len(lines) and set(lines[position][1]) == {"-"}:
            position += 1
    if len(found) == 1:
        return found[0]
    if len({k.n for k in found}) > 1:
        raise InputError(path, None, "holds instances of several sizes", "split the file")
    known = all(k.ref_cost is not None for k in found)
    return Batch(
        Knapsack,
        {
            "values": np.stack([k.values for k in found]),
            "weights": np.stack([k.weights for k in found]),
            "capacity": np.array([k.capacity for k in found]),
        },
        name=path.name.split(".")[0],
        ref_cost=np.array([k.ref_cost for k in found], dtype=np.float64) if known else None,
        ref_solution=[k.ref_solution for k in found] if known else None,  # type: ignore[misc]
        ref_method="stated in the file" if known else "",
    )


def write(instance: Knapsack, file: TextIO) -> None:
    """Write ``n capacity`` and ``value weight`` lines.

    Raises
    ------
    ValueError
        For a batch.
    """
    if isinstance(instance, Batch):
        raise ValueError("a batch cannot be written as text; use .npz.")
    file.write(f"{instance.n} {instance.capacity!r}\n")
    for value, weight in zip(instance.values.tolist(), instance.weights.tolist(), strict=True):
        file.write(f"{value!r} {weight!r}\n")


def read_items(path: Path, instance: Knapsack) -> list[int]:
    """Read a solution: the chosen items, counted from 0, one or more to a line.

    Raises
    ------
    InputError
        When something is not an item of the instance.
    """
    items: list[int] = []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        for value in _numbers(path, number, text.split("#", 1)[0]):
            if not isinstance(value, int) or value >= instance.n:
                raise InputError(
                    path, number, f"item {value:g} does not exist", f"known: 0..{instance.n - 1}"
                )
            items.append(value)
    return items


def write_items(instance: Knapsack, solution: list[int], file: TextIO) -> None:
    """Write the chosen items, counted from 0, one to a line."""
    file.write(f"# {instance.problem} solution, objective {instance.objective(solution)}\n")
    file.writelines(f"{item}\n" for item in solution)


FORMAT = Format(
    problem="knapsack",
    suffixes=(".kp", ".knap", ".knapsack"),
    sniff=lambda head: re.match(r"\s*knapPI_", head) is not None,
    read=read,
    write=write,
    read_solution=read_items,
    write_solution=write_items,
    solution_suffixes=(".sol", ".txt"),
)
