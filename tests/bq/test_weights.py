from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nco
from nco import weights as cards
from nco.bq.decoding import Model
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.bq.solver import BQ
from nco.bq.weights import bf16_pays, read_model, write_weights
from nco.instances.atsp import ATSP
from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.op import OP
from nco.instances.tsp import TSP
from nco.machine import processor
from nco.training.labels import draw, instances_of
from nco.weights import WeightsError


def small(problem: str, folder: Path, name: str = "", *, seed: int = 0, **options: Any) -> Path:
    policy = load_policy(problem).POLICY(**options)
    torch.manual_seed(seed)
    network = Network(
        NetworkConfig(
            policy.node_dim, policy.markers, policy.actions_per_node,
            layers=2, width=16, heads=2, ff=32, edge_dim=policy.edge_dim,
        )
    )  # fmt: skip
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return write_weights(folder, name or f"{problem}-v1", network, problem, options, k=20)


def test_round_trip_in_bfloat16(tmp_path: Path) -> None:
    path = small("tsp", tmp_path, rotate=False, reflect=False)
    model = read_model(path, "tsp")
    assert (model.policy.rotate, model.policy.scale, model.k) == (False, True, 20)
    for parameter in model.network.parameters():
        assert torch.equal(parameter, parameter.bfloat16().float())
    other = small("cvrp", tmp_path)
    assert set(cards.manifest(tmp_path)) == {"tsp-v1", "cvrp-v1"}
    assert read_model(other).policy.actions_per_node == 2


def test_every_shipped_weights_file_is_read_and_says_what_it_is() -> None:
    for name, card in cards.shipped().items():
        if card["architecture"] != cards.ARCHITECTURE:
            continue
        path = cards.shipped_folder() / f"{name}.safetensors"
        model = read_model(path, card["problem"])
        assert path.stat().st_size <= 7 * 2**20
        assert model.card["gaps"]
        assert card["licence"]


def test_problems_without_weights_say_how_to_get_some() -> None:
    with pytest.raises(WeightsError, match="no weights are shipped for nothing: train some"):
        cards.default_weights("nothing")


def edit(path: Path, **changes: Any) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **changes}))


def test_bad_weights_are_named_in_one_line(tmp_path: Path) -> None:
    path = small("tsp", tmp_path)

    def refuses(text: str, problem: str | None = None) -> None:
        with pytest.raises(WeightsError, match=text) as caught:
            read_model(path, problem)
        assert "\n" not in str(caught.value)

    refuses(r"weights for tsp, not for cvrp", "cvrp")
    good, data = path.with_suffix(".json").read_text(), path.read_bytes()
    edit(path, format=99)
    refuses("weights format 99, this version reads 1; update nco or retrain")
    edit(path, format=1, architecture="mamba")
    refuses("architecture 'mamba' is not known here")
    edit(path, architecture="bq-1", network={"layers": 2, "novel": 1})
    refuses("weights and card do not fit this version")
    edit(path, network={**json.loads(good)["network"], "edge_dim": 4, "edge_width": 8})
    refuses("weights and card do not fit this version")
    edit(path, network=json.loads(good)["network"], policy={"distances": False})
    refuses("the network has node_dim 4, the tsp policy 2")
    edit(path, policy={}, k="all")
    refuses("weights and card do not fit this version: invalid literal")
    path.with_suffix(".json").write_text("[1")
    refuses("not a model card")
    path.with_suffix(".json").write_text("{}")
    refuses("not a model card: 'format' is missing")
    path.with_suffix(".json").unlink()
    refuses("its card tsp-v1.json is missing beside it")
    path.with_suffix(".json").write_text(good)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refuses("damaged .sha256 differs")
    path.write_bytes(data[:100])
    refuses("damaged .sha256 differs")
    path.write_bytes(data)
    (tmp_path / "manifest.json").write_text("{}")
    refuses("manifest.json beside it does not name it")
    (tmp_path / "manifest.json").write_text("[1]")
    refuses("not a manifest")
    path.unlink()
    refuses("no weights: No such file")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    model = read_model(small("tsp", tmp_path))
    with torch.no_grad():
        model.network.embed.weight[0, 0] = value
    path = write_weights(tmp_path, "tsp-v2", model.network, "tsp", {}, k=20)
    with pytest.raises(WeightsError, match=r"tsp-v2\.safetensors: weights that are infinite"):
        read_model(path)


