"""BQ policy of the capacitated vehicle routing problem.

A state is what the current vehicle and its successors still have to serve: row 0 is the
current node, row 1 the depot. A customer is reached directly or via the depot, which
begins a new route.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.imitation import CVRPTeacher, whole_weights
from nco.bq.plane import PlaneFrame, dihedral, points_of, unit_box
from nco.bq.recombine import Routes, regrouped
from nco.bq.state import Cut, Fields, State, gather_parts, places_of

#: Columns of states in the plane that have no fixed ways.
PLAIN = 3
#: Solutions of so many groups at most are cut around one customer at a time.
FEW_GROUPS = 4


def along_strips(centre: Tensor, count: Tensor, size: int, turn: Tensor) -> Tensor:
    """Ranks [b, m] of routes along strips of the plane, every second one backwards.

    Strips hold like shares of the customers, and are about as wide as a group is long.

    Parameters
    ----------
    centre, count
        Centres of the routes [b, m, 2], and their customers [b, m]; those without do not matter.
    size
        Customers in a group.
    turn
        Share of a full turn of the plane [b, 1].
    """
    angle = 2 * torch.pi * turn
    x = centre[..., 0] * angle.cos() - centre[..., 1] * angle.sin()
    y = centre[..., 0] * angle.sin() + centre[..., 1] * angle.cos()
    total = count.sum(1, keepdim=True)
    strips = (total / size).sqrt().round().long().clamp_min(1)
    order = x.masked_fill(count == 0, torch.inf).argsort(1)
    before = count.gather(1, order)
    before = before.cumsum(1) - before
    strip = torch.empty_like(order).scatter_(1, order, before * strips // total.clamp_min(1))
    low = y.masked_fill(count == 0, torch.inf).amin(1, keepdim=True)
    high = y.masked_fill(count == 0, -torch.inf).amax(1, keepdim=True)
    share = (y - low) / (high - low).clamp_min(1e-300) * 0.999
    return strip + torch.where(strip % 2 == 1, 0.999 - share, share)


class RoutesPolicy:
    """What policies of routes from one depot through all customers share.

    Row 0 is the current node, row 1 the depot. Unless another way is given, columns 0 and 1
    of the nodes are coordinates.
    """

    markers = 2
    #: Directly, or via the depot.
    actions_per_node = 2

    @abstractmethod
    def sizes(self, fields: Fields, routes: Sequence[Sequence[int]]) -> list[float]:
        """By what routes of one instance are taught in falling order."""

    def nearness(self, state: State) -> Tensor:
        """Minus the squared distance from the current node."""
        d = state.nodes[..., :2] - state.nodes[:, :1, :2]
        return -(d * d).sum(2)

    def record(self, start: State, actions: Tensor) -> Tensor:
        """All views begin alike."""
        return actions

    def solution(self, actions: Sequence[int]) -> list[list[int]]:
        """The routes."""
        routes: list[list[int]] = []
        for action in actions:
            if action < 0:
                continue
            if action % 2 or not routes:
                routes.append([])
            routes[-1].append(int(action) // 2)
        return routes

    def actions(self, fields: Fields, solution: Sequence[Sequence[int]]) -> Tensor:
        """The routes in the order in which they are taught: the largest first."""
        routes = [list(route) for route in solution if route]
        sizes = self.sizes(fields, routes)
        order = sorted(range(len(routes)), key=lambda i: -sizes[i])
        return torch.as_tensor(
            [2 * node + (place == 0) for i in order for place, node in enumerate(routes[i])],
            dtype=torch.int64,
        )

    def groups(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Groups of whole routes with about ``size`` customers together.

        Routes are in the order of `ranks`.

        Returns
        -------
        The solution of every group [parts], the group's actions [parts, m] and their places
        in the solution [parts, m], both filled up with -1.
        """
        b, steps = actions.shape
        device = actions.device
        known = actions >= 0
        begins = known & (actions % 2 == 1)
        route = (begins.long().cumsum(1) - 1).clamp_min(0)
        count = torch.zeros(b, steps, device=device, dtype=torch.int64)
        count = count.scatter_add_(1, route, known.long())
        rank, every = self.ranks(fields, actions, route, count, size, generator)
        # Routes in that order, cut where the customers so far pass a multiple of the size.
        order = rank.masked_fill(count == 0, torch.inf).argsort(1)
        sizes = count.gather(1, order)
        group = (sizes.cumsum(1) - sizes) // size
        group = torch.empty_like(group).scatter_(1, order, group).gather(1, route)
        group = group.masked_fill(~known, -1)
        if not every:
            group = group.masked_fill(group > 0, -1)
        number, place = gather_parts(group, steps)
        owner = number // steps
        taken = actions[owner[:, None], place.clamp_min(0)].masked_fill(place < 0, -1)
        return owner, taken, place

    def ranks(
        self,
        fields: Fields,
        actions: Tensor,
        route: Tensor,
        count: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, bool]:
        """Ranks [b, steps] of routes, those of neighbours alike, and whether to cut all of them.

        Routes are ranked around the depot from a random angle, and all of them are cut into
        groups of neighbours. Else, where there would be few groups, they are ranked by their
        distance from a random customer, and the nearest group is cut out; where there are
        many, they are ranked along strips of the turned plane, to and fro.

        Parameters
        ----------
        route, count
            The route of every action, and the customers of every route [b, steps].
        """
        b, steps = actions.shape
        device = actions.device
        known = actions >= 0
        node = torch.where(known, actions // 2, 0)
        points = points_of(fields, node)
        depot = points_of(fields, torch.zeros_like(node[:, :1]))
        around = bool(torch.rand((), generator=generator, device=device) < 0.5)
        few = steps <= FEW_GROUPS * size
        if around or not few:
            centre = torch.zeros(b, steps, 2, dtype=points.dtype, device=device)
            wide = route[..., None].expand(-1, -1, 2)
            centre = centre.scatter_add_(1, wide, (points - depot) * known[..., None])
            turn = torch.rand(b, 1, generator=generator, device=device, dtype=points.dtype)
            if around:
                angle = torch.atan2(centre[..., 1], centre[..., 0])
                rank = torch.remainder(angle / (2 * torch.pi) + turn, 1.0)
            else:
                centre = centre / count.clamp_min(1)[..., None]
                rank = along_strips(centre, count, size, turn)
        else:
            chosen = random_step(known, generator)
            here = points.gather(1, chosen[..., None].expand(-1, -1, 2))
            far = torch.linalg.vector_norm(points - here, dim=2)
            rank = nearest_of_routes(far.masked_fill(~known, torch.inf), route)
        return rank, around or not few

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """What is made of new groups before they are compared with the old ones: themselves."""
        return new

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Solutions with the better groups of routes put in; groups stay together at the end."""
        b, steps = actions.shape
        keep = torch.ones(b, steps + 1, dtype=torch.bool, device=actions.device)
        take = better[:, None] & (cut.place >= 0)
        at = torch.where(take, cut.place, steps)
        keep[cut.owner[:, None].expand_as(at), at] = False
        old = actions.masked_fill(~keep[:, :steps], -1)
        parts = new.masked_fill(~better[:, None], -1)
        # Every solution's new parts beside each other, then all known actions to the front.
        groups = int(torch.bincount(cut.owner, minlength=b).max())
        slot = torch.arange(len(cut.owner), device=actions.device)
        slot = slot - torch.searchsorted(cut.owner, cut.owner)
        grid = actions.new_full((b, groups, parts.shape[1]), -1)
        grid[cut.owner, slot] = parts
        together = torch.cat([old, grid.flatten(1)], 1)
        order = (together < 0).to(torch.int8).argsort(dim=1, stable=True)[:, :steps]
        return together.gather(1, order)


def random_step(known: Tensor, generator: torch.Generator) -> Tensor:
    """One step [b, 1] of every solution, at random among those that are known [b, steps]."""
    noise = torch.rand(known.shape, generator=generator, device=known.device)
    return (noise * known).argmax(1, keepdim=True)


def nearest_of_routes(far: Tensor, route: Tensor) -> Tensor:
    """The least distance [b, steps] of every route's customers [b, steps]."""
    return torch.full_like(far, torch.inf).scatter_reduce_(1, route, far, "amin")


class LoadsPolicy(RoutesPolicy):
    """What policies of the CVRP share, however its legs are measured.

    The last column of the nodes is the demand; scalars are the load left and the capacity.
    """

    #: Whether the way back to the depot costs nothing.
    open = False
    #: Whether ways between customers may not be turned round.
    directed = False
    #: As in `nco.bq.decoding.Conqueror`: no part changes without becoming shorter.
    once = True

    @abstractmethod
    def substate(self, fields: Fields, customers: Tensor, owner: Tensor | None = None) -> State:
        """Sub-instances of some customers, from the depot with a full vehicle.

        Parameters
        ----------
        fields
            As for `start`.
        customers
            Their numbers [parts, m], filled up with -1.
        owner
            Instance of each part [parts]; None for one part per instance, in order.
        """

    @abstractmethod
    def moves(self, state: State, row: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ways [b] from here to rows [b], from here home, out to the rows, and home from them."""

    @abstractmethod
    def legs(
        self, fields: Fields, node: Tensor, owner: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ways [b, m] from the depot to the nodes [b, m], back, and to each from the one before.

        In float64; the depot is before the first one.
        """

    def loads(self, state: State) -> Tensor:
        """Features [b, n, 3]: demand, load left, and whether it fits."""
        left, capacity = state.scalar[:, None, :1], state.scalar[:, None, 1:].clamp_min(1.0)
        demand = state.nodes[..., -1:]
        return torch.cat(
            [demand / capacity, (left / capacity).expand_as(demand), (demand <= left).float()], 2
        )

    def mask(self, state: State) -> Tensor:
        """Via the depot always; directly where the demand fits and a route has begun."""
        candidate = state.index >= 0
        candidate[:, : self.markers] = False
        begun = state.index[:, :1] != 0
        direct = candidate & (state.nodes[..., -1] <= state.scalar[:, :1]) & begun
        return torch.stack([direct, candidate], 2).flatten(1)

    def step(self, state: State, action: Tensor) -> State:
        """Serve the chosen customers [b]."""
        row, via = action // 2, action % 2 == 1
        demand = state.nodes[..., -1].gather(1, row[:, None])
        left, capacity = state.scalar[:, :1], state.scalar[:, 1:]
        left = torch.where(via[:, None], capacity, left) - demand
        return replace(state.visit(row), scalar=torch.cat([left, capacity], 1))

    def price(self, state: State, action: Tensor) -> Tensor:
        """Length of the moves [b]; the last one includes the way home."""
        row, via = action // 2, action % 2 == 1
        direct, back, out, home = self.moves(state, row)
        if self.open:
            return torch.where(via, out, direct)
        length = torch.where(via, back + out, direct)
        last = (state.index >= 0).sum(1) == self.markers + 1
        return length + last * home

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Total route lengths [b]."""
        return self.length(fields, actions)

    def length(self, fields: Fields, actions: Tensor, owner: Tensor | None = None) -> Tensor:
        """Total lengths [b] of routes of the owners' instances."""
        known = actions >= 0
        via = known & (actions % 2 == 1)
        out, home, direct = self.legs(fields, torch.where(known, actions // 2, 0), owner)
        if self.open:
            return (torch.where(via, out, direct) * known).sum(1)
        before = torch.cat([torch.zeros_like(home[:, :1]), home[:, :-1]], 1)
        # What is filled up stands at the depot: the first such step is the way home.
        return torch.where(via, before + out, direct).sum(1) + home[:, -1]

    def sizes(self, fields: Fields, routes: Sequence[Sequence[int]]) -> list[float]:
        """Their loads."""
        demands = fields["demands"][0].double()
        return [float(demands[route].sum()) for route in routes]

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """As `RoutesPolicy.groups`."""
        owner, taken, place = self.groups(fields, actions, size, generator)
        state = self.substate(fields, torch.where(taken >= 0, taken // 2, -1), owner)
        return Cut(state, owner, self.length(fields, taken, owner), place, taken)

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new routes."""
        return self.length(fields, new, cut.owner)

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """The new routes with those changes only that pay, see `nco.bq.recombine`."""
        old = cut.old
        assert old is not None
        m = old.shape[1]
        new = F.pad(new, (0, m - new.shape[1]), value=-1)
        # Of what is filled up, each has a number of its own.
        nodes = torch.where(old < 0, -1 - torch.arange(m, device=old.device), old // 2)
        routes = []
        for actions in (old, new):
            known = actions >= 0
            node = torch.where(known, actions // 2, 0)
            out, home, direct = self.legs(fields, node, cut.owner)
            first = known & (actions % 2 == 1)
            place = places_of(node, nodes)[0].masked_fill(~known, -1)
            way = torch.where(first, out, direct)
            routes.append(Routes(place, first, way, torch.zeros_like(home) if self.open else home))
        # As the instance has them: states have demands rounded up.
        demands = fields["demands"].double()[cut.owner[:, None], nodes.clamp_min(0)]
        load, capacity = demands.masked_fill(old < 0, 0.0), fields["capacity"].double()[cut.owner]
        place, first = regrouped(routes[0], routes[1], load, capacity, self.open, self.directed)
        node = nodes.gather(1, place)
        return torch.where(node < 0, -1, 2 * node + first.long())


@dataclass(frozen=True)
class CVRPPolicy(PlaneFrame, LoadsPolicy):
    """States, features and steps of the CVRP with coordinates.

    Parameters
    ----------
    ways
        Show where fixed ways lead, in states of `nco.bq.route_regions`.
    """

    ways: bool = False

    name = "cvrp"
    #: What it reads of an instance.
    fields = ("coords", "demands", "capacity")

    @property
    def node_dim(self) -> int:
        """Features per row."""
        shown = super().node_dim
        return shown + 3 + (shown + 1 if self.ways else 0)

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: at the depot with a full vehicle.

        Parameters
        ----------
        fields
            ``coords`` [b, n + 1, 2], ``demands`` [b, n + 1], ``capacity`` [b].
        view
            Number of a symmetry of the square under which the plane is seen.
        """
        coords = dihedral(unit_box(fields["coords"]), view)
        demands, capacity = whole_weights(fields["demands"], fields["capacity"])
        b, rows = demands.shape
        index = torch.arange(rows, device=coords.device).expand(b, rows)
        nodes = torch.cat([coords, demands[..., None]], 2)
        return State(
            nodes=torch.cat([nodes[:, :1], nodes], 1),
            index=torch.cat([index[:, :1], index], 1),
            scalar=capacity[:, None].expand(-1, 2),
        )

    def features(self, state: State) -> Tensor:
        """Coordinates in the frame of vehicle and depot, demand, load left, and whether it fits."""
        points, filled = state.nodes[..., :2], state.index >= 0
        loads = self.loads(state) * filled[..., None]
        if not self.ways:
            return torch.cat([self.see(points, filled), loads], 2)
        tied = state.nodes.shape[2] > PLAIN
        others, link = (state.nodes[..., 2:4], state.nodes[..., 4]) if tied else (None, None)
        leads = None if link is None else link > 0
        seen, beyond = self.see_ways(points, filled, others, leads)
        return torch.cat([seen, loads, beyond], 2)

    def moves(self, state: State, row: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `LoadsPolicy.moves`; the same there and back."""
        points = state.nodes[..., :2]
        chosen = points.gather(1, row[:, None, None].expand(-1, -1, 2))[:, 0]
        here, depot = points[:, 0], points[:, 1]
        norm = torch.linalg.vector_norm
        home = norm(chosen - depot, dim=1)
        return norm(chosen - here, dim=1), norm(here - depot, dim=1), home, home

    def substate(self, fields: Fields, customers: Tensor, owner: Tensor | None = None) -> State:
        """As `LoadsPolicy.substate`."""
        owner = torch.arange(len(customers), device=customers.device) if owner is None else owner
        demands, capacity = whole_weights(fields["demands"], fields["capacity"])
        index = torch.nn.functional.pad(customers, (2, 0))
        at = index.clamp_min(0)
        points = points_of(fields, at, owner)
        # Float32 relative to the depot holds far-away coordinates.
        points = (points - points[:, 1:2]).float()
        nodes = torch.cat([points, demands[owner[:, None], at][..., None]], 2)
        return State(
            nodes, index, capacity[owner, None].expand(-1, 2), dense=bool((customers >= 0).all())
        )

    def legs(
        self, fields: Fields, node: Tensor, owner: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `LoadsPolicy.legs`; the same there and back."""
        points = points_of(fields, node, owner)
        depot = points_of(fields, torch.zeros_like(node[:, :1]), owner)
        home = torch.linalg.vector_norm(points - depot, dim=2)
        direct = torch.cat([home[:, :1], torch.linalg.vector_norm(points.diff(dim=1), dim=2)], 1)
        return home, home, direct


POLICY = CVRPPolicy
TEACHER = CVRPTeacher
