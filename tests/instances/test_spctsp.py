"""Stochastic prize-collecting TSP: what is known when, and that nothing more is used."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.classical.sequential import follow, next_customer
from nco.instances import io, plot
from nco.instances.core import Budget
from nco.instances.registry import solvers
from nco.instances.spctsp import SPCTSP

CASES = st.tuples(st.integers(1, 12), st.integers(0, 10**6))


def shuffled(instance, visited, seed):
    """The same instance with the real prizes of unvisited customers permuted and doubled."""
    left = [k for k in range(1, instance.n + 1) if k not in visited]
    real = np.array(instance.real_prizes)
    real[left] = 2 * np.random.default_rng(seed).permutation(real[left])
    return instance.replace(real_prizes=real)


@given(CASES, st.data())
def test_unrevealed_prizes_cannot_change_the_next_action(case, data):
    n, seed = case
    instance = SPCTSP.generate(n, seed=seed)
    order = data.draw(st.permutations(range(1, n + 1)))
    visited = list(order[: data.draw(st.integers(0, n))])
    plan = list(data.draw(st.permutations(range(1, n + 1))))[: data.draw(st.integers(0, n))]
    other = shuffled(instance, visited, seed)
    assert other.public().digest == instance.public().digest
    assert other.reveal(visited) == instance.reveal(visited)
    one, two = (
        next_customer(i.public(), i.min_prize, plan, visited, i.reveal(visited))
        for i in (instance, other)
    )
    assert one == two
    assert one == 0 or one not in visited


@pytest.mark.parametrize("name", ["insertion", "ruin-recreate"])
def test_solvers_do_not_look_ahead(name):
    """Whole solvers on changed prizes: equal until the first visit that shows a change."""
    solver = solvers.load(name)()
    for seed in range(4):
        instance = SPCTSP.generate(14, seed=seed)
        first = solver.solve(instance, Budget(iterations=200), seed=1).solution
        for seen in range(len(first)):
            other = shuffled(instance, first[:seen], seed)
            second = solver.solve(other, Budget(iterations=200), seed=1).solution
            assert second[:seen] == first[:seen]
            assert second[seen : seen + 1] == first[seen : seen + 1]


@given(CASES)
def test_following_any_plan_is_feasible(case):
    n, seed = case
    instance = SPCTSP.generate(n, seed=seed)
    for plan in ([], list(range(1, n + 1))):
        assert instance.violations(follow(instance, plan)) == []


@given(CASES, st.data())
def test_following_is_one_decision_after_another(case, data):
    n, seed = case
    instance = SPCTSP.generate(n, seed=seed)
    plan = list(data.draw(st.permutations(range(1, n + 1))))[: data.draw(st.integers(0, n))]
    visited = []
    while k := next_customer(
        instance.public(), instance.min_prize, plan, visited, instance.reveal(visited)
    ):
        visited.append(k)
    assert follow(instance, plan) == visited


def visit_by_visit(instance, plan):
    """What following a plan says, word by word: everything is looked at anew at every visit."""
    length, visited = instance.distances.pairs, []
    while True:
        at, left = [0, *visited][-1], [k for k in range(1, instance.n + 1) if k not in visited]
        found = sum(instance.real_prizes[k] for k in visited)
        ahead = [k for k in plan if k in left]
        if instance.enough([found]):
            after = [*ahead[1:], 0]
            detour = {k: length(at, k) + length(k, j) - length(at, j)
                      for k, j in zip(ahead, after, strict=False)}  # fmt: skip
            on = [k for k in ahead if detour[k] <= instance.penalties[k]]
        elif ahead or not left:
            on = ahead
        else:
            cost = {k: length(at, k) + length(k, 0) - length(at, 0) - instance.penalties[k]
                    for k in left}  # fmt: skip
            due = instance.min_prize - found
            rate = {k: c / np.clip(instance.prizes[k], 1e-12, due) if c > 0 else c
                    for k, c in cost.items()}  # fmt: skip
            on = [min(left, key=rate.__getitem__)]
        if not on:
            return visited
        visited.append(on[0])


@given(CASES, st.data())
def test_plans_are_followed_word_by_word(case, data):
    n, seed = case
    instance = SPCTSP.generate(n, seed=seed, penalty_scale=data.draw(st.sampled_from([0.5, 4.0])))
    plan = list(data.draw(st.permutations(range(1, n + 1))))[: data.draw(st.integers(0, n))]
    assert follow(instance, plan) == visit_by_visit(instance, plan)


def test_following_and_executing_reveal_no_prize_again_and_again(monkeypatch):
    n, looked, reveal = 2000, [], SPCTSP.reveal
    monkeypatch.setattr(
        SPCTSP, "reveal", lambda self, prefix: looked.append(len(prefix)) or reveal(self, prefix)
    )
    instance = SPCTSP.generate(n, seed=1)
    poor = instance.replace(real_prizes=np.r_[0.0, np.full(n, 1.0 / n)])
    for run in (lambda: follow(poor, range(1, n)), lambda: poor.execute(range(1, n + 1))):
        looked.clear()
        assert len(run()) == n
        assert sum(looked) <= 3 * n


@pytest.mark.parametrize("visits", [[1, 1], [0], [4], [1.5], [[1]]])
def test_only_customers_are_revealed_once(visits):
    instance = SPCTSP.generate(3, seed=1)
    for ask in (instance.reveal, instance.execute):
        with pytest.raises(ValueError, match="customer"):
            ask(visits)


@pytest.mark.parametrize("n", [63, 64, 65, 200])
def test_planned_customers_are_passed_by_until_one_is_worth_its_detour(n):
    """However far ahead it is; the next one in the plan counts for the detour, or the depot."""
    instance = SPCTSP(
        coords=np.random.default_rng(1).random((n + 1, 2)),
        prizes=[0] + [1] * n,
        real_prizes=[0] + [1] * n,
        penalties=[0.0] * n + [5.0],
    )
    public = instance.public()
    assert next_customer(public, 1, range(2, n + 1), [1], [1.0]) == n
    assert next_customer(public, 1, range(2, n), [1], [1.0]) == 0
    assert follow(instance, range(1, n + 1)) == [1, n]


@given(CASES)
def test_execute_stops_as_soon_as_it_may(case):
    n, seed = case
    instance = SPCTSP.generate(n, seed=seed)
    visited = instance.execute(range(1, n + 1))
    real = instance.real_prizes
    assert visited == list(range(1, len(visited) + 1))
    assert instance.violations(visited) == []
    if visited:
        assert real[visited[:-1]].sum() < 1
    assert len(visited) == n or real[visited].sum() >= 1 - 1e-9


def test_public_hides_the_real_prizes():
    instance = SPCTSP.generate(20, seed=1)
    assert "real_prizes" not in instance.public().data()
    assert "real" not in repr(instance)
    assert (instance.public().prizes == instance.prizes).all()
    ratio = instance.real_prizes[1:] / instance.prizes[1:]
    assert ratio.min() >= 0
    assert ratio.max() <= 2
    with pytest.raises(ValueError, match="visited 2 times"):
        instance.reveal([1, 1])


def test_too_little_real_prize():
    instance = SPCTSP(
        coords=np.zeros((3, 2)),
        prizes=[0, 1, 1],
        penalties=[0, 2, 3],
        real_prizes=[0, 0.5, 0.6],
    )
    assert instance.violations([1]) == ["prize 0.5 < minimum 1"]
    assert instance.violations([1, 2]) == []
    assert instance.objective([2]) == 2
    # All visited is enough where even that has too little prize.
    poor = instance.replace(real_prizes=[0, 0.1, 0.1])
    assert poor.violations([2, 1]) == []
    assert follow(poor, [1]) == [1, 2]


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_files_and_picture(tmp_path, suffix):
    instance = SPCTSP.generate(9, seed=3)
    io.write(instance, tmp_path / f"x{suffix}")
    again = io.read(tmp_path / f"x{suffix}")
    assert (again.problem, again.digest) == ("spctsp", instance.digest)
    assert "(2 of 9 visited)" in plot.plot(instance, [3, 1]).get_title()
