"""One divider per problem: how it is split, and what a conqueror's parts are.

A divider ``<name>`` is the module ``nco.udc.dividers.<name>`` with the attribute `DIVIDER`,
or an entry point of that name in the group ``nco.dividers`` that gives such a module.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Protocol

from nco.instances.core import Budget, Instance


class Start(Protocol):
    """A way to divide: a whole solution, whose parts are then conquered."""

    def __call__(self, instance: Any, seed: int, budget: Budget) -> Any:
        """A feasible solution; `TimeoutError` when the budget ends first."""
        ...


class Divider(Protocol):
    """The problem's side of dividing."""

    @property
    def name(self) -> str:
        """The problem's name."""
        ...

    @property
    def starts(self) -> Mapping[str, Start]:
        """Ways to divide by name, the best measured one first."""
        ...

    @property
    def size(self) -> int:
        """Nodes in a part, unless it is said otherwise."""
        ...

    def plain(self, instance: Instance[Any]) -> Any:
        """A solution that takes next to no time."""
        ...


def load_divider(name: str) -> Divider | None:
    """The divider of a problem, or None where there is none."""
    module = f"{__name__}.{name}"
    if name.isidentifier() and find_spec(module) is not None:
        return importlib.import_module(module).DIVIDER
    points = entry_points(group="nco.dividers", name=name)
    return next((point.load().DIVIDER for point in points), None)
