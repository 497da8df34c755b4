"""Methods that may start from a network's scenarios: what learning adds, at equal time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nco.instances.core import Instance
from nco.robust.neur2ro import Neur2RO, load_modules
from nco.robust.search import RobustSolver, Search


@dataclass(frozen=True)
class LearnedStart(RobustSolver):
    """The base of methods that ``neur2ro`` may give scenarios and a first stage.

    Parameters
    ----------
    backend
        MIP engine: ``highs`` or ``scip``.
    learned
        Share of the time for ``neur2ro``, from whose scenarios and best first stage the method
        starts; 0 for none.
    weights
        The network's weights, as ``neur2ro`` takes them.

    Raises
    ------
    ValueError
        When the share is not within 0 and 1.
    """

    learned: float = 0.0
    weights: str = ""

    def __post_init__(self) -> None:
        """Validate."""
        if not 0.0 <= self.learned < 1.0:
            raise ValueError(f"learned = {self.learned} not understood; give 0 <= learned < 1.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        return super().supports(instance) or (
            Neur2RO(weights=self.weights).supports(instance) if self.learned else None
        )

    def loads(self) -> Callable[[], object] | None:
        """The network's modules, if it is asked."""
        return load_modules if self.learned else None

    def begin(self, search: Search) -> None:
        """Evaluate doing nothing, and then keep what the network proposes."""
        search.trivial()
        if not self.learned:
            return
        begun = search.budget.elapsed()
        scenarios, best = Neur2RO(weights=self.weights).scenarios_for(
            search.tracker.instance, search.budget.share(self.learned), seed=search.tracker.seed
        )
        for xi in scenarios:
            search.keep(xi)
        if best is not None:
            search.evaluate(best.x, Neur2RO.name)
        search.log(Neur2RO.name, begun)
