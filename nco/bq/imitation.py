"""Training examples from solved instances.

Any contiguous part of an optimal solution is an optimal solution of the sub-instance
that it decides (BQ-NCO, section 3). An example is such a part, cut anywhere, in either
direction, whole solutions included, so that the first decision is trained too. Batches
are made by tensor operations on the training device.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.state import Fields, State


@dataclass(frozen=True)
class Examples:
    """States of equal width with what an expert did in them.

    Parameters
    ----------
    state
        The sub-instances.
    target
        Share of every action [b, n * actions_per_node]; rows sum to 1, or to 0 where the
        expert's action was not among the rows looked at.
    position
        Place of every row in the expert's solution [b, n], or None; rows whose places
        differ by one are linked there.
    directed
        Whether links lead from a place to the next one only, and are not taught backwards.
    """

    state: State
    target: Tensor
    position: Tensor | None = None
    directed: bool = False


class Teacher(Protocol):
    """The training side of a policy."""

    def prepare(self, fields: Fields) -> Fields:
        """Labels as `examples` wants them, once per run."""
        ...

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """A batch of examples drawn from solved instances.

        Parameters
        ----------
        fields
            Arrays of all solved instances, their solutions included.
        size
            Number of examples.
        k
            Largest number of candidates; the nearest are kept.
        augment
            Whether to turn and flip the plane at random.
        generator
            Source of the randomness on the device of the fields.
        host
            Source of the numbers that decide shapes, so that no device is waited for.
        """
        ...

    def cost(self, fields: Fields) -> Tensor:
        """Objective to be minimised [N] of the solutions in the fields, in float64."""
        ...

    def actions(self, fields: Fields) -> Tensor:
        """The solutions in the fields as recorded actions [N, steps]."""
        ...

    def labels(self, fields: Fields, actions: Tensor) -> dict[str, Tensor]:
        """Recorded actions [N, steps] as the solutions' arrays, of the shapes of a label file."""
        ...


def uniform_int(low: int, high: int, size: int, generator: torch.Generator) -> Tensor:
    """Integers [size] in ``low..high``, both included."""
    return torch.randint(low, high + 1, (size,), generator=generator, device=generator.device)


def random_isometry(points: Tensor, generator: torch.Generator) -> Tensor:
    """Points [b, n, 2] turned and flipped at random about the centre of the unit box."""
    b = len(points)
    angle = 2 * torch.pi * torch.rand(b, 1, generator=generator, device=points.device)
    sign = 1.0 - 2.0 * uniform_int(0, 1, b, generator)[:, None].to(points.dtype)
    x, y = points[..., 0] - 0.5, (points[..., 1] - 0.5) * sign
    return torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], 2)


def tour_actions(tour: Tensor) -> Tensor:
    """The nodes [b, n - 1] after node 0 of tours [b, n], in their order."""
    n = tour.shape[1]
    zero = (tour == 0).int().argmax(1, keepdim=True)
    return tour.gather(1, (zero + torch.arange(1, n, device=tour.device)) % n)


def members(actions: Tensor, n: int) -> Tensor:
    """Which of n items are among recorded actions [b, steps], as truth values [b, n]."""
    out = torch.zeros(len(actions), n + 1, dtype=torch.bool, device=actions.device)
    return out.scatter_(1, torch.where(actions >= 0, actions, n), True)[:, :n]


def deciding(fields: Fields, some: Tensor) -> Fields:
    """The labels [N] for which ``some`` [N] says that they decide anything.

    Raises
    ------
    ValueError
        When there is none.
    """
    if not bool(some.any()):
        raise ValueError("its labels leave nothing to decide.")
    return fields if bool(some.all()) else {k: v[some] for k, v in fields.items()}


class TourTeacher:
    """What the teachers of closed tours through all nodes share."""

    def prepare(self, fields: Fields) -> Fields:
        """Tours of at least three nodes."""
        return deciding(fields, (fields["tour"] > 1).any(1))

    def actions(self, fields: Fields) -> Tensor:
        """The tours from node 0 on, as recorded actions."""
        return tour_actions(fields["tour"].long())

    def labels(self, fields: Fields, actions: Tensor) -> dict[str, Tensor]:
        """Tours from node 0."""
        return {"tour": F.pad(actions, (1, 0))}


