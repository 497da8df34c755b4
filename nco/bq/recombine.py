"""Of a new path, or of new routes, the changes that pay.

What is decided anew is often longer than before, though in some places it is better. What
differs between the two falls into components that share no node (of routes, no customer), and
each of them can be taken or left by itself where one path remains, or routes that vehicles can
serve: partition crossover (D. Whitley, D. Hains and A. Howe, Tunneling between optima, GECCO
2009) of a path with its own successor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: A change that gains less is none, relative to the path's legs.
TINY = 1e-12

#: What room is taken to be worth, in units of what all that there is now is worth for what it
#: uses up: at 0 nothing is given up for it, at the others ever more. Chosen, not tuned.
RATES = (0.0, 0.5, 1.0, 2.0)


def recombined(order: Tensor, size: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Paths that differ from the old ones only where it pays, in the form of ``order``.

    Parameters
    ----------
    order
        Places of old paths in the order of new ones [parts, m], from place 0 to the last one;
        behind it each place stands for itself.
    size
        Places of every path [parts].
    before, after
        Lengths [parts, m - 1] of the legs of old and new paths, in their orders. Paths may be
        turned round.
    """
    parts, m = order.shape
    last = (size - 1)[:, None]
    place = torch.arange(m, device=order.device).expand(parts, m)
    rank = torch.zeros_like(order).scatter_(1, order, place)
    old = _neighbours(place, place, last)
    new = _neighbours(order, rank, last)
    # Legs that both paths have are no change.
    left, taken = _lacks(old, new), _lacks(new, old)
    label = _components(_changes(old, new, left, taken))
    inside = place[:, 1:] <= last
    gain = before.new_zeros(parts, m)
    gain.scatter_add_(1, label[:, :-1], before * (left[:, :-1, 1] & inside))
    begin = order[:, :-1]
    fresh = taken[..., 1].gather(1, begin) & inside
    gain.scatter_add_(1, label.gather(1, begin), -after * fresh)
    gain, which = gain.sort(1, descending=True)
    pays = gain > TINY * before.sum(1, keepdim=True)
    use = torch.zeros_like(place, dtype=torch.bool)
    whole = ((before - after) * inside).sum(1)
    gained = torch.zeros_like(whole)
    for turn in range(int(pays.sum(1).max()) if parts else 0):
        more = use | ((label == which[:, turn : turn + 1]) & pays[:, turn : turn + 1])
        path = _steps_left(torch.where(more[..., None], new, old), last)
        one = (path[:, 0] == last[:, 0]) & pays[:, turn]
        use = torch.where(one[:, None], more, use)
        gained = gained + gain[:, turn] * one
    # What gains only together with what does not may be more.
    use = use | (whole > gained)[:, None]
    steps = _steps_left(torch.where(use[..., None], new, old), last)
    return torch.where(place <= last, -steps, place).argsort(1)


def _neighbours(order: Tensor, rank: Tensor, last: Tensor) -> Tensor:
    """Places [parts, m, 2] before and after each one; ends, and what is behind, themselves."""
    before = order.gather(1, (rank - 1).clamp_min(0))
    after = order.gather(1, (rank + 1).minimum(last))
    behind = (rank > last)[..., None]
    own = torch.arange(order.shape[1], device=order.device)[:, None]
    return torch.where(behind, own, torch.stack([before, after], 2))


def _lacks(beside: Tensor, other: Tensor) -> Tensor:
    """Which neighbours [parts, m, 2] are not among the others of the same place."""
    return ~(beside[..., None] == other[:, :, None, :]).any(3)


def _changes(was: Tensor, now: Tensor, left: Tensor, taken: Tensor) -> Tensor:
    """Neighbours [parts, m, 4] that are left or taken, of those that are places; else itself."""
    m = was.shape[1]
    itself = torch.arange(m, device=was.device)[:, None]
    ways = ((left, was), (taken, now))
    return torch.cat([torch.where(differs & (to < m), to, itself) for differs, to in ways], 2)


def _components(near: Tensor) -> Tensor:
    """The smallest place [parts, m] that every one is connected to by its neighbours."""
    parts, m = near.shape[:2]
    label = torch.arange(m, device=near.device).expand(parts, m)
    flat = near.flatten(1)
    while True:
        least = label.gather(1, flat).view(near.shape).amin(2).minimum(label)
        least = least.gather(1, least)
        if torch.equal(least, label):
            return label
        label = least


