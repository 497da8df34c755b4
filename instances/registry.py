"""Names of everything that can be plugged in, imported only on use.

An entry is one line: name, ``"module:attribute"``, description. Other packages add
theirs through the entry-point groups ``nco.problems``, ``nco.formats``, ``nco.solvers``,
``nco.policies``, ``nco.dividers``, ``nco.operators``, ``nco.backends``, ``nco.sets`` and
``nco.bounds``, without a change here.
"""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoints, entry_points
from importlib.util import find_spec
from typing import Any

from nco.instances.core import InputError, MissingExtraError

logger = logging.getLogger("nco")


@cache
def _entry_points() -> Any:
    # Every look reads the metadata of all packages there are.
    return entry_points()


def plugins(group: str, **only: str) -> EntryPoints:
    """What other packages add to an entry-point group; looked up once per process."""
    found: EntryPoints = _entry_points().select(group=group, **only)
    return found


@cache
def _importable(package: str) -> bool:
    return find_spec(package) is not None


@dataclass(frozen=True)
class Entry:
    """One registered thing.

    Parameters
    ----------
    name
        Its public name.
    target
        ``"module:attribute"``.
    description
        One line.
    requires
        Importable package it cannot work without, or "".
    extra
        The extra of nco that installs ``requires``, or "" for a base dependency.
    """

    name: str
    target: str
    description: str = ""
    requires: str = ""
    extra: str = ""

    @property
    def installed(self) -> bool:
        """Whether what it requires can be imported; nothing is imported to find out."""
        return not self.requires or _importable(self.requires)

    def load(self) -> Any:
        """Import the target.

        Raises
        ------
        MissingExtraError
            When ``requires`` is not installed.
        ImportError
            When the target cannot be imported, or there is nothing of its name.
        """
        if not self.installed:
            package = f"nco[{self.extra}]" if self.extra else self.requires
            raise MissingExtraError(
                f"{self.name} needs {self.requires}: run pip install '{package}'"
            )
        module, _, attribute = self.target.partition(":")
        found = importlib.import_module(module)
        if not hasattr(found, attribute):
            raise ImportError(f"{module} has no {attribute}")
        return getattr(found, attribute)