@dataclass(frozen=True)
class RegionsTaught:
    """What teachers share that also teach regions, to a policy that is shown ways.

    Parameters
    ----------
    regions
        Share of the micro-batches whose examples are regions (`nco.bq.regions`,
        `nco.bq.route_regions`).
    least, most
        Nodes of the parts that are regions; fewer where labels are small.

    Raises
    ------
    ValueError
        When a number makes no sense.
    """

    regions: float = 0.0
    least: int = 20
    most: int = 100

    def __post_init__(self) -> None:
        """Validate."""
        if not 0.0 <= self.regions <= 1.0:
            raise ValueError(f"regions = {self.regions} not understood; between 0 and 1.")
        if not 4 <= self.least <= self.most:
            raise ValueError(f"least = {self.least} not understood; 4 to most = {self.most}.")

    def part_size(self, host: torch.Generator) -> int:
        """Nodes of the part that the next micro-batch is of; 0 where it is of none."""
        if not self.regions or float(torch.rand((), generator=host)) >= self.regions:
            return 0
        return int(torch.randint(self.least, self.most + 1, (1,), generator=host))


@dataclass(frozen=True)
class TSPTeacher(RegionsTaught, TourTeacher):
    """Open paths cut from tours, and regions of them.

    Every micro-batch has one width: either all paths have the same number r of inner
    nodes, or every path has its own r > k, of which the k nearest to the current node
    are kept. Over batches, r is uniform in 2..n-1 as if drawn per example.
    """

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """As `Teacher.examples`; fields are ``coords`` [N, n, 2] and ``tour`` [N, n].

        Nothing is augmented in regions, which are cut from anywhere.
        """
        nodes = self.part_size(host)
        if nodes:
            from nco.bq.policies.tsp import TSPPolicy
            from nco.bq.regions import FREE, RegionPolicy, region_examples

            policy = RegionPolicy(TSPPolicy(ways=True), share=1.0, free=FREE)
            # There must be nodes beside the free ones.
            nodes = min(nodes, int((fields["tour"].shape[1] - 3) / FREE))
            return region_examples(policy, fields, size, k, nodes, generator)
        coords, tour = fields["coords"], fields["tour"]
        count, n = tour.shape
        device = coords.device
        which = uniform_int(0, count - 1, size, generator)
        begin = uniform_int(0, n - 1, size, generator)[:, None]
        way = 2 * uniform_int(0, 1, size, generator)[:, None] - 1
        r = int(torch.randint(2, n, (1,), generator=host))
        if r <= k:
            place = torch.arange(r + 2, device=device).expand(size, -1)
        else:
            place = torch.arange(n + 1, device=device).expand(size, -1)
        node = tour[which].long().gather(1, (begin + way * place) % n)
        points = coords[which].gather(1, node[..., None].expand(-1, -1, 2))
        if r > k:
            length = uniform_int(k + 1, n - 1, size, generator)[:, None]
            d = torch.linalg.vector_norm(points - points[:, :1], dim=2)
            d = d.masked_fill((place < 1) | (place > length), torch.inf)
            near = d.topk(k, dim=1, largest=False, sorted=False).indices.sort(1).values
            place = torch.cat([torch.zeros_like(length), near, length + 1], 1)
            node = node.gather(1, place)
            points = points.gather(1, place[..., None].expand(-1, -1, 2))
        if augment:
            points = random_isometry(points, generator)
        # Current node first, destination second, as in the policy's states.
        order = torch.arange(-1, node.shape[1] - 1, device=device)
        order[0], order[1] = 0, node.shape[1] - 1
        place = place[:, order]
        target = (place == 1).float()
        state = State(points[:, order], node[:, order], points.new_zeros(size, 0))
        return Examples(state, target, place)

    def cost(self, fields: Fields) -> Tensor:
        """Lengths [N] of the labels' tours, in float64."""
        points = fields["coords"].double()
        points = points.gather(1, fields["tour"].long()[..., None].expand(-1, -1, 2))
        return torch.linalg.vector_norm(points - points.roll(-1, 1), dim=2).sum(1)


