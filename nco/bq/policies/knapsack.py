"""BQ policy of the 0-1 knapsack problem.

A state is the items that still fit into what is left of the capacity; an action packs one
of them. There is no current node and no destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nco.bq.imitation import KnapsackTeacher, listed, members, whole_weights
from nco.bq.state import Cut, Fields, State


class SelectionPolicy:
    """What policies that choose items in any order share: there is no current node."""

    markers = 0
    actions_per_node = 1
    views = 1
    edge_dim = 0
    online = False
    #: The field that holds what items are worth.
    worth: str

    def edges(self, state: State) -> Tensor | None:
        """Nothing is shown of pairs."""
        return None

    def mask(self, state: State) -> Tensor:
        """Every item that is left."""
        return state.index >= 0

    def price(self, state: State, action: Tensor) -> Tensor:
        """Minus the worth of the items [b]."""
        return -state.nodes[..., 0].gather(1, action[:, None])[:, 0]

    def record(self, start: State, actions: Tensor) -> Tensor:
        """All views begin alike."""
        return actions

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Minus the total worth [b]."""
        return -self._worth(fields, actions, None)

    def _worth(self, fields: Fields, items: Tensor, owner: Tensor | None) -> Tensor:
        owner = torch.arange(len(items), device=items.device) if owner is None else owner
        values = fields[self.worth].double()[owner[:, None], items.clamp_min(0)]
        return (values * (items >= 0)).sum(1)

    def solution(self, actions: Sequence[int]) -> list[int]:
        """The items in increasing order."""
        return sorted(int(a) for a in actions if a >= 0)

    def actions(self, fields: Fields, solution: Sequence[int]) -> Tensor:
        """The items in increasing order; their order does not matter."""
        return torch.as_tensor(sorted(solution), dtype=torch.int64)

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Minus the worth [parts] of what was chosen anew."""
        return -self._worth(fields, new, cut.owner)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Solutions with the best selection in the place of what it sets free, if it is better."""
        gain = cut.cost - self.part_cost(fields, cut, new)
        rank = gain.argsort().argsort().masked_fill(~better, -1)
        best = rank.new_full((len(actions),), -1).scatter_reduce(0, cut.owner, rank, "amax")
        return self.exchange(fields, actions, cut, new, better & (rank == best[cut.owner]))

    def exchange(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, keep: Tensor
    ) -> Tensor:
        """Solutions with some parts' new selections in the place of what they set free."""
        n = fields[self.worth].shape[1]
        packed = torch.nn.functional.pad(members(actions, n), (0, 1))
        for items, value in ((cut.place, False), (new, True)):
            kept = items.masked_fill(~keep[:, None] | (items < 0), n)
            packed[cut.owner[:, None], kept] = value
        return listed(packed[:, :n])


#: Alternative parts of a packing that are decided together.
PARTS = 8


