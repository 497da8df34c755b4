"""The learned adversary: the scenario in which the network sees the least for a first stage.

Projected gradient steps from many starts, sampled ones among them, find it fast; the exact
embedding of the network proves how much less there might be (Neur2RO, section 4.2, maximises
the network by the MIP alone).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nco.instances.core import Budget, Sense, Status
from nco.robust.embedding import embed_scenario, network_values, smallest
from nco.robust.encoding import Encoding
from nco.robust.model import Model
from nco.robust.network import ValueNetwork
from nco.robust.uncertainty import UncertaintySet

Vector = NDArray[np.float64]
#: Scenarios [b, q] -> the nearest ones in the set.
Projection = Callable[[Vector], Vector]


@dataclass(frozen=True)
class Attack:
    """What the adversary found.

    Parameters
    ----------
    xi
        Scenarios [k, q], the worst first, no two alike.
    values
        The network's values there [k].
    """

    xi: Vector
    values: Vector


def distinct(xi: Vector, order: NDArray[np.intp], count: int, apart: float) -> list[int]:
    """The first ``count`` rows in an order that differ from each other by ``apart`` (L1)."""
    kept: list[int] = []
    for k in order.tolist():
        if all(float(np.abs(xi[k] - xi[j]).sum()) > apart for j in kept):
            kept.append(k)
            if len(kept) == count:
                break
    return kept


def descend(
    network: ValueNetwork,
    encoding: Encoding,
    x: Vector,
    starts: Vector,
    project: Projection,
    *,
    score: bool = False,
    steps: int = 40,
    rate: float = 0.1,
    width: Vector | float = 1.0,
    count: int = 3,
    stop: Callable[[], bool] = lambda: False,
) -> Attack:
    """Minimise the network over scenarios by projected gradients, from all starts at once.

    Parameters
    ----------
    network, encoding
        The network, and the instance as it sees it.
    x
        The first stage [n].
    starts
        Scenarios [b, q]; each is moved by itself.
    project
        Onto the uncertainty set.
    score
        Minimise the feasibility score instead of the value.
    steps, rate, width
        Steps, their size at first as a share of the set's width, and that width [q].
    count
        How many scenarios to return.
    stop
        Asked before every step.
    """
    features = [torch.from_numpy(np.float32(f))[None] for f in encoding.features]
    first = torch.from_numpy(np.float32(encoding.inputs(x)))[None, None]
    parts = [
        None if b is None or s is None else (torch.from_numpy(np.float32(b)),
                                             torch.from_numpy(np.float32(s)))
        for b, s in zip(encoding.base, encoding.slope, strict=True)
    ]  # fmt: skip
    xi = project(starts)
    best, best_value = xi.copy(), np.full(len(xi), math.inf)
    span = np.broadcast_to(np.asarray(width, dtype=float), xi.shape[1:])
    moment = np.zeros_like(xi)
    for step in range(steps + 1):
        z = torch.from_numpy(np.float32(xi)).requires_grad_(True)
        u = [None if p is None else (p[0] + torch.einsum("nmq,bq->bnm", p[1], z))[None]
             for p in parts]  # fmt: skip
        out = network(features, first, u)[int(score)][0, 0]
        values = out.detach().double().numpy()
        better = values < best_value
        best[better], best_value[better] = xi[better], values[better]
        if step == steps or stop():
            break
        (gradient,) = torch.autograd.grad(out.sum(), z)
        # The largest entry of the smoothed direction moves by the rate.
        moment = 0.7 * moment + 0.3 * gradient.double().numpy() * span
        largest = np.abs(moment).max(1, keepdims=True)
        direction = np.divide(moment, largest, out=np.zeros_like(moment), where=largest > 0)
        xi = project(xi - rate * (1.0 - step / steps) * span * direction)
    apart = 1e-3 * float(span.sum())
    kept = distinct(best, np.argsort(best_value, kind="stable"), count, apart)
    factor = 1.0 if score else encoding.scale
    return Attack(best[kept], factor * best_value[kept])


def certify(
    network: ValueNetwork,
    encoding: Encoding,
    x: Vector,
    uncertainty: UncertaintySet,
    budget: Budget,
    *,
    backend: type[Any],
    score: bool = False,
    gap: float = 1e-3,
    seed: int = 0,
) -> tuple[Attack | None, float]:
    """The network's minimum over the uncertainty set, by its exact embedding.

    Parameters
    ----------
    network, encoding
        The network, and the instance as it sees it.
    x
        A first stage [n].
    uncertainty
        The set; adds its rows itself.
    budget
        All of it may be used.
    backend
        Engine class, such as `nco.mip.highs.HighsEngine`.
    score
        Minimise the feasibility score instead of the value.
    gap
        Certified gap at which to stop.
    seed
        The engine's.

    Returns
    -------
    The scenario found, if any, and a lower bound of the network's minimum.
    """
    from nco.mip.backend import Form, Limits, Watch

    model = Model()
    xi = uncertainty.add_to(model)
    out = embed_scenario(model, network, encoding, x, xi)
    target, _ = smallest(model, [out.score if score else out.value])
    model.set_cost(target, 1.0)
    engine = backend(Form(model.mip(Sense.MINIMIZE)), seed=seed)
    try:
        outcome = engine.solve(Limits(budget.left(), gap=gap), watch=Watch(stop=budget.interrupted))
    finally:
        engine.close()
    if outcome.status is Status.INFEASIBLE or outcome.x is None:
        return None, outcome.bound
    found = outcome.x[xi][None]
    value = network_values(network, encoding, x[None], found)[int(score)][0]
    return Attack(found, np.asarray(value, dtype=float)), outcome.bound