@dataclass(frozen=True)
class ATSPTeacher(TourTeacher):
    """Open paths cut from tours of problems with a cost matrix.

    Shapes are drawn as by `TSPTeacher`. The states hold their own part of the matrix, in
    half of the examples transposed, with the path turned round.
    """

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """As `Teacher.examples`; fields are ``matrix`` [N, n, n] and ``tour`` [N, n].

        Augmentation is the transposition.
        """
        matrix, tour = fields["matrix"], fields["tour"]
        count, n = tour.shape
        device = matrix.device
        which = uniform_int(0, count - 1, size, generator)[:, None]
        begin = uniform_int(0, n - 1, size, generator)[:, None]
        flip = uniform_int(0, 1, size, generator)[:, None] * int(augment)
        r = int(torch.randint(2, n, (1,), generator=host))
        place = torch.arange(r + 2 if r <= k else n + 1, device=device).expand(size, -1)
        node = tour[which[:, 0]].long().gather(1, (begin + (1 - 2 * flip) * place) % n)
        if r > k:
            length = uniform_int(k + 1, n - 1, size, generator)[:, None]
            here = node[:, :1]
            d = torch.where(flip == 1, matrix[which, node, here], matrix[which, here, node])
            d = d.double().masked_fill((place < 1) | (place > length), torch.inf)
            near = d.topk(k, dim=1, largest=False, sorted=False).indices.sort(1).values
            place = torch.cat([torch.zeros_like(length), near, length + 1], 1)
            node = node.gather(1, place)
        # Current node first, destination second, as in the policy's states.
        m = node.shape[1]
        order = torch.arange(-1, m - 1, device=device)
        order[0], order[1] = 0, m - 1
        place, node = place[:, order], node[:, order]
        dist = matrix[which[..., None], node[:, :, None], node[:, None, :]].float()
        dist = torch.where(flip[..., None] == 1, dist.transpose(1, 2), dist)
        rows = torch.arange(m, device=device).expand(size, -1)
        owner = torch.arange(size, device=device)
        state = State(
            dist.new_zeros(size, m, 0), rows, dist.new_zeros(size, 0), dist=dist, owner=owner
        )
        return Examples(state, (place == 1).float(), place, directed=True)

    def cost(self, fields: Fields) -> Tensor:
        """Costs [N] of the labels' tours, in float64."""
        tour = fields["tour"].long()
        which = torch.arange(len(tour), device=tour.device)[:, None]
        return fields["matrix"][which, tour, tour.roll(-1, 1)].double().sum(1)


@dataclass(frozen=True)
class RoutesCut:
    """Routes in the order and direction of an example, and how many customers were served.

    Parameters
    ----------
    which
        Label of every example [size].
    tour, start
        Customers in route order, and where routes begin [size, n].
    first, last
        Places of the ends of the route around every place [size, n].
    flip
        Whether the route around every place is turned round [size, n].
    served
        Customers already served [size, 1].
    """

    which: Tensor
    tour: Tensor
    start: Tensor
    first: Tensor
    last: Tensor
    flip: Tensor
    served: Tensor


def visits(fields: Fields, cut: RoutesCut) -> Tensor:
    """Coordinates [size, n, 2] of the customers of examples in the order of their routes."""
    return fields["coords"][cut.which].gather(1, cut.tour[..., None].expand(-1, -1, 2))


def in_order(order: str, away: Tensor | None, size: Tensor, route: Tensor) -> Tensor:
    """Ranks [b, m] of the customers' routes in the order in which they are taught.

    Parameters
    ----------
    order
        As of `RoutesTeacher`.
    away
        Customers relative to the depot [b, m, 2]; for "sweep" only.
    size
        Sizes of their routes [b, m].
    route
        Their routes by number [b, m].
    """
    if order == "fullest":
        return -size.double()
    assert away is not None
    wide = route[..., None].expand(-1, -1, 2)
    away = torch.zeros_like(away).scatter_add_(1, wide, away).gather(1, wide)
    angle = torch.atan2(away[..., 1], away[..., 0])
    fullest = angle.gather(1, size.argmax(1, keepdim=True))
    return torch.remainder(angle - fullest, 2 * torch.pi)


