"""``nco list``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nco.cli.options import Json

if TYPE_CHECKING:
    from nco.instances.registry import Registry

#: What can be listed -> its registry's name; the rest is listed by functions.
KINDS = ("problems", "solvers", "formats", "operators", "backends", "policies", "dividers", "sets")
OTHERS = ("weights", "extras")
#: What comes as one module per problem -> their package; registries have what plug-ins add.
MODULES = {"policies": "nco.bq.policies", "dividers": "nco.udc.dividers"}


def listing(
    kind: Annotated[
        str | None,
        typer.Argument(
            help=f"One of: {', '.join((*KINDS, *OTHERS))}.",
            autocompletion=lambda: [*KINDS, *OTHERS],
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> int:
    """List what there is: problems, solvers, formats, weights, ..."""
    from nco.instances import registry
    from nco.instances.core import InputError

    if kind is None:
        rows = [{"kind": k, "names": getattr(registry, k).names()} for k in KINDS]
        for row in rows:
            if row["kind"] in MODULES:
                own = [module["name"] for module in _modules(MODULES[row["kind"]])]
                row["names"] = own + row["names"]
        rows += [{"kind": "extras", "names": [row["name"] for row in _extras()]}]
        rows += [{"kind": "weights", "names": [row["name"] for row in _weights()]}]
        rows = [row for row in rows if row["names"]]
    elif kind == "solvers":
        rows = _solvers()
    elif kind in MODULES:
        rows = [*_modules(MODULES[kind]), *_entries(getattr(registry, kind))]
    elif kind in KINDS:
        rows = _entries(getattr(registry, kind))
    elif kind == "weights":
        rows = list(_weights())
    elif kind == "extras":
        rows = list(_extras())
    else:
        known = ", ".join((*KINDS, *OTHERS))
        raise InputError(None, None, f"unknown kind {kind!r}", f"known: {known}")
    if json_:
        for row in rows:
            print(json.dumps(row, allow_nan=False))
    elif rows:
        _print(rows)
    else:
        print(f"no {kind}")
    return 0


def _entries(entries: Registry) -> list[dict[str, Any]]:
    return [
        {"name": e.name, "description": e.description, "installed": _installed(e)} for e in entries
    ]


def _modules(package: str) -> list[dict[str, Any]]:
    """The modules of a package with what their first lines say; none is imported."""
    import ast
    from importlib.resources import files

    import nco

    folder = files(nco).joinpath(*package.split(".")[1:])
    installed = "yes" if find_spec("torch") else "needs torch"
    rows = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py") and file.name != "__init__.py":
            said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            text = said.partition("\n")[0].rstrip(".")
            name = file.name.removesuffix(".py")
            rows.append({"name": name, "description": text, "installed": installed})
    return rows


def _installed(entry: Any) -> str:
    if entry.installed:
        return "yes"
    return f"pip install 'nco[{entry.extra}]'" if entry.extra else f"needs {entry.requires}"


def _solvers() -> list[dict[str, Any]]:
    from nco.instances import registry

    probes = _probes()
    rows = []
    for entry in registry.solvers:
        able: list[str] = []
        installed = _installed(entry)
        if entry.installed:
            try:
                solver = entry.load()()
                reasons = {name: solver.supports(i) for name, i in probes.items()}
                able = [name for name, reason in reasons.items() if reason is None]
                if not able:
                    # A solver that lacks something in its environment says so itself.
                    installed = str(next(iter(reasons.values())))
            except ImportError as error:
                installed = f"broken: {error}"
        rows.append(
            {
                "name": entry.name,
                "description": entry.description,
                "problems": able,
                "installed": installed,
            }
        )
    return rows


def _probes() -> dict[str, Any]:
    """A small instance of every problem, to ask solvers what they support."""
    from nco import examples
    from nco.instances import io, registry

    probes = {}
    for entry in registry.problems:
        try:
            probes[entry.name] = entry.load().generate(5, seed=0)
        except TypeError:
            # Some problems have no generator.
            for file in examples.files(entry.name):
                probes[entry.name] = io.read(file)
    return probes


def _weights() -> Iterable[dict[str, Any]]:
    from nco.weights import shipped

    for name, card in shipped().items():
        training = card.get("training", {})
        yield {
            "name": name,
            "problem": card["problem"],
            "measured": card.get("gaps") or _errors(card),
            "labels": card.get("labels") or training.get("config", {}).get("data"),
            "steps": training.get("steps"),
            "licence": card.get("licence"),
        }


def _errors(card: dict[str, Any]) -> dict[str, Any]:
    """What was measured of a value network: its errors as a share of the labels' range."""
    measured = card.get("measured")
    if not isinstance(measured, dict):
        return {}
    return {"validation": {"mae": measured["mae"], "instances": measured["instances"]}}


def _extras() -> Iterable[dict[str, Any]]:
    from importlib.metadata import metadata, requires

    needed = requires("nco") or []
    for extra in metadata("nco").get_all("Provides-Extra") or []:
        mark = f'extra == "{extra}"'
        packages = [r.partition(";")[0].strip() for r in needed if mark in r.replace("'", '"')]
        yield {"name": extra, "packages": packages, "install": f"pip install 'nco[{extra}]'"}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    from nco.cli.report import console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for key in rows[0]:
        table.add_column(key, overflow="fold", no_wrap=key == "name")
    for row in rows:
        table.add_row(*map(_text, row.values()))
    console().print(table)


def _text(value: Any) -> str:
    """A cell; what was measured is one line each."""
    if isinstance(value, dict):
        return "\n".join(
            f"{name} {entry['gap']:g} %" if "gap" in entry else f"{name} MAE {entry['mae']:.4f}"
            for name, entry in value.items()
        )
    if isinstance(value, list):
        return ", ".join(value)
    return "" if value is None else str(value)
