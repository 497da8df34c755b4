"""The embedded network against its forward pass over all first stages and many scenarios."""

import itertools

import numpy as np
import pytest
import torch

from nco.instances.core import Sense
from nco.mip.backend import Form, Limits
from nco.mip.highs import HighsEngine
from nco.mip.scip import ScipEngine
from nco.robust.embedding import (
    Affine,
    embed_first_stage,
    embed_scenario,
    network_values,
    relu,
    smallest,
)
from nco.robust.encoding import Encoding
from nco.robust.model import Model
from nco.robust.network import Stream, ValueConfig, ValueNetwork

N = 6
CONFIGS = {
    "paper": ValueConfig.paper(features=3, scenario=1),
    "relu": ValueConfig(
        streams=(Stream(features=3, scenario=1, choice="gate", hidden=(6,), embedding=5),),
        head=(8,),
    ),
    "concave": ValueConfig(
        streams=(Stream(features=3, scenario=1, choice="mask", hidden=(5, 4), embedding=5),),
        head=(6,),
        concave=True,
    ),
}


def network_of(name):
    torch.manual_seed(7)
    network = ValueNetwork(CONFIGS[name])
    with torch.no_grad():
        for p in network.parameters():
            p *= 2.0
    rng = np.random.default_rng(2)
    slope = np.zeros((N, 1, N))
    slope[np.arange(N), 0, np.arange(N)] = rng.random(N)
    seen = [s.scenario > 0 for s in network.config.streams]
    encoding = Encoding(
        features=tuple(rng.random((N, 3)) for _ in seen),
        base=tuple(np.zeros((N, 1)) if s else None for s in seen),
        slope=tuple(slope if s else None for s in seen),
        scale=50.0,
    )
    return network.requires_grad_(False), encoding


@pytest.mark.parametrize("engine", [HighsEngine, ScipEngine])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sense", [Sense.MAXIMIZE, Sense.MINIMIZE])
def test_the_optimum_over_x_is_the_networks(name, engine, sense):
    network, encoding = network_of(name)
    xi = np.random.default_rng(4).random(N)
    model = Model()
    x = model.add_columns(N, 0, 1, whole=True)
    value, _ = smallest(model, [embed_first_stage(model, network, encoding, x, xi).value])
    model.set_cost(value, 1.0)
    form = Form(model.mip(sense))
    outcome = engine(form).solve(Limits(20))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=N)))
    values, _ = network_values(network, encoding, every, xi[None])
    best = values.max() if sense is Sense.MAXIMIZE else values.min()
    assert form.original(outcome.objective) == pytest.approx(best, abs=1e-3)
    found, _ = network_values(network, encoding, outcome.x[x][None], xi[None])
    assert found[0, 0] == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("engine", [HighsEngine, ScipEngine])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("score", [False, True])
def test_the_minimum_over_scenarios_is_the_networks(name, engine, score):
    network, encoding = network_of(name)
    x = np.array([1.0, 0, 1, 1, 0, 1])
    model = Model()
    xi = model.add_columns(N, 0, 1)
    model.add_rows(np.ones((1, N)), xi, -np.inf, 2.0)
    out = embed_scenario(model, network, encoding, x, xi)
    value, _ = smallest(model, [out.score if score else out.value])
    model.set_cost(value, 1.0)
    outcome = engine(Form(model.mip(Sense.MINIMIZE))).solve(Limits(20))
    found = network_values(network, encoding, x[None], outcome.x[xi][None])[int(score)]
    assert found[0, 0] == pytest.approx(outcome.objective, abs=1e-3)
    drawn = np.random.default_rng(0).random((4000, N))
    drawn *= np.minimum(1.0, 2.0 / drawn.sum(1, keepdims=True))
    sampled = network_values(network, encoding, x[None], drawn)[int(score)]
    assert outcome.objective <= sampled.min() + 1e-3


def test_signs_that_bounds_decide_cost_no_binary():
    model = Model()
    x = model.add_columns(2, 0, 1)
    a = Affine(x, np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]), np.array([0.5, -0.5, 0.0]))
    before = model.columns
    out = relu(model, a)
    # One column for the active sign; value, ReLU and binary for the open one; none for the other.
    assert model.columns - before == 4
    mip = model.mip(Sense.MINIMIZE)
    assert int(mip.integrality.sum()) == 1
    low, high = out.interval(model)
    assert low.tolist() == [0.5, 0.0, 0.0]
    assert high.tolist() == [2.5, 0.0, 1.0]


def test_constant_inputs_need_nothing():
    model = Model()
    out = relu(model, Affine.of(np.array([-1.0, 2.0])))
    assert (model.columns, out.constant.tolist()) == (0, [0.0, 2.0])


def test_the_smallest_of_two_scenarios_says_which_one():
    network, encoding = network_of("concave")
    scenarios = np.random.default_rng(4).random((2, N))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=N)))
    values, _ = network_values(network, encoding, every, scenarios)
    for x, pair in zip(every[::9], values[::9], strict=True):
        model = Model()
        columns = model.add_columns(N, x, x, whole=True)
        parts = [embed_first_stage(model, network, encoding, columns, xi).value for xi in scenarios]
        value, chosen = smallest(model, parts)
        outcome = HighsEngine(Form(model.mip(Sense.MINIMIZE))).solve(Limits(10))
        assert outcome.x[value][0] == pytest.approx(pair.min(), abs=1e-3)
        which = int(np.argmax(outcome.x[chosen]))
        assert pair[which] == pytest.approx(pair.min(), abs=1e-3)


@pytest.mark.parametrize("engine", [HighsEngine, ScipEngine])
def test_a_concave_value_is_maximized_without_binaries(engine):
    network, encoding = network_of("concave")
    xi = np.random.default_rng(4).random(N)
    model = Model()
    x = model.add_columns(N, 0, 1, whole=True)
    out = embed_first_stage(model, network, encoding, x, xi, exact=False)
    value = model.add_columns(1, -1e6, 1e6, cost=1.0)
    columns = np.concatenate([out.value.columns, value])
    model.add_rows(np.hstack([out.value.matrix, [[-1.0]]]), columns, -out.value.constant, np.inf)
    form = Form(model.mip(Sense.MAXIMIZE))
    assert len(form.integers) == N
    every = np.array(list(itertools.product([0.0, 1.0], repeat=N)))
    values, _ = network_values(network, encoding, every, xi[None])
    assert form.original(engine(form).solve(Limits(20)).objective) == pytest.approx(
        values.max(), abs=1e-3
    )