def _steps_left(beside: Tensor, last: Tensor) -> Tensor:
    """Steps [parts, m] from every place to the last one; more than m where none lead there.

    Parameters
    ----------
    beside
        Both neighbours of every place [parts, m, 2]; a place without one has itself.
    last
        The last place [parts, 1].
    """
    parts, m = beside.shape[:2]
    goal = beside.flatten(1)
    there = goal == last
    jump, steps, _ = _walked(beside, there | (goal == 0), torch.zeros_like(goal[:, :m]))
    steps = torch.where(there.gather(1, jump), steps + 1, 2 * m)
    place = torch.arange(m, device=beside.device)
    return steps.view(parts, m, 2).amin(2).masked_fill(place == last, 0)


def _walked(beside: Tensor, end: Tensor, load: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where steps lead that go on as they began, by doubling them.

    Parameters
    ----------
    beside
        Both neighbours of every place [parts, m, 2]. Number 2 i + j, here and below, is the
        step from place i to its neighbour j.
    end
        Steps [parts, 2 m] that lead to an end, after which there is none.
    load
        Of every place [parts, m].

    Returns
    -------
    The last step, the steps before it, and the sum of the loads that they lead to [parts, 2 m];
    of steps that lead round, none of the three is of use.
    """
    parts, m = beside.shape[:2]
    place = torch.arange(m, device=beside.device)
    goal = beside.flatten(1).clamp_max(m - 1)
    # A step leads on from where it arrives to the neighbour that it does not come from.
    back = beside[..., 0].gather(1, goal) == place.repeat_interleave(2)
    own = torch.arange(2 * m, device=beside.device).expand(parts, -1)
    jump = torch.where(end, own, 2 * goal + back)
    steps, total = (~end).long(), load.gather(1, goal) * ~end
    for _ in range(m.bit_length()):
        steps = steps + steps.gather(1, jump)
        total = total + total.gather(1, jump)
        jump = jump.gather(1, jump)
    return jump, steps, total


@dataclass(frozen=True)
class Routes:
    """Groups of routes of which each customer, by its place in the old group, has a step.

    Parameters
    ----------
    place
        Places in the order of service [parts, m], filled up with -1.
    first
        Whether a route begins with the step [parts, m].
    way, home
        Lengths [parts, m] of the way to the step's customer, from the one before or the depot,
        and of the way home from it.
    """

    place: Tensor
    first: Tensor
    way: Tensor
    home: Tensor

    def beside(self, one_way: bool) -> tuple[Tensor, Tensor]:
        """What stands before and after each place [parts, m, 2], and the lengths of both ways.

        The depot is m, and m + 1 at the end of a route if ways are for one direction, else
        where it is on both sides. Of ways between customers, the one after has no length.
        """
        known = self.place >= 0
        m = self.place.shape[1]
        last = known & F.pad(self.first[:, 1:] | ~known[:, 1:], (0, 1), value=True)
        before = F.pad(self.place[:, :-1], (1, 0)).masked_fill(self.first, m)
        after = F.pad(self.place[:, 1:], (0, 1)).masked_fill(last, m)
        after = torch.where(last & (self.first | one_way), m + 1, after)
        table = torch.stack([before, after], 2)
        lengths = torch.stack([self.way, self.home * last], 2)
        at = self.place.masked_fill(~known, m)[..., None].expand(-1, -1, 2)
        # What is filled up goes to a place of its own.
        empty = torch.tensor([m, m + 1], device=at.device).expand(len(at), m + 1, 2)
        out = empty.scatter(1, at, table)[:, :-1]
        return out, lengths.new_zeros(len(at), m + 1, 2).scatter_(1, at, lengths)[:, :-1]


def regrouped(
    old: Routes, new: Routes, load: Tensor, capacity: Tensor, one_way: bool, directed: bool = False
) -> tuple[Tensor, Tensor]:
    """Groups of routes that differ from the old ones only where it pays and vehicles suffice.

    The depot is part of no component; a change is left where a round trip without it or a load
    above the capacity came of it.

    Parameters
    ----------
    old, new
        Groups of the same customers; the places of the old ones are 0, 1, ...
    load
        Of the customers, by place [parts, m].
    capacity
        Of all vehicles of a part [parts].
    one_way
        Whether routes have a direction, as those that do not return.
    directed
        Whether ways between customers have one, too.

    Returns
    -------
    Places of the customers in their new order, what is filled up behind, and whether a route
    begins with them, both [parts, m].
    """
    one_way = one_way or directed
    (was, was_length), (now, now_length) = (r.beside(one_way) for r in (old, new))
    parts, m = load.shape
    filled = old.place >= 0
    left, taken = (was != now,) * 2 if directed else (_lacks(was, now), _lacks(now, was))
    label = _components(_changes(was, now, left, taken))
    change = (was_length * left).sum(2) - (now_length * taken).sum(2)
    gain = torch.zeros_like(change).scatter_add_(1, label, change)
    whole = gain.sum(1)
    tiny = TINY * was_length.flatten(1).sum(1)

    def holds(use: Tensor) -> Tensor:
        _, ok = _followed(torch.where(use[..., None], now, was), filled, load, capacity, one_way)
        return ok

    use, total = torch.zeros_like(filled), torch.zeros_like(whole)
    for back in (False, True):
        # Change by change, and once from the new ones back.
        sign = -1.0 if back else 1.0
        use_, total_ = torch.full_like(use, back), torch.zeros_like(whole)
        if back:
            total_ = torch.where(holds(use_), whole, -torch.inf)
        better, which = (sign * gain).sort(1, descending=True)
        pays = better > tiny[:, None]
        for turn in range(int(pays.sum(1).max()) if parts else 0):
            one = (label == which[:, turn : turn + 1]) & pays[:, turn : turn + 1]
            more = use_ ^ one
            ok = holds(more) & pays[:, turn]
            use_ = torch.where(ok[:, None], more, use_)
            total_ = total_ + better[:, turn] * ok
        use = torch.where((total_ > total)[:, None], use_, use)
        total = torch.maximum(total, total_)
    key, _ = _followed(torch.where(use[..., None], now, was), filled, load, capacity, one_way)
    key, order = key.sort(1)
    return order, (key % (m + 1) == 0) & (key < m * (m + 1))


def _followed(
    beside: Tensor, filled: Tensor, load: Tensor, capacity: Tensor, one_way: bool
) -> tuple[Tensor, Tensor]:
    """Order of the customers along their routes, and whether all of them are ones.

    Returns
    -------
    Keys [parts, m] by which customers stand in order: m + 1 times the first customer of the
    route, and the steps from it; of those filled up, more than all; and whether every route
    leads from the depot to the depot with no more than the capacity [parts].
    """
    parts, m = filled.shape
    goal = beside.flatten(1)
    end = goal >= m
    jump, steps, behind = _walked(beside, end, load)
    ends = end.gather(1, jump).view(parts, m, 2)
    depot, head = goal.gather(1, jump).view(parts, m, 2), (jump // 2).view(parts, m, 2)
    steps = steps.view(parts, m, 2)
    ok = ends.all(2) & (load + behind.view(parts, m, 2).sum(2) <= capacity[:, None])
    if one_way:
        ok &= depot[..., 0] != depot[..., 1]
        side = (depot[..., :1] != m).long()
    else:
        side = (head[..., :1] > head[..., 1:]).long()
    key = (head * (m + 1) + steps).gather(2, side)[..., 0]
    place = torch.arange(m, device=filled.device)
    return torch.where(filled, key, m * (m + 1) + place), (ok | ~filled).all(1)


@dataclass(frozen=True)
class Visits:
    """Paths through some rows of a table, from its first row to its last one.

    Parameters
    ----------
    row
        Rows in the order of the path [parts, steps], filled up with -1.
    leg
        Lengths [parts, steps - 1] of the legs from each to the next.
    """

    row: Tensor
    leg: Tensor

    def beside(self, m: int) -> tuple[Tensor, Tensor]:
        """Rows before and after each of m rows [parts, m, 2], and lengths of legs to them.

        Where there is none, as on one side of the ends and beside who is left out, a row has
        itself. The lengths [parts, m] are those from the row before.
        """
        known = self.row >= 0
        before = F.pad(self.row[:, :-1], (1, 0))
        follow = F.pad(self.row[:, 1:], (0, 1), value=-1)
        after = torch.where(follow < 0, self.row, follow)
        at = self.row.masked_fill(~known, m)
        own = torch.arange(m + 1, device=at.device)[:, None].expand(len(at), -1, 2)
        beside = own.scatter(1, at[..., None].expand(-1, -1, 2), torch.stack([before, after], 2))
        leg = self.leg.masked_fill(~known[:, 1:], 0.0)
        length = leg.new_zeros(len(at), m + 1).scatter(1, at, F.pad(leg, (1, 0)))
        return beside[:, :m], length[:, :m]


@dataclass(frozen=True)
class Trade:
    """What paths through some nodes are worth, and what they use up.

    Parameters
    ----------
    worth, use
        Of a visit to each row of a table [parts, m]: what it adds to the objective, and what
        it uses up of what is limited; of what is due, minus what it collects.
    price, rate
        Of a unit of length [parts]: what it takes off the objective, and what it uses up.
    limit
        How much may be used up [parts]; minus what is due.
    """

    worth: Tensor
    use: Tensor
    price: Tensor
    rate: Tensor
    limit: Tensor


def revisited(old: Visits, new: Visits, trade: Trade) -> Tensor:
    """Paths that differ from the old ones only where it pays, within what may be used up.

    Changes are made one by one while there is room: first those that need none, then by what
    they gain for what they use up. A change that loses makes room for others, if that is worth
    more; so each of `RATES` is tried as what room is worth, and the best path stays.

    Parameters
    ----------
    old, new
        Paths through rows of the same table, of m rows.
    trade
        What they are for.

    Returns
    -------
    Rows of the paths [parts, m] in order, filled up with -1.
    """
    parts, m = trade.worth.shape
    (was, was_leg), (now, now_leg) = (v.beside(m) for v in (old, new))
    itself = torch.arange(m, device=was.device)[:, None]
    end = torch.full((parts, 1), m - 1, device=was.device)
    left, taken = _lacks(was, now), _lacks(now, was)
    label = _components(_changes(was, now, left, taken))

    def visited(beside: Tensor) -> Tensor:
        """The ends, and who has a neighbour [parts, m]."""
        out = (beside != itself).any(2)
        out[:, 0] = out[:, -1] = True
        return out

    joins = visited(now).double() - visited(was).double()
    longer = now_leg * taken[..., 0] - was_leg * left[..., 0]
    zero = torch.zeros_like(longer)
    gain = zero.scatter_add(1, label, joins * trade.worth - trade.price[:, None] * longer)
    used = zero.scatter_add(1, label, joins * trade.use + trade.rate[:, None] * longer)
    # What all that is there now is worth, and uses up.
    have = visited(was)
    value = (trade.worth * have).abs().sum(1) + trade.price * was_leg.sum(1)
    total = (trade.use * have).sum(1) + trade.rate * was_leg.sum(1)
    # Of equal prizes, lengths may be worth next to nothing beside them.
    tiny = (TINY * trade.price * was_leg.sum(1) + 1e-15 * value)[:, None]
    # A hair less, as sums in another order differ by rounding; who needs none has room.
    room = (trade.limit - total - TINY * total.abs()).clamp_min(0.0)

    def steps_of(mix: Tensor) -> tuple[Tensor, Tensor]:
        """Steps to the last row, and who is visited [parts, m]."""
        beside = torch.where(mix[..., None], now, was)
        return _steps_left(beside, end), visited(beside)

    best = torch.zeros_like(have)
    whole = gain.sum(1)
    most = torch.where(used.sum(1) <= room, whole.clamp_min(0.0), 0.0)
    best |= (most > 0.0)[:, None]
    for rate in RATES:
        room_value = rate * torch.where(total != 0.0, value / total.abs(), 0.0)[:, None]
        wanted = (gain - room_value * used > tiny) & ((gain > tiny) | (used < 0.0))
        # Whoever needs no room is first.
        ratio = torch.where(used > 0.0, gain / used.clamp_min(1e-300), torch.inf)
        ratio, which = ratio.masked_fill(~wanted, -torch.inf).sort(1, descending=True)
        mix, gained, taken_up = torch.zeros_like(best), zero[:, 0], zero[:, 0]
        for turn in range(int(wanted.sum(1).max()) if parts else 0):
            one = which[:, turn : turn + 1]
            more = mix | (label == one)
            needs = taken_up + used.gather(1, one)[:, 0]
            steps, on = steps_of(more)
            ok = (ratio[:, turn] > -torch.inf) & (needs <= room)
            ok &= steps[:, 0] + 1 == on.sum(1)
            mix = torch.where(ok[:, None], more, mix)
            gained = gained + gain.gather(1, one)[:, 0] * ok
            taken_up = torch.where(ok, needs, taken_up)
        best = torch.where((gained > most)[:, None], mix, best)
        most = torch.maximum(most, gained)
    steps, on = steps_of(best)
    order = torch.where(on, -steps, 1).argsort(dim=1, stable=True)
    return order.masked_fill(~on.gather(1, order), -1)
