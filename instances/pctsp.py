"""The prize-collecting travelling salesman problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from numpy.typing import NDArray

from nco.instances import routing
from nco.instances.subset_tour import SubsetTour, prize_collecting

if TYPE_CHECKING:
    from nco.instances.mip import MipView


@dataclass(frozen=True, eq=False, kw_only=True)
class PCTSP(SubsetTour):
    """Collect a minimum prize; pay the tour's length and the penalties of those left out.

    E. Balas, The prize collecting traveling salesman problem, Networks 19 (1989). A
    solution lists the visited customers in visiting order, without the depot.

    Parameters
    ----------
    prizes
        Prize of every node [n + 1]; the depot's is 0.
    penalties
        Penalty for leaving a node out [n + 1]; the depot's is 0.
    min_prize
        Prize that must be collected.

    Raises
    ------
    ValueError
        As `SpatialInstance`, and when prizes or penalties are negative or miss a node, or
        all prizes together are less than the minimum.
    """

    problem: ClassVar[str] = "pctsp"

    prizes: NDArray[Any]
    penalties: NDArray[Any]
    min_prize: float = 1.0

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        self._freeze("prizes")
        self._freeze("penalties")
        self._limit("min_prize")
        most = self.total(self.prizes, slice(None))
        if most < self.min_prize * (1 - 1e-12):
            raise ValueError(f"all prizes give {most} < min_prize {self.min_prize}.")

    def objective(self, solution: list[int]) -> float:
        """Length of the tour plus the penalties of customers left out."""
        return self.collecting_cost(solution, self.penalties)

    def violations(self, solution: list[int]) -> list[str]:
        """Customers repeated or unknown; too little prize."""
        return super().violations(solution) or self.prize_violations(
            solution, self.prizes, self.min_prize
        )

    def to_routing(self) -> routing.RoutingView:
        """One route; leaving a customer out costs its penalty."""
        return routing.RoutingView(
            distances=self.distances,
            encode=routing.single,
            decode=routing.flat,
            skip_costs=self.penalties,
            prizes=self.prizes,
            min_prize=self.min_prize,
        )

    def to_mip(self, start: list[int] | None = None) -> MipView:
        """The tour as a MIP, single-commodity flow; see `nco.instances.subset_flow`."""
        from nco.instances.subset_flow import subset_view

        return subset_view(self, start)

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """Random points, prizes and penalties by `nco.instances.subset_tour.prize_collecting`.

        The minimum prize is 1, or all there is where few customers have less.
        """
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        fields = prize_collecting(n, rng, distribution, **options)
        return cls(
            **fields,
            min_prize=min(1.0, float(fields["prizes"].sum())),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
