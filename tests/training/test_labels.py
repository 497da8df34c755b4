from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nco.instances.cvrp import CVRP
from nco.training.labels import (
    RECIPES,
    LabelError,
    draw,
    instances_of,
    read_labels,
    write_labels,
)


def test_a_recipe_redraws_the_instances(tmp_path: Path) -> None:
    tours = np.tile(np.arange(7, dtype=np.uint8), (3, 1))
    write_labels(tmp_path / "a.npz", "tsp", {"tour": tours}, recipe="tsp-uniform", seed=5, first=10)
    labels = read_labels(str(tmp_path / "a.npz"))
    expected = np.random.default_rng([5, 11]).random((7, 2), dtype=np.float32)
    assert np.array_equal(labels.fields["coords"][1], expected)
    np.save(tmp_path / "b.npy", tours)
    plain = read_labels(f"{tmp_path / 'b.npy'}:tsp-uniform:5")
    assert plain.fields["coords"].shape == (3, 7, 2)
    assert plain.digest != labels.digest


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_an_instance_does_not_depend_on_the_others(recipe: str) -> None:
    together = draw(recipe, 3, 0, 6, 12)
    alone = draw(recipe, 3, 4, 1, 12)
    for key, values in together.items():
        own = np.atleast_1d(alone[key][0])
        value = np.atleast_1d(values[4])
        assert np.array_equal(own, value[: len(own)])
        assert (value[len(own) :] == -1).all()  # padding of lists of edges