def test_light_weights_are_the_default_only_where_there_are_no_full_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "shipped_folder", lambda: tmp_path)
    for name in ("tsp-light-v2", "tsp-light-v10"):
        small("tsp", tmp_path, name)
    assert cards.default_weights("tsp").stem == "tsp-light-v10"
    small("tsp", tmp_path, "tsp-v1")
    assert cards.default_weights("tsp").stem == "tsp-v1"
    with pytest.raises(WeightsError, match="no weights are shipped for cvrp"):
        cards.default_weights("cvrp")


def test_the_shipped_tsp_policy_is_used_by_default_and_far_better_than_nearest_neighbour() -> None:
    rng = np.random.default_rng(7)
    instances = [TSP(coords=rng.random((60, 2))) for _ in range(8)]
    plain = sum(nco.solve(i, "nearest-neighbor").objective for i in instances)
    results = BQ().solve_batch(instances, Budget())
    assert sum(r.objective for r in results) < 0.93 * plain


def test_the_shipped_knapsack_policy_is_used_by_default_and_better_than_greedy() -> None:
    instances = [Knapsack.generate(150, seed=seed) for seed in range(16)]
    best, plain = (
        np.array([nco.solve(i, name).objective for i in instances])
        for name in ("knapsack", "greedy")
    )
    packed = np.array([r.objective for r in BQ(reconstruct=False).solve_batch(instances, Budget())])
    assert (packed <= best).all()
    assert (best - packed).sum() < 0.7 * (best - plain).sum()


@pytest.mark.parametrize("problem", [CVRP, ATSP])
def test_other_shipped_policies_are_far_better_than_nearest_neighbor(
    problem: type[CVRP | ATSP],
) -> None:
    instances = [problem.generate(60, seed=seed) for seed in range(6)]
    plain = sum(nco.solve(i, "nearest-neighbor").objective for i in instances)
    decoded = BQ(reconstruct=False).solve_batch(instances, Budget())
    assert sum(r.objective for r in decoded) < 0.88 * plain


def test_the_shipped_op_policy_collects_more_than_insertion() -> None:
    instances = [OP.generate(60, seed=seed) for seed in range(6)]
    plain = sum(nco.solve(i, "insertion").objective for i in instances)
    decoded = BQ(reconstruct=False).solve_batch(instances, Budget())
    assert sum(r.objective for r in decoded) > plain


@pytest.mark.parametrize("norm", ["none", "rms"])
def test_scales_folded_for_inference(norm: str) -> None:
    """What `Model.on` makes gives the same logits without the layers' scales."""
    policy = load_policy("tsp").POLICY()
    config = NetworkConfig(policy.node_dim, 2, layers=3, width=32, heads=4, ff=48, norm=norm)
    network = Network(config)
    for block in network.blocks:
        torch.nn.init.uniform_(block.scale, -1.0, 1.0)
    model = Model(network, policy)
    folded = model.on("cpu").on("cpu").network
    assert all(block.scale is None for block in folded.blocks)
    assert all(block.scale is not None for block in network.blocks)
    features = torch.randn(3, 11, policy.node_dim)
    with torch.inference_mode():
        np.testing.assert_allclose(folded(features), network(features), rtol=1e-4, atol=1e-4)


def test_the_shipped_acvrp_policy_is_used_by_default_and_better_than_savings() -> None:
    # Distances of the plane are decoded too, if not as well as from coordinates.
    for recipe, baseline, most in (
        ("acvrp-tmat", "savings", 1.0),
        ("acvrp-plane", "nearest-neighbor", 0.9),
    ):
        instances = instances_of(CVRP, draw(recipe, 20261498, 0, 12, 40))
        plain = sum(nco.solve(i, baseline).objective for i in instances)
        results = BQ(reconstruct=False).solve_batch(instances, Budget())
        assert {r.versions["weights"] for r in results} == {"acvrp-light-v1"}
        assert sum(r.objective for r in results) < most * plain


@pytest.mark.parametrize(
    ("amx", "avx512", "name", "pays"),
    [
        (True, True, "Intel(R) Xeon(R) Platinum 8480+", True),
        (False, True, "Intel(R) Xeon(R) Processor", False),
        (False, True, "AMD EPYC 9354", True),
        (False, False, "AMD EPYC 7763", False),
    ],
)
def test_bfloat16_where_it_is_faster(
    amx: bool, avx512: bool, name: str, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("nco.bq.weights.processor", lambda: name)
    assert bf16_pays(torch.device("cpu")) is pays


def test_processors_have_names() -> None:
    assert processor().strip()
