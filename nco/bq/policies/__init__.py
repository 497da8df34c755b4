"""One policy per problem.

A policy ``<name>`` is the module ``nco.bq.policies.<name>`` with the attributes `POLICY`
and `TEACHER` (its training side), two classes whose parameters are the options, or
an entry point of that name in the group ``nco.policies`` that gives such a module.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType


def load_policy(name: str) -> ModuleType:
    """The module of a policy.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    module = f"{__name__}.{name}"
    if name.isidentifier() and find_spec(module) is not None:
        return importlib.import_module(module)
    for point in entry_points(group="nco.policies", name=name):
        return point.load()
    raise ValueError(f"there is no policy for problem {name!r}.")