def route_ends(begins: Tensor, route: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the first and the last customer of the route around every place [b, m].

    Parameters
    ----------
    begins, route
        Whether a route begins there, and its number.
    known
        Whether there is a customer.
    """
    place = torch.arange(begins.shape[1], device=begins.device).expand_as(route)
    first = torch.where(begins, place, 0).cummax(1).values
    length = torch.zeros_like(place).scatter_add_(1, route, known.long())
    return first, first + length.gather(1, route) - 1


@dataclass(frozen=True)
class RoutesTeacher:
    """What remains of a set of routes after some customers were served.

    The fields are those of `prepare`. Every example has its own route directions.

    Parameters
    ----------
    order
        Order of the routes. "fullest": by falling load, or length where there are no loads
        (BQ-NCO, section 5: arbitrary orders are about twice as bad). "sweep": around the
        depot, from the fullest on, so that what remains is one sector and the next route
        is a neighbour of the last.

    Raises
    ------
    ValueError
        When the order is unknown.
    """

    order: str = "fullest"

    #: Fields of one number per node that states hold beside the coordinates.
    values: ClassVar[tuple[str, ...]]
    #: Whether routes may not be turned round.
    directed = False

    def __post_init__(self) -> None:
        """Validate."""
        if self.order not in ("fullest", "sweep"):
            raise ValueError(f"order {self.order!r} not understood; fullest or sweep.")

    @abstractmethod
    def sizes(self, fields: Fields, tour: Tensor, start: Tensor) -> Tensor:
        """By what the route of every customer [N, n] takes its place in the order."""

    @abstractmethod
    def scalars(self, fields: Fields, cut: RoutesCut) -> Tensor:
        """Scalars of the states [size, s]."""

    @abstractmethod
    def cost(self, fields: Fields) -> Tensor:
        """As `Teacher.cost`."""

    def flips(self, route: Tensor, augment: bool, generator: torch.Generator) -> Tensor:
        """Which routes to turn round, at the places of their customers [size, n]."""
        drawn = torch.rand(route.shape, generator=generator, device=route.device)
        return (drawn.gather(1, route) < 0.5) & (not self.directed)

    def away(self, fields: Fields, cut: RoutesCut, current: Tensor) -> Tensor:
        """Distances [size, n] of the customers in route order from the nodes [size, 1]."""
        here = fields["coords"][cut.which].gather(1, current[..., None].expand(-1, -1, 2))
        return torch.linalg.vector_norm(visits(fields, cut) - here, dim=2)

    def state(
        self,
        fields: Fields,
        cut: RoutesCut,
        index: Tensor,
        augment: bool,
        generator: torch.Generator,
    ) -> State:
        """The states with the nodes [size, m] as their rows."""
        points = fields["coords"][cut.which]
        if augment:
            points = random_isometry(points, generator)
        columns = [points, *(fields[name][cut.which][..., None] for name in self.values)]
        nodes = torch.cat([column.float() for column in columns], 2)
        nodes = nodes.gather(1, index[..., None].expand(-1, -1, nodes.shape[2]))
        return State(nodes, index, self.scalars(fields, cut))

    def prepare(self, fields: Fields) -> dict[str, Tensor]:
        """Labels put in the order in which they are taught.

        Parameters
        ----------
        fields
            What the policy reads, such as ``coords`` [N, n + 1, 2], the customers in route
            order ``tour`` [N, n], and ``start`` [N, n], True where a route begins.
        """
        fields = deciding(fields, (fields["tour"] > 1).any(1))
        tour, start = fields["tour"].long(), fields["start"].bool()
        route = start.long().cumsum(1) - 1
        away = None
        if self.order == "sweep":
            coords = fields["coords"].double()
            away = coords.gather(1, tour[..., None].expand(-1, -1, 2)) - coords[:, :1]
        rank = in_order(self.order, away, self.sizes(fields, tour, start), route)
        # Stable: customers keep their order, and routes of equal rank are not mixed.
        order = rank.argsort(dim=1, stable=True)
        tour, start = tour.gather(1, order), start.gather(1, order)
        return {**fields, "tour": tour, "start": start}

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """As `Teacher.examples`, from the fields that `prepare` gave."""
        tour = fields["tour"]
        count, n = tour.shape
        device = tour.device
        which = uniform_int(0, count - 1, size, generator)
        tour, start = tour[which], fields["start"][which]
        place = torch.arange(n, device=device).expand(size, -1)
        # Ends of the route around every place, and the routes' own directions.
        route = start.long().cumsum(1) - 1
        first, last = route_ends(start, route, torch.ones_like(start))
        flip = self.flips(route, augment, generator)
        tour = tour.gather(1, torch.where(flip, first + last - place, place))
        # Customers already served; as for the TSP, one number per micro-batch where it
        # decides the shape, else one per example.
        remain = int(torch.randint(2, n + 1, (1,), generator=host))
        if remain <= k:
            served = torch.full((size, 1), n - remain, device=device)
            place = place[:, :remain] + served
        else:
            served = n - uniform_int(k + 1, n, size, generator)[:, None]
        cut = RoutesCut(which, tour, start, first, last, flip, served)
        current = torch.where(served == 0, 0, tour.gather(1, (served - 1).clamp_min(0)))
        if remain > k:
            d = self.away(fields, cut, current).masked_fill(place < served, torch.inf)
            place = d.topk(k, dim=1, largest=False, sorted=False).indices.sort(1).values
        node = tour.gather(1, place)
        index = torch.cat([current, torch.zeros_like(current), node], 1)
        state = self.state(fields, cut, index, augment, generator)
        next_one = (place == served).float()
        new_route = start.gather(1, place).float()
        target = torch.stack([next_one * (1 - new_route), next_one * new_route], 2)
        target = F.pad(target, (0, 0, 2, 0)).flatten(1)
        # A gap before every route, so that only links within routes are neighbours.
        spaced = torch.arange(n, device=device) + start.long().cumsum(1)
        at = served.clamp_max(n - 1)
        far = torch.full_like(current, -9)
        inside = (served > 0) & ~start.gather(1, at)
        before = torch.where(inside, spaced.gather(1, at) - 1, far)
        spaced = spaced.gather(1, place)
        position = torch.cat([before, far, spaced], 1)
        return Examples(state, target, position, directed=self.directed)

    def actions(self, fields: Fields) -> Tensor:
        """The customers in their order, with where routes begin."""
        return 2 * fields["tour"].long() + fields["start"].long()

    def labels(self, fields: Fields, actions: Tensor) -> dict[str, Tensor]:
        """Customers in route order, and where routes begin."""
        n = next(fields[k] for k in ("coords", "matrix") if k in fields).shape[1] - 1
        order = (actions < 0).to(torch.int8).argsort(dim=1, stable=True)[:, :n]
        actions = actions.gather(1, order)
        return {"tour": actions // 2, "start": actions % 2 == 1}


@dataclass(frozen=True)
class LoadsTeacher(RoutesTeacher):
    """What remains of a set of routes, with the load left of the current one."""

    values: ClassVar[tuple[str, ...]] = ("demands",)

    def sizes(self, fields: Fields, tour: Tensor, start: Tensor) -> Tensor:
        """Load of the route of every customer [N, n]."""
        demand = fields["demands"].gather(1, tour)
        route = start.long().cumsum(1) - 1
        return torch.zeros_like(demand).scatter_add_(1, route, demand).gather(1, route)

    def scalars(self, fields: Fields, cut: RoutesCut) -> Tensor:
        """Load left, and capacity."""
        demand = fields["demands"][cut.which].gather(1, cut.tour).float()
        capacity = fields["capacity"][cut.which].float()[:, None]
        # Load since the last route began, up to the customer served last.
        total = F.pad(demand.cumsum(1), (1, 0))
        back = cut.first.gather(1, (cut.served - 1).clamp_min(0))
        left = capacity - (total.gather(1, cut.served) - total.gather(1, back))
        left = torch.where(cut.served == 0, capacity, left)
        return torch.cat([left, capacity], 1)


@dataclass(frozen=True)
class CVRPTeacher(RegionsTaught, LoadsTeacher):
    """As `LoadsTeacher`, in the plane, and regions of routes."""

    #: Whether the way back to the depot costs nothing.
    open = False

    def __post_init__(self) -> None:
        """Validate."""
        RegionsTaught.__post_init__(self)
        LoadsTeacher.__post_init__(self)

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """As `RoutesTeacher.examples`; nothing is augmented in regions."""
        nodes = self.part_size(host)
        if not nodes:
            return super().examples(fields, size, k, augment, generator, host)
        from nco.bq.policies.cvrp import CVRPPolicy
        from nco.bq.route_regions import RouteRegions, route_region_examples

        policy = RouteRegions(CVRPPolicy(ways=True), share=1.0)
        return route_region_examples(policy, self, fields, size, k, nodes, generator)

    def cost(self, fields: Fields) -> Tensor:
        """Lengths [N] of the labels' routes, in float64."""
        points = fields["coords"].double()
        depot = points[:, :1]
        points = points.gather(1, fields["tour"].long()[..., None].expand(-1, -1, 2))
        home = torch.linalg.vector_norm(points - depot, dim=2)
        direct = torch.linalg.vector_norm(points[:, 1:] - points[:, :-1], dim=2)
        back = 0.0 if self.open else 1.0
        via = home[:, 1:] + back * home[:, :-1]
        legs = torch.where(fields["start"][:, 1:].bool(), via, direct)
        return home[:, 0] + legs.sum(1) + back * home[:, -1]


#: Numbers that are not whole are counted in this many units of the capacity.
UNITS = 2**23


def whole_weights(weights: Tensor, capacity: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [b, n] and capacities [b] as whole numbers that float32 adds exactly.

    Numbers that are not whole, or too large, are rounded up in units of the capacity, so
    that whatever fits afterwards fits before.
    """
    weights, capacity = weights.double(), capacity.double()
    exact = (weights == weights.round()).all(1) & (capacity < 2 * UNITS)
    unit = torch.where(exact | (capacity <= 0), 1.0, capacity / UNITS)[:, None]
    scaled = (weights / unit).ceil()
    # Weights above the capacity stay above it; an exact fit stays one.
    scaled = torch.where(weights <= capacity[:, None], scaled.clamp_max(UNITS), 4.0 * UNITS)
    limit = torch.where(exact, capacity.floor(), torch.where(capacity > 0, float(UNITS), 0.0))
    return torch.where(exact[:, None], weights, scaled).float(), limit.float()


def listed(chosen: Tensor) -> Tensor:
    """Truth values [b, n] as numbers of the true ones in order, filled up with -1."""
    order = (~chosen).to(torch.int8).argsort(dim=1, stable=True)[:, : int(chosen.sum(1).max())]
    return torch.where(chosen.gather(1, order), order, -1)


class SelectionTeacher:
    """What the teachers of selections of items share; labels are truth values ``chosen``."""

    #: The field that holds what items are worth.
    worth: str

    def prepare(self, fields: Fields) -> Fields:
        """Labels that choose anything."""
        return deciding(fields, fields["chosen"].bool().any(1))

    def actions(self, fields: Fields) -> Tensor:
        """The chosen items by number."""
        return listed(fields["chosen"].bool())

    def labels(self, fields: Fields, actions: Tensor) -> dict[str, Tensor]:
        """Truth values of the items."""
        return {"chosen": members(actions, fields[self.worth].shape[1])}

    def cost(self, fields: Fields) -> Tensor:
        """Minus the worth [N] of the labels, in float64."""
        return -(fields[self.worth].double() * fields["chosen"]).sum(1)


@dataclass(frozen=True)
class KnapsackTeacher(SelectionTeacher):
    """What remains of an optimal selection after some of its items were packed.

    The target is shared by all optimal items that remain: any of them may come next.
    """

    worth = "values"

    def prepare(self, fields: Fields) -> Fields:
        """Labels with whole weights, values of at most 1, and the order by value per weight.

        Parameters
        ----------
        fields
            ``values`` [N, n], ``weights`` [N, n], ``capacity`` [N], and ``chosen`` [N, n].
        """
        fields = super().prepare(fields)
        weights, capacity = whole_weights(fields["weights"], fields["capacity"])
        values = fields["values"].double()
        values = (values / values.amax(1, keepdim=True)).float()
        order = (values / weights.clamp_min(1e-7)).argsort(1, descending=True)
        return {
            **fields,
            "unit_values": values.gather(1, order),
            "whole_weights": weights.gather(1, order),
            "whole_capacity": capacity,
            "best": fields["chosen"].bool().gather(1, order),
            "item": order,
        }

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """As `Teacher.examples`, from the fields that `prepare` gave; nothing to augment."""
        count, n = fields["item"].shape
        device = fields["item"].device
        which = uniform_int(0, count - 1, size, generator)
        best, weight = fields["best"][which], fields["whole_weights"][which]
        # Items are packed roughly from the best value per weight on, as a policy does.
        noise = torch.rand(size, n, generator=generator, device=device)
        spread = torch.rand(size, 1, generator=generator, device=device).pow(3) * 2.0
        place = torch.arange(n, device=device) / n + spread * noise
        turn = place.masked_fill(~best, torch.inf).argsort(1).argsort(1)
        total = best.sum(1, keepdim=True)
        # The last decisions are the hard ones: the number that remains is log-uniform.
        share = torch.rand(size, 1, generator=generator, device=device)
        remain = total.clamp_min(1).float().pow(share).long()
        packed = best & (turn < total - remain)
        left = fields["whole_capacity"][which][:, None] - (weight * packed).sum(1, keepdim=True)
        # Leaving out items that are not optimal does not change what is.
        drop = torch.rand(size, 1, generator=generator, device=device)
        drop = drop * (torch.rand(size, 1, generator=generator, device=device) < 0.5)
        dropped = torch.rand(size, n, generator=generator, device=device) < drop
        fits = ~packed & (weight <= left) & (best | ~dropped)
        rows = (~fits).to(torch.int8).argsort(dim=1, stable=True)[:, : min(k, n)]
        kept = fits.gather(1, rows)
        rows = rows[:, : int(kept.sum(1).max())]
        kept = fits.gather(1, rows)
        nodes = torch.stack([fields["unit_values"][which], weight], 2)
        nodes = nodes.gather(1, rows[..., None].expand(-1, -1, 2))
        index = torch.where(kept, fields["item"][which].gather(1, rows), -1)
        target = (best.gather(1, rows) & kept).float()
        target = target / target.sum(1, keepdim=True).clamp_min(1.0)
        return Examples(State(nodes, index, left, dense=False), target)


def op_priority(near: Tensor, prize: Tensor, candidate: Tensor) -> Tensor:
    """Priority [b, n]: the nearest candidates and those with the largest prizes, in turns.

    Drakulic et al., BQ-NCO (NeurIPS 2023), restrict the OP to such halves.

    Parameters
    ----------
    near, prize
        Distance from the current node, and prize [b, n].
    candidate
        Which rows count [b, n].
    """
    first = near.masked_fill(~candidate, torch.inf).argsort(dim=1, stable=True).argsort(1)
    best = (-prize).masked_fill(~candidate, torch.inf).argsort(dim=1, stable=True).argsort(1)
    # Half a place in favour of the nearest keeps all priorities of a kind apart.
    return -torch.minimum(first.float(), best.float() + 0.5)


class SubsetTeacher:
    """What the teachers of one tour through some of the customers share.

    Examples are parts of tours, with the customers that nothing else visits. Half of the
    parts end at the depot, the others anywhere on the tour, as in reconstruction.
    """

    #: Fields of one number per node that states hold beside the coordinates.
    values: ClassVar[tuple[str, ...]]
    #: Whether ending a part is an action.
    stops = False
    #: Whether tours have a direction, and parts end at the depot only.
    ordered = False

    def limits(self, fields: Fields, which: Tensor, path: Tensor, t: Tensor, e: Tensor) -> Tensor:
        """The scalar [size, 1] of parts from place t to place e of the paths [size, m]."""
        raise NotImplementedError

    def scalars(self, left: Tensor, values: Tensor, free: Tensor) -> Tensor:
        """Scalars [size, s] of states, from `limits`, `values` and who remains [size, n + 1]."""
        return left

    def reach(self, near: Tensor, rest: Tensor, left: Tensor) -> Tensor | bool:
        """Which nodes [size, n + 1] a part can visit, by their distances from its ends."""
        return True

    def priority(self, near: Tensor, values: Tensor, free: Tensor) -> Tensor:
        """Priority [size, n + 1] by which candidates are kept."""
        return -near

    def prepare(self, fields: Fields) -> dict[str, Tensor]:
        """Labels that visit anything, as paths from depot to depot.

        Parameters
        ----------
        fields
            ``coords`` [N, n + 1, 2], what else the policy reads, and the customers in
            visiting order ``tour`` [N, m], filled up with 0.
        """
        fields = deciding(fields, (fields["tour"] > 0).any(1))
        longest = int((fields["tour"] > 0).sum(1).max())
        return {**fields, "path": F.pad(fields["tour"][:, :longest].long(), (1, 1))}

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """As `Teacher.examples`, from the fields that `prepare` gave."""
        device = fields["path"].device

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        which = uniform_int(0, len(fields["path"]) - 1, size, generator)
        path = fields["path"][which]
        count = (path > 0).sum(1, keepdim=True)
        place = torch.arange(path.shape[1], device=device).expand(size, -1)
        flip = (rand(size, 1) < 0.5) & (place <= count + 1) & (not self.ordered)
        path = path.gather(1, torch.where(flip, count + 1 - place, place))
        # From place t on, and up to place e; there is a customer between if one cannot stop.
        stops = int(self.stops)
        t = (rand(size, 1) * (count + stops)).long().clamp_max(count - 1 + stops)
        e = t + 2 - stops + (rand(size, 1) * (count - t + stops)).long()
        e = e.clamp_max(count + 1)
        e = torch.where((rand(size, 1) < 0.5) | self.ordered, count + 1, e)
        left = self.limits(fields, which, path, t, e)
        coords = fields["coords"][which].double()
        nodes = coords.shape[1]
        # Places of the customers; those not visited have one that is next to none.
        position = torch.full((size, nodes), -9, device=device)
        position = position.scatter_(1, path, torch.where(path > 0, place, -9))
        visited = position >= 0
        free = ~visited | ((position > t) & (position < e))
        free[:, 0] = False
        # Leaving out customers that are not visited does not change what is best: some of
        # them, or as parts of tours are cut those that are nearer to the rest of the tour.
        drop = rand(size, 1) * (rand(size, 1) < 0.5)
        free &= visited | (rand(size, nodes) >= drop)
        cut = (rand(size, 1) >= 0.5)[:, 0].nonzero()[:, 0]
        free[cut] &= visited[cut] | beside_part(coords[cut], path[cut], t[cut], e[cut])
        begin, end, goal = path.gather(1, t), path.gather(1, e), path.gather(1, t + 1)

        def away(node: Tensor) -> Tensor:
            return torch.linalg.vector_norm(
                coords - coords.gather(1, node[..., None].expand(-1, -1, 2)), dim=2
            )

        near = away(begin)
        free &= self.reach(near, away(end), left)
        values = torch.stack([fields[name][which].double() for name in self.values], 2)
        scalars = self.scalars(left, values, free)
        order = self.priority(near, values, free).masked_fill(~free, -torch.inf)
        width = min(k, int(free.sum(1).max()))
        rows = order.topk(width, dim=1, sorted=False).indices
        kept = free.gather(1, rows)
        points = random_isometry(coords, generator) if augment else coords
        index = torch.cat([begin, end, rows], 1)
        data = torch.cat([points, values], 2)
        data = data.gather(1, index[..., None].expand(-1, -1, data.shape[2]))
        data = torch.cat([data[..., :2] - data[:, 1:2, :2], data[..., 2:]], 2)
        index = torch.cat([begin, end, torch.where(kept, rows, -1)], 1)
        stop = (e == t + 1).float()
        target = ((rows == goal) & kept).float() * (1.0 - stop)
        target = torch.cat([torch.zeros_like(stop), stop, target], 1)
        links = torch.cat([t, e, torch.where(kept, position.gather(1, rows), -9)], 1)
        return Examples(
            State(data, index, scalars, dense=False), target, links, directed=self.ordered
        )

    def actions(self, fields: Fields) -> Tensor:
        """The customers in visiting order."""
        tour = fields["tour"].long()
        return torch.where(tour > 0, tour, -1)

    def labels(self, fields: Fields, actions: Tensor) -> dict[str, Tensor]:
        """Customers in visiting order, filled up with 0."""
        n = fields["coords"].shape[1] - 1
        return {"tour": F.pad(actions.clamp_min(0), (0, n - actions.shape[1]))}


#: By so much, relative to the limit, a label may be too long by rounding.
OP_SLACK = 2e-9


def beside_part(points: Tensor, path: Tensor, t: Tensor, e: Tensor) -> Tensor:
    """Whether nodes [b, n] are as near to customers of a part of a tour as to any others.

    Parameters
    ----------
    points
        Of the nodes [b, n, 2].
    path
        Tours [b, m] from the depot on, filled up with the depot.
    t, e
        Places of the ends of the parts [b, 1], which count for neither side. All nodes are
        beside a part without customers, and where there are no others.
    """
    place = torch.arange(path.shape[1], device=path.device)
    own = (path > 0) & (place > t) & (place < e)
    other = (path > 0) & ((place < t) | (place > e))
    far = torch.cdist(points, points.gather(1, path[..., None].expand(-1, -1, 2)))
    near, rest = (far.masked_fill(~some[:, None], torch.inf).amin(2) for some in (own, other))
    return (near <= rest) | ~own.any(1, keepdim=True)


@dataclass(frozen=True)
class OPTeacher(SubsetTeacher):
    """Parts of tours with what the label leaves of the limit for them."""

    values: ClassVar[tuple[str, ...]] = ("prizes",)

    def limits(self, fields: Fields, which: Tensor, path: Tensor, t: Tensor, e: Tensor) -> Tensor:
        """The length of the parts, and what the tours leave of the limit."""
        points = fields["coords"][which].double()
        points = points.gather(1, path[..., None].expand(-1, -1, 2))
        legs = torch.linalg.vector_norm(points.diff(dim=1), dim=2)
        far = F.pad(legs.cumsum(1), (1, 0))
        limit = fields["max_length"][which].double()[:, None] * (1.0 + OP_SLACK)
        return limit - far[:, -1:] + far.gather(1, e) - far.gather(1, t)

    def reach(self, near: Tensor, rest: Tensor, left: Tensor) -> Tensor:
        """Within what is left."""
        return near + rest <= left

    def priority(self, near: Tensor, values: Tensor, free: Tensor) -> Tensor:
        """As `op_priority`."""
        return op_priority(near, values[..., 0], free)

    def cost(self, fields: Fields) -> Tensor:
        """Minus the prizes [N] of the labels, the depot's included, in float64."""
        tour = fields["tour"].long()
        prizes = fields["prizes"].double()
        return -(prizes.gather(1, tour) * (tour > 0)).sum(1) - prizes[:, 0]