def test_parts_are_neighbours_for_a_few_nearly_full_routes() -> None:
    """Closer to each other than to the depot, most of them."""
    made = draw("ovrp-parts", 4, 0, 60, 40)
    total, capacity = made["demands"].sum(1), made["capacity"]
    routes = -(-total // capacity)
    assert ((routes >= 1) & (routes <= 8)).all()
    assert (total >= 0.88 / 1.12 * routes * capacity - 9 * routes).all()
    customers = made["coords"][:, 1:]
    centre = customers.mean(1)
    spread = np.linalg.norm(customers - centre[:, None], axis=2).mean(1)
    away = np.linalg.norm(centre - made["coords"][:, 0], axis=1)
    assert np.median(spread / away) < 0.5
    assert len(np.unique(made["coords"][7], axis=0)) == 41


def test_labels_of_the_plane_are_labels_of_its_cost_matrix(tmp_path: Path) -> None:
    tours = np.stack([1 + np.random.default_rng(i).permutation(12) for i in range(3)])
    starts = np.tile(np.arange(12) % 2 == 0, (3, 1))
    np.savez(tmp_path / "a.npz", tour=tours, start=starts)
    plane, matrix = (
        read_labels(f"{tmp_path / 'a.npz'}:{recipe}:5") for recipe in ("cvrp-mixed", "acvrp-plane")
    )
    assert (plane.problem, matrix.problem) == ("cvrp", "acvrp")
    cost, again = (
        instances_of(CVRP, labels.fields)[1].objective(tours[1].reshape(-1, 2).tolist())
        for labels in (plane, matrix)
    )
    assert again == pytest.approx(1e4 * cost, abs=10)


def test_what_remains_of_a_packing_are_the_best_items_that_fit() -> None:
    rest = draw("knapsack-rest", 7, 0, 40, 10)
    whole = draw("knapsack-mixed", 7, 0, 40, 40)
    fits = rest["weights"] <= rest["capacity"][:, None]
    assert (rest["capacity"] <= whole["capacity"]).all()
    assert fits.any(1).all()
    assert not fits.all()
    # The rows that are filled up come last, and hold items of the instance otherwise.
    assert (fits[:, :-1] >= fits[:, 1:]).all()
    for i in range(40):
        items = set(zip(whole["values"][i], whole["weights"][i], strict=True))
        assert (
            set(zip(rest["values"][i][fits[i]], rest["weights"][i][fits[i]], strict=True)) <= items
        )
        ratio = rest["values"][i][fits[i]] / rest["weights"][i][fits[i]]
        assert (np.diff(ratio) <= 0).all()


def test_colons_in_the_path_are_no_recipe(tmp_path: Path) -> None:
    tours = np.tile(np.arange(5), (2, 1))
    path = tmp_path / "10:30:00.npz"
    write_labels(path, "tsp", {"tour": tours}, recipe="tsp-uniform", seed=5)
    labels = read_labels(str(path))
    assert labels.source["seed"] == 5
    assert read_labels(f"{path}:tsp-uniform:5").source["seed"] == 5


def test_labels_are_of_the_instances_that_their_file_names(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_labels(path, "tsp", {"tour": TOURS}, recipe="tsp-uniform", seed=5)
    for other in ("tsp-uniform:6", "cvrp-uniform:5"):
        with pytest.raises(LabelError, match=f"its instances are tsp-uniform:5, not {other}"):
            read_labels(f"{path}:{other}")


def test_two_that_write_one_file_at_once_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, save = tmp_path / "a.npz", np.savez_compressed
    tours = np.tile(np.arange(5), (2, 1))

    def slow(file: Any, **arrays: Any) -> None:
        monkeypatch.setattr(np, "savez_compressed", save)
        file.write(b"half")
        write_labels(path, "tsp", {"tour": tours}, recipe="tsp-uniform", seed=1)
        assert read_labels(str(path)).source["seed"] == 1
        file.seek(0)
        save(file, **arrays)

    monkeypatch.setattr(np, "savez_compressed", slow)
    write_labels(path, "tsp", {"tour": tours}, recipe="tsp-uniform", seed=2)
    assert read_labels(str(path)).source["seed"] == 2
    assert list(tmp_path.iterdir()) == [path]


def test_coordinates_may_be_stored(tmp_path: Path) -> None:
    coords = np.random.default_rng(0).random((2, 5, 2))
    tours = np.tile(np.arange(5), (2, 1))
    write_labels(tmp_path / "a.npz", "tsp", {"tour": tours, "coords": coords}, expert="hand")
    assert np.array_equal(read_labels(str(tmp_path / "a.npz")).fields["coords"], coords)


def test_the_shared_labels_are_read(shared_data: Path) -> None:
    labels = read_labels(f"{shared_data}/labels/tsp100_tours.npy:tsp-uniform:20261124")
    coords, tour = labels.fields["coords"][4], labels.fields["tour"][4]
    length = np.linalg.norm(coords[tour] - coords[np.roll(tour, 1)], axis=1).sum()
    assert (len(labels), labels.problem) == (100_000, "tsp")
    assert 6.5 < length < 9.0


def test_bad_labels_are_named_in_one_line(tmp_path: Path) -> None:
    bad = np.array([[0, 1, 2], [0, 1, 1]], dtype=np.uint8)
    write_labels(tmp_path / "a.npz", "tsp", {"tour": bad}, recipe="tsp-uniform", seed=5)
    with pytest.raises(LabelError, match="label 1 is no permutation"):
        read_labels(str(tmp_path / "a.npz"))
    np.save(tmp_path / "b.npy", bad)
    with pytest.raises(LabelError, match=r"write .*b\.npy:RECIPE:SEED with one of"):
        read_labels(str(tmp_path / "b.npy"))
    with pytest.raises(LabelError, match="nor given a recipe"):
        read_labels(f"{tmp_path / 'b.npy'}:unknown:5")
    (tmp_path / "c.npz").write_bytes(b"junk")
    with pytest.raises(LabelError, match="no labels"):
        read_labels(str(tmp_path / "c.npz"))
    with pytest.raises(LabelError, match="no labels"):
        read_labels(str(tmp_path / "missing.npz"))


TOURS = np.tile(np.arange(6), (3, 1))
POINTS = np.random.default_rng(0).random((3, 6, 2))
PACKED: dict[str, np.ndarray] = {
    "chosen": np.zeros((3, 6), dtype=bool), "values": np.ones((3, 6)), "weights": np.ones((3, 6)),
    "capacity": np.ones(3),
}  # fmt: skip


@pytest.mark.parametrize(
    ("problem", "fields", "text"),
    [
        ("tsp", {"tour": TOURS}, "has no coords, which labels of tsp need"),
        ("tsp", {"tour": TOURS, "coords": POINTS[:2]}, r"coords has the shape \(2, 6, 2\)"),
        ("tsp", {"tour": TOURS[:, :5], "coords": POINTS}, r"not \(3, 5, 2\)"),
        ("tsp", {"tour": TOURS, "coords": POINTS * np.nan}, "coords of label 0 is not finite"),
        ("tsp", {"tour": TOURS, "coords": POINTS.astype(str)}, "coords holds no numbers"),
        ("tsp", {"tour": TOURS / 1.0, "coords": POINTS}, "tour holds no numbers"),
        ("tsp", {"tour": TOURS[0], "coords": POINTS}, "holds no solutions"),
        ("atsp", {"tour": TOURS, "matrix": np.ones((3, 6, 5))}, r"not \(3, 6, 6\)"),
        ("knapsack", {**PACKED, "chosen": PACKED["chosen"] - 1}, "chosen is not made of truth"),
        ("knapsack", {**PACKED, "capacity": np.ones((3, 1))}, r"capacity has the shape \(3, 1\)"),
    ],
)
def test_arrays_that_are_no_instances_are_named_in_one_line(
    problem: str, fields: dict[str, np.ndarray], text: str, tmp_path: Path
) -> None:
    write_labels(tmp_path / "a.npz", problem, fields)
    with pytest.raises(LabelError, match=text) as caught:
        read_labels(str(tmp_path / "a.npz"))
    assert "\n" not in str(caught.value)


def test_a_label_file_that_was_cut_or_changed_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_labels(path, "tsp", {"tour": TOURS}, recipe="tsp-uniform", seed=5)
    data = path.read_bytes()
    changed = bytearray(data)
    changed[data.index(b"tour.npy") + 40] ^= 255
    for spoilt in (data[:10], data[:-30], data[: len(data) // 2], bytes(changed), b""):
        path.write_bytes(spoilt)
        with pytest.raises(LabelError, match=r"a\.npz: no labels: ") as caught:
            read_labels(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "meta", ["{", "[1]", "{}", '{"format": 1}', '{"format": 2, "problem": "tsp"}',
             '{"format": 1, "problem": "tsp", "recipe": "tsp-uniform"}',
             '{"format": 1, "problem": "tsp", "recipe": "tsp-uniform", "seed": -1}'],
)  # fmt: skip
def test_meta_data_that_is_not_understood_is_one_line(meta: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", meta=np.array(meta), tour=TOURS)
    with pytest.raises(LabelError, match=r"a\.npz: (.*meta data|label format 2)"):
        read_labels(str(tmp_path / "a.npz"))