class Registry:
    """Entries of one kind.

    Parameters
    ----------
    kind
        What the entries are, in the singular, for error texts.
    group
        Entry-point group of plug-ins.
    *entries
        The built-in entries.

    Raises
    ------
    ValueError
        When a name is registered twice.
    """

    def __init__(self, kind: str, group: str, *entries: Entry):
        self.kind = kind
        self.group = group
        self._entries: dict[str, Entry] = {}
        self._broken: set[str] = set()
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Register one more entry."""
        if entry.name in self._entries:
            raise ValueError(f"{self.kind} {entry.name!r} is registered twice.")
        self._entries[entry.name] = entry

    @cached_property
    def _plugins_loaded(self) -> bool:
        for point in plugins(self.group):
            description = f"from {point.dist.name}" if point.dist else ""
            if point.name in self._entries:
                # One plug-in must not take the others with it.
                text = "%s %s is there already: the one %s is left out"
                logger.warning(text, self.kind, point.name, description or point.value)
                continue
            self.add(Entry(point.name, point.value, description))
        return True

    def __iter__(self) -> Iterator[Entry]:
        assert self._plugins_loaded
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        assert self._plugins_loaded
        return name in self._entries

    def names(self) -> list[str]:
        """All names, in the order of registration."""
        return [entry.name for entry in self]

    def entry(self, name: str) -> Entry:
        """The entry of that name.

        Raises
        ------
        InputError
            When there is none; the text suggests the nearest name.
        """
        if name not in self:
            near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(self.names())}"
            raise InputError(None, None, f"unknown {self.kind} {name!r}", hint)
        return self._entries[name]

    def load(self, name: str) -> Any:
        """Import and return the thing of that name."""
        return self.entry(name).load()

    def find(self, name: str) -> Any:
        """The thing of that name, or None where it does not work here.

        One broken plug-in does not take the others with it: of what is installed and cannot be
        imported, a warning says so once.
        """
        entry = self.entry(name)
        if not entry.installed:
            return None
        try:
            return entry.load()
        except ImportError as error:
            if name not in self._broken:
                self._broken.add(name)
                logger.warning("%s %s cannot be imported: %s", self.kind, name, error)
            return None

    def loaded(self) -> Iterator[tuple[str, Any]]:
        """Name and thing of all entries that work here, as `find` has them."""
        for name in self.names():
            found = self.find(name)
            if found is not None:
                yield name, found


problems = Registry(
    "problem",
    "nco.problems",
    Entry("tsp", "nco.instances.tsp:TSP", "travelling salesman, symmetric"),
    Entry("atsp", "nco.instances.atsp:ATSP", "travelling salesman, asymmetric"),
    Entry("cvrp", "nco.instances.cvrp:CVRP", "capacitated vehicle routing"),
    Entry("ovrp", "nco.instances.ovrp:OVRP", "open vehicle routing"),
    Entry("op", "nco.instances.op:OP", "orienteering"),
    Entry("pctsp", "nco.instances.pctsp:PCTSP", "prize-collecting travelling salesman"),
    Entry("spctsp", "nco.instances.spctsp:SPCTSP", "the same with prizes shown at a visit"),
    Entry("mtsp", "nco.instances.mtsp:MTSP", "salesmen whose longest tour is shortest"),
    Entry("knapsack", "nco.instances.knapsack:Knapsack", "0-1 knapsack"),
    Entry("mis", "nco.instances.mis:MIS", "maximum (weight) independent set"),
    Entry("mip", "nco.instances.mip:MIP", "mixed-integer linear program"),
    Entry(
        "two-stage-knapsack",
        "nco.instances.two_stage_knapsack:TwoStageKnapsack",
        "robust knapsack: accept, then produce, repair or outsource",
    ),
    Entry(
        "capital-budgeting",
        "nco.instances.capital_budgeting:CapitalBudgeting",
        "robust investment now or later",
    ),
    Entry(
        "capital-budgeting-loans",
        "nco.instances.capital_budgeting:CapitalBudgetingLoans",
        "the same with loans and certain costs",
    ),
    Entry(
        "facility-location",
        "nco.instances.facility_location:FacilityLocation",
        "robust choice of sites before the demands are known",
    ),
)

#: Several entries may serve one problem; see `nco.instances.io`.
formats = Registry(
    "format",
    "nco.formats",
    Entry("tsplib-tsp", "nco.instances.tsplib:TSP_FORMAT", "TSPLIB .tsp and .tour"),
    Entry("tsplib-atsp", "nco.instances.tsplib:ATSP_FORMAT", "TSPLIB .atsp"),
    Entry("cvrplib", "nco.instances.tsplib:CVRP_FORMAT", "CVRPLIB .vrp and .sol"),
    Entry("ovrp", "nco.instances.tsplib:OVRP_FORMAT", "TSPLIB-like .ovrp and .sol"),
    Entry("oplib", "nco.instances.tsplib:OP_FORMAT", "OPLib .oplib and .sol"),
    Entry("knapsack-text", "nco.instances.knapsack_text:FORMAT", "n capacity / value weight; .kp"),
    Entry("dimacs", "nco.instances.graphs:DIMACS", "DIMACS graph; .col .clq .dimacs"),
    Entry("metis", "nco.instances.graphs:METIS", "METIS graph; .graph .metis"),
    Entry("edge-list", "nco.instances.graphs:EDGE_LIST", "one edge per line; .edges .edgelist"),
    Entry("mps", "nco.instances.mps:MPS", "MPS model, also .gz; .mps"),
    Entry("lp", "nco.instances.mps:LP", "LP model, also .gz; .lp"),
    Entry("rkp", "nco.instances.two_stage_text:KNAPSACK", "two-stage knapsack as published"),
    Entry("cb", "nco.instances.two_stage_text:CAPITAL", "capital budgeting as published"),
    Entry("cbl", "nco.instances.two_stage_text:LOANS", "capital budgeting with loans"),
    Entry("rfl", "nco.instances.two_stage_text:FACILITY", "facility location, Gamma demands"),
    Entry(
        "two-stage-toml",
        "nco.instances.two_stage_toml:FORMAT",
        "two-stage problem of an MPS model and an uncertainty set; .toml",
    ),
    Entry("npz", "nco.instances.arrays:NPZ", "one instance or a batch of arrays; .npz"),
    Entry("json", "nco.instances.arrays:JSON", "one instance; .json"),
)

#: Valid dual bounds that are cheap beside solving: f(instance, budget) -> float | None.
bounds = Registry(
    "bound",
    "nco.bounds",
    Entry("tsp", "nco.classical.one_tree:bound", "Held-Karp 1-tree ascent"),
    Entry("mtsp", "nco.classical.one_tree:longest_bound", "farthest way, share of the 1-tree"),
    Entry("knapsack", "nco.instances.knapsack:dantzig_bound", "Dantzig's LP bound"),
    Entry("mip", "nco.mip.relaxation:bound", "LP relaxation", "highspy"),
)

solvers = Registry(
    "solver",
    "nco.solvers",
    Entry("auto", "nco.auto:Auto", "the best measured choice for the instance"),
    Entry("lkh", "nco.classical.lkh:LKH", "Lin-Kernighan-Helsgaun", "elkai", "lkh"),
    Entry("fast-tsp", "nco.classical.fast_tsp:FastTSP", "Or-opt local search", "fast_tsp"),
    Entry("pyvrp", "nco.classical.pyvrp:PyVRP", "hybrid search for vehicle routing", "pyvrp"),
    Entry("hgs", "nco.classical.hgs:HGS", "hybrid genetic search, HGS-CVRP", "hygese", "hgs"),
    Entry("ortools", "nco.classical.ortools:ORTools", "OR-tools routing", "ortools"),
    Entry("cp-sat", "nco.classical.cp_sat:CPSAT", "OR-tools CP-SAT", "ortools"),
    Entry("knapsack", "nco.classical.knapsack:KnapsackDP", "exact knapsack"),
    Entry("scip", "nco.mip.scip:SCIP", "SCIP on the MIP form", "pyscipopt"),
    Entry("highs", "nco.mip.highs:HiGHS", "HiGHS on the MIP form", "highspy"),
    Entry("balans", "nco.mip.balans:Balans", "bandit-driven search over MIP engines"),
    Entry("balans-package", "nco.mip.balans_package:BalansPackage", "the balans package itself"),
    Entry("nearest-neighbor", "nco.classical.constructive:NearestNeighbor", "nearest neighbour"),
    Entry("greedy", "nco.classical.constructive:Greedy", "greedy edge, ratio or degree"),
    Entry("savings", "nco.classical.constructive:Savings", "Clarke and Wright's savings"),
    Entry("insertion", "nco.classical.insertion:Insertion", "greedy insertion into routes"),
    Entry(
        "ruin-recreate",
        "nco.classical.ruin_recreate:RuinRecreate",
        "ruin and recreate for all routing problems",
        "numba",
    ),
    Entry(
        "prize-tour",
        "nco.classical.prize_tour:PrizeTour",
        "local search over which customers a tour visits",
        "numba",
    ),
    Entry(
        "mis-tabu", "nco.classical.mis_tabu:MISTabu", "tabu search for independent sets", "numba"
    ),
    Entry("kamis", "nco.classical.kamis:KaMIS", "KaMIS, independent sets", "chszlablib", "kamis"),
    Entry(
        "space-filling-curve",
        "nco.classical.constructive:SpaceFillingCurve",
        "order along a Hilbert curve",
    ),
    Entry("or-opt", "nco.classical.or_opt:OrOpt", "2-opt and Or-opt with perturbation", "numba"),
    Entry("bq", "nco.bq.solver:BQ", "BQ-NCO policies, anytime by reconstruction", "torch"),
    Entry("udc", "nco.udc.solver:UDC", "divide, conquer and reunite, for large instances", "torch"),
    Entry(
        "two-stage",
        "nco.robust.auto:TwoStage",
        "what auto does with two-stage problems: all of the following in turns",
    ),
    Entry("ccg", "nco.robust.ccg:CCG", "column-and-constraint generation"),
    Entry(
        "reformulation",
        "nco.robust.reformulation:Reformulation",
        "two-stage: relaxed recourse, dualised",
    ),
    Entry(
        "k-adaptability",
        "nco.robust.k_adaptability:KAdaptability",
        "two-stage: the best of K recourses",
    ),
    Entry("static", "nco.robust.baselines:Static", "two-stage: one recourse for all scenarios"),
    Entry("nominal", "nco.robust.baselines:Nominal", "two-stage: best in the nominal scenario"),
    Entry("scenario", "nco.robust.baselines:Scenario", "two-stage: best in a few scenarios"),
    Entry(
        "neur2ro",
        "nco.robust.neur2ro:Neur2RO",
        "learned column-and-constraint generation",
        "torch",
    ),
)

#: Neighbourhoods of `balans`: f(incumbents, size, rng) -> Neighborhood | None.
operators = Registry(
    "operator",
    "nco.operators",
    Entry(
        "mutation",
        "nco.mip.neighborhoods.mutation:mutation",
        "free random columns",
    ),
    Entry(
        "crossover",
        "nco.mip.neighborhoods.crossover:crossover",
        "free where good solutions differ",
    ),
    Entry(
        "rins",
        "nco.mip.neighborhoods.rins:rins",
        "free where the relaxation differs",
    ),
    Entry(
        "rens",
        "nco.mip.neighborhoods.rens:rens",
        "round the relaxation either way",
    ),
    Entry(
        "dins",
        "nco.mip.neighborhoods.dins:dins",
        "no farther from the relaxation",
    ),
    Entry(
        "local-branching",
        "nco.mip.neighborhoods.local_branching:local_branching",
        "a ball around the solution",
    ),
    Entry(
        "proximity",
        "nco.mip.neighborhoods.proximity:proximity",
        "the nearest better solution",
    ),
    Entry(
        "random-objective",
        "nco.mip.neighborhoods.random_objective:random_objective",
        "another solution as good",
    ),
    Entry(
        "lb-relax",
        "nco.mip.neighborhoods.lb_relax:lb_relax",
        "local branching's relaxation says what to free",
    ),
    Entry(
        "variable-patch",
        "nco.mip.neighborhoods.patch:variable_patch",
        "a connected patch of columns",
    ),
    Entry(
        "constraint-patch",
        "nco.mip.neighborhoods.constraint_patch:constraint_patch",
        "the columns of tight rows",
    ),
    Entry(
        "objective-guided",
        "nco.mip.neighborhoods.objective_guided:objective_guided",
        "the columns that cost most",
    ),
    Entry(
        "structure",
        "nco.mip.neighborhoods.structure:structure",
        "related customers, items or edges",
    ),
)
backends = Registry(
    "backend",
    "nco.backends",
    Entry("scip", "nco.mip.scip:ScipEngine", "SCIP", "pyscipopt"),
    Entry("highs", "nco.mip.highs:HighsEngine", "HiGHS", "highspy"),
)
policies = Registry("policy", "nco.policies")
dividers = Registry("divider", "nco.dividers")
sets = Registry(
    "set",
    "nco.sets",
    Entry("box", "nco.robust.uncertainty:Box", "bounds of every entry"),
    Entry("budget", "nco.robust.uncertainty:BudgetSet", "few entries deviate at a time"),
    Entry("polyhedron", "nco.robust.uncertainty:Polyhedron", "rows and bounds"),
    Entry("ellipsoid", "nco.robust.uncertainty:Ellipsoid", "near a centre"),
    Entry("scenarios", "nco.robust.uncertainty:FiniteScenarios", "listed one by one"),
    Entry("factors", "nco.robust.uncertainty:FactorModel", "few factors move all entries"),
    Entry("product", "nco.robust.uncertainty:Product", "of sets, each of its own entries"),
    Entry("intersection", "nco.robust.uncertainty:Intersection", "of sets of the same entries"),
)
