"""The value network: shapes, pairs, items in any order, weights files."""

import json

import numpy as np
import pytest
import torch

from nco.robust.network import Stream, ValueConfig, ValueNetwork
from nco.robust.train import SHAPES
from nco.robust.weights import read_value_model, write_value_weights
from nco.weights import WeightsError

CONFIGS = [
    ValueConfig.paper(features=3, scenario=2),
    ValueConfig(
        streams=(Stream(features=3, scenario=2, choice="gate", hidden=(6, 5), embedding=4),),
        head=(7,),
    ),
    ValueConfig(
        streams=(Stream(features=3, scenario=2, choice="mask", hidden=(6,), embedding=4),),
        head=(5,),
        concave=True,
    ),
]


def inputs(config, g=2, a=3, b=4, n=5):
    torch.manual_seed(1)
    features = [torch.rand(g, n, 3) for _ in config.streams]
    u = [torch.rand(g, b, n, s.scenario) if s.scenario else None for s in config.streams]
    return features, (torch.rand(g, a, n) < 0.5).float(), u


@pytest.mark.parametrize("config", CONFIGS)
def test_pairs_are_what_single_calls_give(config):
    network = ValueNetwork(config)
    features, x, u = inputs(config)
    value, score = network(features, x, u)
    assert value.shape == score.shape == (2, 3, 4)
    for g, a, b in [(0, 0, 0), (1, 2, 3), (0, 2, 1)]:
        single, _ = network(
            [f[g : g + 1] for f in features],
            x[g : g + 1, a : a + 1],
            [None if v is None else v[g : g + 1, b : b + 1] for v in u],
        )
        torch.testing.assert_close(single[0, 0, 0], value[g, a, b])


@pytest.mark.parametrize("config", CONFIGS)
def test_the_order_of_items_does_not_matter(config):
    network = ValueNetwork(config)
    features, x, u = inputs(config)
    p = torch.randperm(5)
    again = network([f[:, p] for f in features], x[:, :, p],
                    [None if v is None else v[:, :, p] for v in u])  # fmt: skip
    for one, two in zip(network(features, x, u), again, strict=True):
        torch.testing.assert_close(one, two)


def test_the_paper_network_has_the_papers_size():
    # 7-32-16 and 16-64-8 twice, 16-8-1; a second output is the score.
    config = ValueConfig.paper(features=6, scenario=1)
    count = sum(p.numel() for p in ValueNetwork(config).parameters())
    streams = 2 * (7 * 32 + 32 * 16 + 16 * 64 + 64 * 8)
    assert count == streams + (16 * 8 + 8) + (8 * 2 + 2)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="choice 'sum' not understood"):
        Stream(features=1, choice="sum")
    with pytest.raises(ValueError, match="must be positive"):
        Stream(features=0)
    with pytest.raises(ValueError, match="needs streams"):
        ValueConfig(streams=())


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = ValueNetwork(SHAPES["two-stage-knapsack"]["paper"])
    path = write_value_weights(tmp_path, "two-stage-knapsack-v1", network, "two-stage-knapsack",
                               ranges={"n": [3, 9]})  # fmt: skip
    return path, network


def test_weights_make_the_round_trip(weights):
    path, network = weights
    model = read_value_model("two-stage-knapsack", path)
    assert model.card["ranges"] == {"n": [3, 9]}
    for name, tensor in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor)


def test_bad_weights_are_refused_in_one_line(weights, tmp_path):
    path, _ = weights
    with pytest.raises(WeightsError, match="weights for two-stage-knapsack, not for knapsack"):
        read_value_model("knapsack", path)
    with pytest.raises(WeightsError, match="no weights"):
        read_value_model("two-stage-knapsack", tmp_path / "none.safetensors")
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "architecture": "bq-1"}))
    with pytest.raises(WeightsError, match="not a value network"):
        read_value_model("two-stage-knapsack", path)
    path.with_suffix(".json").write_text(json.dumps({**card, "network": {"streams": []}}))
    with pytest.raises(WeightsError, match="do not fit this version"):
        read_value_model("two-stage-knapsack", path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="damaged"):
        read_value_model("two-stage-knapsack", path)


def test_policies_do_not_read_value_networks(weights):
    from nco.bq.weights import read_model

    with pytest.raises(WeightsError, match="a value network, not a policy"):
        read_model(weights[0])


def test_one_network_takes_any_size():
    network = ValueNetwork(CONFIGS[1])
    for n in (1, 7, 60):
        value, _ = network(*inputs(CONFIGS[1], n=n))
        assert np.isfinite(value.detach().numpy()).all()
