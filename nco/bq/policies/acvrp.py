"""BQ policy of capacitated vehicle routing problems that are given by a cost matrix.

States and actions are those of the CVRP; pairs of nodes are seen, not places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.imitation import LoadsTeacher, RoutesCut, uniform_int, whole_weights
from nco.bq.matrix import FAR, MatrixFrame, frame
from nco.bq.policies.cvrp import LoadsPolicy, nearest_of_routes, random_step
from nco.bq.state import Fields, State

#: Savings beyond this, in mean ways to the depot, are all alike.
MOST = 4.0


@dataclass(frozen=True)
class ACVRPPolicy(MatrixFrame, LoadsPolicy):
    """States, features and steps of the CVRP with a cost matrix, symmetric or not.

    To what `MatrixFrame` shows of pairs, their savings are added (Clarke and Wright, 1964):
    what it costs less to go from one to the other than home and out again. They say when
    the way via the depot pays, which reduced costs do not.
    """

    name = "acvrp"
    directed = True
    #: What it reads of an instance.
    fields = ("matrix", "demands", "capacity")
    edge_dim = MatrixFrame.edge_dim + 2
    node_dim = MatrixFrame.node_dim + 5
    #: All begin at the depot.
    views = 1

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: at the depot with a full vehicle. All views are alike.

        Parameters
        ----------
        fields
            ``matrix`` [b, n + 1, n + 1], ``demands`` [b, n + 1], ``capacity`` [b].
        view
            Without effect.
        """
        b, rows = fields["demands"].shape
        device = fields["demands"].device
        return self.substate(fields, torch.arange(1, rows, device=device).expand(b, -1))

    def substate(self, fields: Fields, customers: Tensor, owner: Tensor | None = None) -> State:
        """As `LoadsPolicy.substate`."""
        owner = torch.arange(len(customers), device=customers.device) if owner is None else owner
        demands, capacity = whole_weights(fields["demands"], fields["capacity"])
        index = F.pad(customers, (2, 0))
        return State(
            demands[owner[:, None], index.clamp_min(0)][..., None],
            index,
            capacity[owner, None].expand(-1, 2),
            dense=bool((customers >= 0).all()),
            dist=fields["matrix"].float(),
            owner=owner,
        )

    def features(self, state: State) -> Tensor:
        """How many nodes remain, demand, load left, whether it fits, and the ways to the depot."""
        filled = (state.index >= 0).float()[..., None]
        out, home, mean = depot_ways(state)
        ways = (torch.stack([out, home], 2) / mean[..., None]).clamp(0.0, FAR).log1p()
        return torch.cat([super().features(state), self.loads(state) * filled, ways * filled], 2)

    def edges(self, state: State) -> Tensor:
        """Reduced costs, shares and savings of all pairs of rows [b, n, n, edge_dim]."""
        index = state.index
        filled = index >= 0
        with torch.no_grad(), torch.autocast(index.device.type, enabled=False):
            costs = state.costs(index[:, :, None], index[:, None, :])
            out, home, mean = depot_ways(state)
            saving = (home[:, :, None] + out[:, None, :] - costs) / mean[..., None]
            apart = filled[:, :, None] & filled[:, None, :]
            apart &= index[:, :, None] != index[:, None, :]
            saving = saving.clamp(-MOST, MOST) * apart
            shown = torch.stack([saving, saving.transpose(1, 2)], 3)
            return torch.cat([frame(costs, filled, self.rounds), shown], 3)

    def moves(self, state: State, row: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `LoadsPolicy.moves`."""
        chosen = state.index.gather(1, row[:, None])
        here, depot = state.index[:, :1], state.index[:, 1:2]
        ends = ((here, chosen), (here, depot), (depot, chosen), (chosen, depot))
        direct, back, out, home = (ways(state, a, b)[:, 0] for a, b in ends)
        return direct, back, out, home

    def nearness(self, state: State) -> Tensor:
        """Minus the cost from the current node."""
        return -state.costs(state.index[:, :1], state.index)

    def legs(
        self, fields: Fields, node: Tensor, owner: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `LoadsPolicy.legs`."""
        matrix = fields["matrix"]
        owner = torch.arange(len(node), device=node.device) if owner is None else owner
        depot, before = torch.zeros_like(node), F.pad(node[:, :-1], (1, 0))

        def way(begin: Tensor, end: Tensor) -> Tensor:
            return matrix[owner[:, None], begin, end].double().masked_fill(begin == end, 0.0)

        return way(depot, node), way(node, depot), way(before, node)

    def ranks(
        self,
        fields: Fields,
        actions: Tensor,
        route: Tensor,
        count: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, bool]:
        """As `RoutesPolicy.ranks`, by the cost of the way to a random customer and back."""
        known = actions >= 0
        node = torch.where(known, actions // 2, 0)
        here = node.gather(1, random_step(known, generator))
        which = torch.arange(len(node), device=node.device)[:, None]
        matrix = fields["matrix"]
        far = matrix[which, here, node].double() + matrix[which, node, here].double()
        return nearest_of_routes(far.masked_fill(~known, torch.inf), route), False


def ways(state: State, begin: Tensor, end: Tensor) -> Tensor:
    """Costs from nodes to nodes, both [b, m] or [b, 1]; 0 from a node to itself."""
    return state.costs(begin, end).masked_fill(begin == end, 0.0)


def depot_ways(state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Costs [b, n] from the depot to all rows and back, and their mean [b, 1]."""
    index, depot = state.index, state.index[:, 1:2]
    empty = index < 0
    out, home = (
        ways(state, a, b).masked_fill(empty, 0.0) for a, b in ((depot, index), (index, depot))
    )
    count = (~empty).sum(1, keepdim=True)
    return out, home, ((out + home).sum(1, keepdim=True) / (2 * count)).clamp_min(1e-30)


@dataclass(frozen=True)
class ACVRPTeacher(LoadsTeacher):
    """As `LoadsTeacher`; states hold their own part of the matrix.

    In half of the examples the matrix is transposed, with all routes turned round.
    """

    directed = True

    def __post_init__(self) -> None:
        """Validate."""
        if self.order != "fullest":
            raise ValueError(f"order {self.order!r} needs coordinates; fullest.")

    def flips(self, route: Tensor, augment: bool, generator: torch.Generator) -> Tensor:
        """All routes of an example, or none."""
        drawn = uniform_int(0, int(augment), len(route), generator)
        return (drawn == 1)[:, None].expand_as(route)

    def away(self, fields: Fields, cut: RoutesCut, current: Tensor) -> Tensor:
        """Costs [size, n] of the customers in route order from the nodes [size, 1]."""
        matrix, which = fields["matrix"], cut.which[:, None]
        there, back = matrix[which, current, cut.tour], matrix[which, cut.tour, current]
        return torch.where(cut.flip, back, there).double()

    def state(
        self,
        fields: Fields,
        cut: RoutesCut,
        index: Tensor,
        augment: bool,
        generator: torch.Generator,
    ) -> State:
        """The states with the nodes [size, m] as their rows; the depot stays number 0."""
        node = torch.cat([index[:, 1:2], index[:, :1], index[:, 2:]], 1)
        dist = fields["matrix"][cut.which[:, None, None], node[:, :, None], node[:, None, :]]
        dist = torch.where(cut.flip[:, :1, None], dist.transpose(1, 2), dist).float()
        number = torch.arange(index.shape[1], device=index.device).expand_as(index)
        current = (index[:, :1] != 0).long()
        number = torch.cat([current, torch.zeros_like(current), number[:, 2:]], 1)
        demands = fields["demands"][cut.which].gather(1, index).float()[..., None]
        owner = torch.arange(len(index), device=index.device)
        return State(demands, number, self.scalars(fields, cut), dist=dist, owner=owner)

    def cost(self, fields: Fields) -> Tensor:
        """Costs [N] of the labels' routes, in float64."""
        return ACVRPPolicy().cost(fields, self.actions(fields))


POLICY = ACVRPPolicy
TEACHER = ACVRPTeacher
