"""Every uncertainty set keeps the promises that methods rely on."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import nco
from nco.instances import registry
from nco.robust.model import Model
from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
from nco.robust.uncertainty import (
    Box,
    BudgetSet,
    Ellipsoid,
    FactorModel,
    FiniteScenarios,
    Intersection,
    Polyhedron,
    Product,
    TooManyError,
    UncertaintySet,
    _optimum,
    from_dict,
)

LOADINGS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
MANY, ONES = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), np.ones(3)
ROUND, BUDGET = (
    Ellipsoid(np.array([1.0, 2.0]), np.array([[1.0, 0.2], [0.0, 2.0]])),
    BudgetSet(4, 1.5),
)
SHORT = Box(np.zeros(4), np.full(4, 0.8))
LISTED = FiniteScenarios([[0.0, 1.0], [1.0, 0.0], [0.2, 0.2]])
#: A set, and how many vertices it has; None where there is no end of them.
SETS = {
    "box": (Box([0.0, 0.0, 1.0], [1.0, 2.0, 1.0]), 4),
    "budget": (BUDGET, 17),
    "cardinality": (BudgetSet(4, 2, cardinality=True), 11),
    "polyhedron": (Polyhedron(np.ones((1, 3)), [1.5], lower=np.zeros(3), upper=np.ones(3)), 10),
    "ellipsoid": (ROUND, None),
    "scenarios": (LISTED, 3),
    "factors": (FactorModel([1.0, 2.0, 3.0], LOADINGS, Box([-1.0, -1.0], [1.0, 1.0])), 4),
    "round factors": (FactorModel([1.0, 2.0, 3.0], LOADINGS, ROUND), None),
    "more factors than entries": (FactorModel([1.0, 2.0], MANY, Box(-ONES, ONES)), 7),
    "more round factors": (FactorModel([1.0, 2.0], MANY, Ellipsoid(0 * ONES, np.eye(3))), None),
    "product": (Product((BudgetSet(2, 1.0), Box([0.0], [2.0]))), 6),
    "round product": (Product((BudgetSet(2, 1.0), ROUND)), None),
    "box and budget": (Intersection((SHORT, BUDGET)), 17),
    "budget and box": (Intersection((BUDGET, SHORT)), 17),
    "ball and box": (Intersection((ROUND, Box([0.0, 0.0], [1.5, 1.5]))), None),
    "rows and cardinality": (
        Intersection((
            Polyhedron([[1.0, 1.0, 0.0, 0.0]], [1.0], lower=np.zeros(4), upper=np.ones(4)),
            BudgetSet(4, 2, cardinality=True),
        )), 10,
    ),
    "factors and box": (
        Intersection((
            FactorModel([1.0, 2.0, 3.0], LOADINGS, Box([-1.0, -1.0], [1.0, 1.0])),
            Box([0.5, 0.0, 0.0], [3.0, 9.0, 9.0]),
        )), 4,
    ),
    "more factors and budget": (
        Intersection((FactorModel([0.0, 0.5], MANY, Box(-ONES, ONES)), BudgetSet(2, 1.0))),
        6,  # Three of them are between others.
    ),
    "scenarios and box": (Intersection((Box([0.0, 0.0], [0.5, 1.0]), LISTED)), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_set_agrees_with_itself(name):
    """Samples, projections and worst cases are inside; vertices, rows and forms give them."""
    uncertainty, count = SETS[name]
    rng = np.random.default_rng(0)
    drawn = uncertainty.sample(100, rng)
    assert drawn.shape == (100, uncertainty.dimension)
    assert all(uncertainty.contains(xi) for xi in drawn)
    vertices = None
    if count is None:
        with pytest.raises(TooManyError):
            uncertainty.vertices()
    else:
        vertices = uncertainty.vertices()
        assert len(vertices) == count
        assert all(uncertainty.contains(xi) for xi in vertices)
    low, high = uncertainty.bounds()
    form = uncertainty.binary_form()
    assert (form is None) == (count is None)
    for _ in range(10):
        linear = rng.normal(size=uncertainty.dimension)
        xi, value = uncertainty.worst_case(linear)
        assert uncertainty.contains(xi, 1e-5)
        assert (xi >= low - 1e-5).all()
        assert (xi <= high + 1e-5).all()
        assert value <= (drawn @ linear).min() + 1e-6
        if vertices is not None:
            assert value == pytest.approx((vertices @ linear).min())
        model = Model()
        found = _least(model, uncertainty.add_to(model), linear)
        if uncertainty.exact_rows:
            assert found == pytest.approx(value, abs=1e-6)
        else:
            assert found <= value + 1e-6
        if form is not None:
            model = Model()
            u = model.add_columns(form.matrix.shape[1], 0.0, 1.0, whole=True)
            model.add_rows(form.rows, u, -np.inf, form.row_upper)
            shifted = _least(model, u, form.matrix.T @ linear) + float(linear @ form.base)
            assert shifted == pytest.approx(value, abs=1e-6)
        near = uncertainty.project((xi + linear)[None])[0]
        assert uncertainty.contains(near, 1e-5)


def _least(model, columns, linear):
    """The smallest value of a linear function of columns."""
    if not model.columns:
        return 0.0
    cost = np.zeros(model.columns)
    cost[columns] = linear
    return float(cost @ _optimum(model, cost))


@pytest.mark.parametrize(("values", "what"), [
    ({"type": "ball"}, "uncertainty set 'ball' not understood; known: box, budget"),
    ({"type": ["box"]}, "not understood; known: box"),
    ({"type": "product", "parts": 3}, "parts are a list"),
    ({"type": "product", "parts": [3]}, "uncertainty set 3 not understood"),
    ({"type": "product", "parts": []}, "at least one set"),
    ({"type": "intersection", "parts": []}, "sets of one dimension"),
    ({"type": "factors", "mean": [0], "loadings": [[1]], "factors": 3}, "set 3 not understood"),
    ({"type": "box", "lower": [0.0]}, "set box: needs upper."),
    ({"type": "budget", "dimension": 2}, "set budget: needs gamma."),
    ({"type": "budget", "dimension": 2, "gamma": 1, "gama": 1}, "'gama' not understood; known: d"),
    ({"type": "box", "lower": [1.0], "upper": [0.0]}, "is empty: lower"),
    ({"type": "budget", "dimension": "2", "gamma": 1}, "dimension = '2' not understood"),
    ({"type": "budget", "dimension": 2.5, "gamma": 1}, "dimension = 2.5 not understood"),
    ({"type": "budget", "dimension": 2, "gamma": "1"}, "gamma = '1' is not a number"),
    ({"type": "budget", "dimension": 2, "gamma": 3}, "gamma = 3 is not within 0 and 2"),
    ({"type": "budget", "dimension": 2, "gamma": -1}, "is empty: gamma = -1"),
    ({"type": "scenarios", "points": []}, "is empty: there are no scenarios"),
    ({"type": "polyhedron", "A": [[1.0, 1.0]], "row_upper": [1.0]}, "is unbounded"),
    ({"type": "polyhedron", "A": [[1.0]], "row_upper": [1.0], "lower": [2.0]}, "is empty"),
])  # fmt: skip
def test_a_set_that_is_none_is_refused(values, what):
    with pytest.raises(ValueError, match=what.replace("[", r"\[")):
        from_dict(values)


@pytest.mark.parametrize("parts", [
    (Box([0.0, 0.0], [1.0, 1.0]), Box([2.0, 2.0], [3.0, 3.0])),
    (LISTED, Box([2.0, 2.0], [3.0, 3.0])),
    (Ellipsoid([0.0, 0.0], np.eye(2)), Box([0.9, 0.9], [3.0, 3.0])),
])  # fmt: skip
def test_an_intersection_of_nothing_is_empty(parts):
    with pytest.raises(ValueError, match="the uncertainty set is empty"):
        Intersection(parts)


class _Split(UncertaintySet):
    """Parts of a whole that go to two places; a set as a user writes one."""

    dimension = 2

    def __init__(self, most=1.0):
        self.most = most

    def contains(self, xi, tolerance=1e-6):
        xi = np.asarray(xi)
        return bool((xi >= -tolerance).all() and abs(xi.sum() - self.most) <= tolerance)

    def sample(self, count, rng):
        share = rng.random(count)
        return self.most * np.stack([share, 1.0 - share], 1)

    def vertices(self, most=10_000):
        return self.most * np.eye(2)

    def add_to(self, model):
        xi = model.add_columns(2, 0.0, self.most)
        model.add_rows(np.ones((1, 2)), xi, self.most, self.most)
        return xi

    def worst_case(self, linear):
        xi = self.vertices()[int(np.argmin(linear))]
        return xi, float(linear @ xi)


def _stock(uncertainty):
    """Order x of two goods; what demands ask for beyond that is dear."""
    return TwoStageProblem(
        sense="minimize",
        first_stage=FirstStage(c=[5.0, 4.0], upper=[8.0, 8.0], whole=True),
        recourse=Recourse(q=[15.0, 12.0], T=np.eye(2), W=np.eye(2), row_lower=[2.0, 1.0],
                          h_xi=np.diag([4.0, 3.0])),
        uncertainty=uncertainty,
    )  # fmt: skip


@pytest.mark.parametrize("solver", ["two-stage", "ccg", "k-adaptability"])
@pytest.mark.parametrize("nested", [False, True])
def test_every_method_takes_a_set_of_the_users_own(solver, nested):
    listed = nco.solve(_stock(FiniteScenarios(np.eye(2))), solver="ccg", time_limit=60)
    own = _stock(Intersection((_Split(), Box([0.0, 0.0], [1.0, 1.0]))) if nested else _Split())
    assert own.digest == _stock(own.uncertainty).digest
    assert _stock(_Split()).digest != _stock(_Split(2.0)).digest
    result = nco.solve(own, solver=solver, time_limit=60, iterations=4)
    assert own.violations(result.solution) == []
    assert result.objective >= listed.objective - 1e-6
    if solver in ("two-stage", "ccg") and not nested:
        assert result.status is nco.Status.OPTIMAL
        assert result.objective == pytest.approx(listed.objective)


@pytest.mark.parametrize(("changes", "what"), [
    ({"W": [[1.0, math.nan], [0.0, 1.0]]}, r"W\[0, 1\] = nan is not a finite number"),
    ({"h_xi": [[math.inf, 0.0], [0.0, 1.0]]}, r"h_xi\[0, 0\] = inf is not a finite number"),
    ({"T_xi": {0: [[math.nan, 0.0], [0.0, 1.0]]}}, r"T_xi\[0\]\[0, 0\] = nan is not a finite"),
    ({"q": [15.0, math.nan]}, r"q\[1\] = nan is not a finite number"),
    ({"p": [math.nan, 0.0]}, r"p\[0\] = nan is not a number"),
    ({"whole": [True] * 3}, "whole has shape"),
    ({"T": np.eye(3)}, "T has shape"),
])  # fmt: skip
def test_arrays_of_a_problem_are_checked(changes, what):
    parts = {"q": [15.0, 12.0], "T": np.eye(2), "W": np.eye(2), "row_lower": [2.0, 1.0]}
    with pytest.raises(ValueError, match=what):
        TwoStageProblem(
            first_stage=FirstStage(c=np.ones(2)), recourse=Recourse(**{**parts, **changes}),
            uncertainty=BudgetSet(2, 1.0),
        )  # fmt: skip
    with pytest.raises(ValueError, match="is no UncertaintySet"):
        _stock(3)


def test_a_set_with_factors_gives_an_exact_worst_case():
    """Limits that depend on an intersection with a factor model are no reason to sample."""
    factors = FactorModel([0.4, 0.4], [[0.3, 0.1, 0.2], [-0.1, 0.3, 0.2]], Box(-ONES, ONES))
    problem = _stock(Intersection((factors, BudgetSet(2, 1.2))))
    result = nco.solve(problem, solver="ccg", time_limit=60)
    assert (result.status, result.evaluation) == (nco.Status.OPTIMAL, "exact")
    x = np.array(result.solution["x"], dtype=float)
    drawn = problem.uncertainty.sample(200, np.random.default_rng(1))
    values = problem.recourse_at(x, drawn)[0][0] + problem.first.value(x)
    assert (-values <= result.objective + 1e-6).all()


def test_tangents_of_round_factors_hold_in_the_set():
    uncertainty = SETS["more round factors"][0]
    rng = np.random.default_rng(2)
    for xi in uncertainty.mean + 3 * rng.normal(size=(20, 2)):
        cut = uncertainty.separate(xi)
        assert (cut is None) == uncertainty.contains(xi)
        if cut is not None:
            assert cut[0] @ xi > cut[1]
            assert (uncertainty.sample(200, rng) @ cut[0] <= cut[1] + 1e-6).all()


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_vertices_do_not_depend_on_the_scale_of_rows(scale):
    rows = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    polyhedron = Polyhedron(
        scale * rows, scale * np.array([2.0, 0.5, 0.5, 1.0]), lower=np.zeros(3), upper=np.full(3, 5)
    )
    assert len(polyhedron.vertices()) == 8


def test_sets_of_other_packages_have_names(monkeypatch, caplog):
    """One that takes a name that is there is left out, with a warning."""
    points = [
        SimpleNamespace(name="interval", value="nco.robust.uncertainty:Box", dist=None),
        SimpleNamespace(name="box", value="nco.robust.uncertainty:Ellipsoid", dist=None),
    ]
    monkeypatch.setattr(registry, "plugins", lambda group: points)
    own = registry.Registry("set", "nco.sets", *registry.sets._entries.values())
    monkeypatch.setattr("nco.robust.uncertainty.sets", own)
    bounds = {"lower": [0.0], "upper": [1.0]}
    assert isinstance(from_dict({"type": "interval", **bounds}), Box)
    assert isinstance(from_dict({"type": "box", **bounds}), Box)
    assert "set box is there already" in caplog.text
