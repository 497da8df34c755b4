"""``nco info``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from nco.cli.options import Json, Metric, Problem


def info(
    file: Annotated[Path, typer.Argument(help="Instance file.", show_default=False)],
    problem: Problem = "",
    metric: Metric = None,
    bound_seconds: Annotated[
        float, typer.Option("--bound-seconds", min=0.0, help="Seconds for a dual bound.")
    ] = 1.0,
    json_: Json = False,
) -> int:
    """Describe an instance: size, data, bound, known reference, solvers."""
    from nco.inspection import info as describe

    values = describe(file, problem=problem, metric=metric, bound_seconds=bound_seconds)
    if json_:
        print(json.dumps(values, allow_nan=False))
    else:
        lines = list(_lines(values))
        width = max(len(key) for key, _ in lines)
        for key, text in lines:
            print(f"{key:<{width}}  {text}")
    return 0


def _lines(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from nco.cli.report import number

    for key, value in values.items():
        if key == "fields":
            for name, field in value.items():
                yield f"  {name}", _field(field)
        elif isinstance(value, list):
            yield key, ", ".join(map(str, value)) or "none"
        elif value is not None and value != "":
            shown = isinstance(value, (int, float)) and not isinstance(value, bool)
            yield key, number(value) if shown else str(value)


def _field(field: Any) -> str:
    from nco.cli.report import number

    if not isinstance(field, dict):
        return str(field)
    text = " x ".join(map(str, field["shape"]))
    if field.get("mean") is not None:
        text += f", {number(field['min'])} .. {number(field['max'])}, mean {number(field['mean'])}"
    return text
