"""Combinatorial optimization: classical, neural and MIP-based solvers, one interface.

>>> import nco
>>> result = nco.solve("berlin52.tsp", time_limit=5)  # doctest: +SKIP
>>> result.objective  # doctest: +SKIP
7542

Nothing is imported before it is used: `import nco` alone loads neither numpy nor any
solver.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nco import examples as examples
    from nco.api import dual_bound as dual_bound
    from nco.api import solve as solve
    from nco.api import solve_batch as solve_batch
    from nco.conversion import convert as convert
    from nco.conversion import generate as generate
    from nco.inspection import Check as Check
    from nco.inspection import check as check
    from nco.inspection import check_results as check_results
    from nco.inspection import info as info
    from nco.instances import plot as plot
    from nco.instances.atsp import ATSP as ATSP
    from nco.instances.core import Batch as Batch
    from nco.instances.core import Budget as Budget
    from nco.instances.core import CheckError as CheckError
    from nco.instances.core import Distances as Distances
    from nco.instances.core import Event as Event
    from nco.instances.core import InputError as InputError
    from nco.instances.core import Instance as Instance
    from nco.instances.core import MissingExtraError as MissingExtraError
    from nco.instances.core import Result as Result
    from nco.instances.core import Sense as Sense
    from nco.instances.core import Status as Status
    from nco.instances.core import Stop as Stop
    from nco.instances.core import UnsupportedError as UnsupportedError
    from nco.instances.cvrp import CVRP as CVRP
    from nco.instances.io import read as read
    from nco.instances.io import read_solution as read_solution
    from nco.instances.io import write as write
    from nco.instances.io import write_solution as write_solution
    from nco.instances.knapsack import Knapsack as Knapsack
    from nco.instances.mip import MIP as MIP
    from nco.instances.mis import MIS as MIS
    from nco.instances.mtsp import MTSP as MTSP
    from nco.instances.op import OP as OP
    from nco.instances.ovrp import OVRP as OVRP
    from nco.instances.pctsp import PCTSP as PCTSP
    from nco.instances.registry import formats as formats
    from nco.instances.registry import problems as problems
    from nco.instances.registry import solvers as solvers
    from nco.instances.spctsp import SPCTSP as SPCTSP
    from nco.instances.tsp import TSP as TSP

    __version__: str

_HOMES = {
    "nco.api": "dual_bound solve solve_batch",
    "nco.conversion": "convert generate",
    "nco.inspection": "Check check check_results info",
    "nco.instances.core": "Batch Budget CheckError Distances Event InputError Instance"
    " MissingExtraError Result Sense Status Stop UnsupportedError",
    "nco.instances.io": "read read_solution write write_solution",
    "nco.instances.registry": "formats problems solvers",
}
_MODULES = {"examples": "nco.examples", "plot": "nco.instances.plot"}
_EXPORTS = {name: module for module, names in _HOMES.items() for name in names.split()}

logging.getLogger("nco").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("nco")
    elif name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _EXPORTS:
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
    else:
        value = _instance_class(name)
    globals()[name] = value
    return value


def _instance_class(name: str) -> Any:
    # Every registered problem's class is here under its own name: nco.TSP.
    if name[:1].isupper():
        from nco.instances.registry import problems

        for entry in problems:
            if entry.target.partition(":")[2] == name:
                return entry.load()
    raise AttributeError(f"module 'nco' has no attribute {name!r}")


def __dir__() -> list[str]:
    from nco.instances.registry import problems

    classes = {entry.target.partition(":")[2] for entry in problems}
    return sorted({*globals(), *_MODULES, *_EXPORTS, *classes, "__version__"})