@dataclass(frozen=True)
class KnapsackPolicy(SelectionPolicy):
    """States, features and steps of the knapsack problem.

    Parameters
    ----------
    reduced
        Add each item's reduced value in the linear relaxation of what remains to the
        features: its value less its weight at the price of the capacity.
    core
        Add a magnifying view of the items around the one that the relaxation splits (the
        core; Balas and Zemel, 1980): places in the order of value per weight counted from
        there, and weight and reduced value relative to the capacity that the items before
        it leave.
    ahead
        Add what is lost against the best first item, and what stays free, if the item is
        packed and the rest is filled greedily by value per weight (the look-ahead of the
        pilot method; Duin and Voss, 1999).
    """

    reduced: bool = True
    core: bool = True
    ahead: bool = True

    name = "knapsack"
    #: What it reads of an instance.
    fields = ("values", "weights", "capacity")
    worth = "values"

    @property
    def node_dim(self) -> int:
        """Features per row."""
        return 4 + self.reduced + 6 * self.core + 3 * self.ahead

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: nothing is packed. All views are alike.

        Parameters
        ----------
        fields
            ``values`` [b, n], ``weights`` [b, n], ``capacity`` [b].
        view
            Without effect.
        """
        values = fields["values"].double()
        values = (values / values.amax(1, keepdim=True).clamp_min(1e-300)).float()
        weights, capacity = whole_weights(fields["weights"], fields["capacity"])
        b, n = weights.shape
        index = torch.arange(n, device=values.device).expand(b, n)
        return self._fitting(
            State(torch.stack([values, weights], 2), index, capacity[:, None], dense=False)
        )

    def _fitting(self, state: State) -> State:
        """Without the items that no longer fit."""
        fits = state.nodes[..., 1] <= state.scalar[:, :1]
        return replace(state, index=torch.where(fits, state.index, -1))

    def features(self, state: State) -> Tensor:
        """Value, weight, value per weight, and how much of what remains fits."""
        filled = state.index >= 0
        value = state.nodes[..., 0].masked_fill(~filled, 0.0)
        weight = state.nodes[..., 1].masked_fill(~filled, 0.0)
        left = state.scalar[:, :1].clamp_min(1.0)
        value = value / value.amax(1, keepdim=True).clamp_min(1e-30)
        weight = weight / left
        ratio = value / weight.clamp_min(1e-7)
        price = break_price(value, weight, filled)
        share = weight.sum(1, keepdim=True).clamp(1e-3, 1e3).log().expand_as(weight)
        columns = [value, weight, (ratio / price.clamp_min(1e-7)).clamp(1e-3, 1e3).log(), share]
        if self.reduced:
            columns.append(value - price * weight)
        if self.core:
            columns += core_view(value, weight, price, filled)
        if self.ahead:
            columns += look_ahead(value, state.nodes[..., 1], state.scalar[:, :1], price, filled)
        return torch.stack(columns, 2) * filled[..., None]

    def step(self, state: State, action: Tensor) -> State:
        """Pack the chosen items [b]."""
        at = action[:, None]
        left = state.scalar[:, :1] - state.nodes[..., 1].gather(1, at)
        index = state.index.scatter(1, at, -1)
        scalar = torch.cat([left, state.scalar[:, 1:]], 1)
        return self._fitting(replace(state, index=index, scalar=scalar))

    def nearness(self, state: State) -> Tensor:
        """Value per weight."""
        return state.nodes[..., 0] / state.nodes[..., 1].clamp_min(1e-7)

    def substate(
        self, fields: Fields, items: Tensor, left: Tensor, owner: Tensor | None = None
    ) -> State:
        """Sub-instances: pack some items into what is left.

        Weights are counted in units of what is left, so that little is lost where they are not
        whole numbers; ``scalar`` holds what is left in these units and as it is, rounded down.

        Parameters
        ----------
        fields
            As for `start`.
        items
            Their numbers [parts, m], filled up with -1.
        left
            Capacity left [parts], in float64.
        owner
            Instance of each part [parts]; None for one part per instance, in order.
        """
        owner = torch.arange(len(items), device=items.device) if owner is None else owner
        filled, at = items >= 0, (owner[:, None], items.clamp_min(0))
        values = fields["values"].double()
        values = (values / values.amax(1, keepdim=True).clamp_min(1e-300)).float()[at]
        weights, limit = whole_weights(fields["weights"].double()[at] * filled, left)
        less = left.float()
        less = torch.where(less > left, less.nextafter(torch.zeros_like(less)), less)
        nodes = torch.stack([values, weights], 2)
        return self._fitting(State(nodes, items, torch.stack([limit, less], 1), dense=False))

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """About ``size`` items, packed or not, whose value per weight is near the last packed.

        Those are the ones that solutions differ in (the core; Balas and Zemel, 1980). As all share
        what is left, parts are alternatives, of which `paste` takes the best.
        """
        owner = torch.arange(len(actions), device=actions.device).repeat_interleave(PARTS)
        packed = members(actions, fields["values"].shape[1])[owner]
        values, weights = (fields[x].double()[owner] for x in ("values", "weights"))
        b, n = weights.shape
        ratio = values / weights.clamp_min(1e-300)
        rank = ratio.argsort(1, descending=True).argsort(1)
        middle = packed.sum(1, keepdim=True)
        noise = torch.rand(b, n, generator=generator, device=weights.device)
        # Packed items below that value per weight, and others above it, come first of all.
        far = torch.where(packed, middle - rank, rank - middle) * noise
        free = far.argsort(1)[:, : min(size, n)]
        freed = torch.zeros_like(packed).scatter_(1, free, True)
        left = (fields["capacity"][owner] - (weights * (packed & ~freed)).sum(1)).clamp_min(0.0)
        state = self.substate(fields, free, left, owner)
        cost = -(values * (packed & freed)).sum(1)
        old = torch.where(packed.gather(1, free), free, -1)
        return Cut(state, owner, cost, free, old)


def break_price(value: Tensor, weight: Tensor, filled: Tensor) -> Tensor:
    """Value per weight [b, 1] of the item that the linear relaxation splits.

    Parameters
    ----------
    value, weight
        Of every item [b, n]; weights in units of the capacity left.
    filled
        Which rows are items [b, n].
    """
    ratio = (value / weight.clamp_min(1e-7)).masked_fill(~filled, 0.0)
    ratio, order = ratio.sort(1, descending=True)
    used = weight.gather(1, order).cumsum(1)
    last = (used <= 1.0).sum(1, keepdim=True).clamp_max(value.shape[1] - 1)
    return ratio.gather(1, last)


def core_view(value: Tensor, weight: Tensor, price: Tensor, filled: Tensor) -> list[Tensor]:
    """Six features [b, n] that tell items apart which are close to the break item.

    Parameters
    ----------
    value, weight, filled
        As for `break_price`.
    price
        What it gives.
    """
    ratio = value / weight.clamp_min(1e-7)
    before = filled & (ratio > price)
    # Places are means over items of equal ratio, so that the order of rows does not matter.
    line = (-ratio).masked_fill(~filled, torch.inf)
    ascending = line.sort(1).values
    low = torch.searchsorted(ascending, line)
    high = torch.searchsorted(ascending, line, right=True)
    place = 0.5 * (low + high - 1) - before.sum(1, keepdim=True)
    left = (1.0 - (weight * before).sum(1, keepdim=True)).clamp_min(1e-6)
    price = price.clamp_min(1e-7)
    return [
        place / (place.abs() + 3.0),
        place / (place.abs() + 20.0),
        0.25 * (200.0 * (ratio / price).clamp(1e-3, 1e3).log()).asinh(),
        (weight / left).clamp(1e-2, 1e2).log(),
        0.5 * ((value - price * weight) / (price * left)).clamp(-1e3, 1e3).asinh(),
        0.2 * filled.sum(1, keepdim=True).clamp_min(1).log().expand_as(weight),
    ]


#: Runs of items that the greedy look-ahead packs, with items that do not fit between them.
RUNS = 4


def look_ahead(
    value: Tensor, weight: Tensor, left: Tensor, price: Tensor, filled: Tensor
) -> list[Tensor]:
    """Three features [b, n] of the greedy packing that begins with an item.

    Parameters
    ----------
    value, filled, price
        As for `break_price`.
    weight, left
        Whole weights [b, n] and the capacity left [b, 1].
    """
    n = value.shape[1]
    weight = weight.masked_fill(~filled, torch.inf)
    # Rows of equal value per weight stand in an order that is not that of the rows.
    order = value.argsort(dim=1, descending=True, stable=True)
    ratio = (value / weight).gather(1, order)
    order = order.gather(1, ratio.argsort(dim=1, descending=True, stable=True))
    value, weight = value.gather(1, order), weight.gather(1, order)
    free = (left - weight)[..., None]  # after the first item [b, n, 1]
    open_ = ~torch.eye(n, dtype=torch.bool, device=value.device) & filled.gather(1, order)[:, None]
    total = value[..., None]
    for _ in range(RUNS):
        candidate = open_ & (weight[:, None] <= free)
        used = torch.where(candidate, weight[:, None], 0.0).cumsum(2)
        taken = candidate & (used <= free)
        # A run ends with the first item that fits by itself, but not after the others.
        taken &= (candidate & ~taken).cumsum(2) == 0
        total = total + (taken * value[:, None]).sum(2, keepdim=True)
        free = free - torch.where(taken, weight[:, None], 0.0).sum(2, keepdim=True)
        # What did not fit does not fit later either.
        open_ = candidate & ~taken
    total, free = total[..., 0].masked_fill(~filled.gather(1, order), -torch.inf), free[..., 0]
    lost = (total.amax(1, keepdim=True) - total) / price.clamp_min(1e-7)
    free = (free / left.clamp_min(1.0)).clamp(0.0, 1.0)
    columns = [0.3 * (100.0 * lost).clamp_max(1e4).asinh(), 0.3 * (100.0 * free).asinh()]
    columns.append((lost <= 0.0).to(value.dtype))
    back = order.argsort(1)
    return [column.gather(1, back) for column in columns]


POLICY = KnapsackPolicy
TEACHER = KnapsackTeacher
