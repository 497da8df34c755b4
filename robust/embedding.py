"""The value network inside a mixed-integer program, exactly.

Each ReLU ``z = max(0, a)`` with ``L <= a <= U`` becomes ``z >= a, z >= 0, z <= U d,
z <= a - L (1 - d)`` with a binary d, and neither binary nor rows where the bounds decide it
(M. Fischetti and J. Jo, Deep neural networks and mixed integer linear optimization,
Constraints 23, 2018). Bounds come from intervals over the columns below. With binary first
stages an item's embedding takes two values, and the mean over items is linear in x; with a
fixed first stage, an item network is piecewise linear in what the scenario does to the item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from nco.robust.encoding import Encoding
from nco.robust.model import Indices, Model
from nco.robust.network import StreamEncoder, ValueNetwork

Vector = NDArray[np.float64]
Layers = list[tuple[Vector, Vector]]


@dataclass(frozen=True)
class Affine:
    """``constant + matrix x[columns]`` [k].

    Parameters
    ----------
    columns
        Columns of the model [c].
    matrix
        Coefficients [k, c].
    constant
        Constants [k].
    """

    columns: Indices
    matrix: Vector
    constant: Vector

    @classmethod
    def of(cls, constant: Vector) -> Affine:
        """Constants only."""
        k = len(constant)
        return cls(np.zeros(0, dtype=np.intp), np.zeros((k, 0)), np.asarray(constant, float))

    @classmethod
    def joined(cls, parts: Sequence[Affine]) -> Affine:
        """Parts one below the other."""
        columns = np.concatenate([p.columns for p in parts])
        matrix = np.zeros((sum(len(p.constant) for p in parts), len(columns)))
        row = column = 0
        for p in parts:
            matrix[row : row + len(p.constant), column : column + len(p.columns)] = p.matrix
            row, column = row + len(p.constant), column + len(p.columns)
        return cls(columns, matrix, np.concatenate([p.constant for p in parts]))

    def then(self, weight: Vector, bias: Vector) -> Affine:
        """A linear layer on top."""
        return Affine(self.columns, weight @ self.matrix, weight @ self.constant + bias)

    def interval(self, model: Model) -> tuple[Vector, Vector]:
        """Smallest and largest values [k] within the columns' bounds."""
        if not len(self.columns):
            return self.constant, self.constant
        lower, upper = model.bounds(self.columns)
        plus, minus = np.maximum(self.matrix, 0.0), np.minimum(self.matrix, 0.0)
        return (
            self.constant + plus @ lower + minus @ upper,
            self.constant + plus @ upper + minus @ lower,
        )


def relu(model: Model, a: Affine, *, exact: bool = True) -> Affine:
    """``max(0, a)`` as columns of the model; only undecided signs cost a binary.

    Parameters
    ----------
    model
        Gets columns and rows.
    a
        Expressions over its columns.
    exact
        If False, columns may be larger than that, and nothing costs a binary.
    """
    low, high = a.interval(model)
    # Values within a hair of zero are zero; the rows' tolerances are larger.
    hair = 1e-9
    undecided = np.flatnonzero((low < -hair) & (high > hair))
    active = np.flatnonzero(low >= -hair)
    active = active[high[active] > hair]
    used = np.concatenate([active, undecided])
    if not len(a.columns):
        return Affine.of(np.maximum(0.0, a.constant))
    # One column per value, so that the rows below stay sparse.
    pre = model.add_columns(len(used), low[used], high[used])
    model.add_rows(
        np.hstack([a.matrix[used], -np.eye(len(used))]),
        np.concatenate([a.columns, pre]),
        -a.constant[used],
        -a.constant[used],
    )
    k = len(undecided)
    out = pre[: len(active)]
    if k and not exact:
        z = model.add_columns(k, 0.0, high[undecided])
        eye = sparse.identity(k)
        columns = np.concatenate([z, pre[len(active) :]])
        model.add_rows(sparse.hstack([eye, -eye]), columns, 0.0, np.inf)
        out = np.concatenate([out, z])
    elif k:
        pre, bottom, top = pre[len(active) :], low[undecided], high[undecided]
        z = model.add_columns(k, 0.0, top)
        d = model.add_columns(k, 0.0, 1.0, whole=True)
        eye, none = sparse.identity(k), sparse.csr_array((k, k))
        model.add_rows(
            sparse.vstack([
                sparse.hstack([eye, -eye, none]),
                sparse.hstack([eye, none, -sparse.diags_array(top)]),
                sparse.hstack([eye, -eye, -sparse.diags_array(bottom)]),
            ]),
            np.concatenate([z, pre, d]),
            np.concatenate([np.zeros(k), np.full(2 * k, -np.inf)]),
            np.concatenate([np.full(k, np.inf), np.zeros(k), -bottom]),
        )  # fmt: skip
        out = np.concatenate([out, z])
    matrix = np.zeros((len(low), len(used)))
    matrix[used, np.arange(len(used))] = 1.0
    return Affine(out, matrix, np.zeros(len(low)))


def feed(model: Model, inputs: Affine, layers: Layers) -> Affine:
    """A network with ReLUs between its layers."""
    for k, (weight, bias) in enumerate(layers):
        inputs = (relu(model, inputs) if k else inputs).then(weight, bias)
    return inputs


@dataclass(frozen=True)
class Outputs:
    """A network's outputs over columns of a model.

    Parameters
    ----------
    value
        The value [1], in the instance's units.
    score
        The feasibility score [1].
    """

    value: Affine
    score: Affine


def _head(
    model: Model, network: ValueNetwork, inputs: Affine, scale: float, *, exact: bool = True
) -> Outputs:
    layers = layers_of(network.head)
    if network.config.concave:
        hidden = relu(model, inputs.then(*layers[0]), exact=exact)
        ((weight, bias),) = layers_of([network.skip])
        down = network.down.detach().double().abs().numpy()
        out = Affine.joined([inputs, hidden]).then(np.hstack([weight, -down]), bias)
        # What is linear and what is hidden share columns.
        out = _compact(out)
    else:
        out = feed(model, inputs, layers)
    value, score = (Affine(out.columns, out.matrix[k : k + 1], out.constant[k : k + 1])
                    for k in range(2))  # fmt: skip
    return Outputs(Affine(value.columns, scale * value.matrix, scale * value.constant), score)


def smallest(model: Model, parts: Sequence[Affine]) -> tuple[Indices, Indices]:
    """A column for the smallest of all entries, and binaries that say which one it is.

    Parameters
    ----------
    model
        Gets columns and rows.
    parts
        Expressions over its columns.

    Returns
    -------
    The column [1] and one binary per entry, in order; exactly one of them is 1.
    """
    a = Affine.joined(parts)
    low, high = a.interval(model)
    v = model.add_columns(1, low.min(), high.min())
    k = len(low)
    sharp = np.hstack([a.matrix, -np.ones((k, 1))])
    model.add_rows(sharp, np.concatenate([a.columns, v]), -a.constant, np.inf)
    # Entries that can never be the smallest need no binary that may be 1.
    d = model.add_columns(k, 0.0, (low <= high.min()).astype(float), whole=True)
    big = high - low.min()
    model.add_rows(
        np.hstack([sharp, np.diag(big)]),
        np.concatenate([a.columns, v, d]),
        -np.inf,
        big - a.constant,
    )
    model.add_rows(np.ones((1, k)), d, 1.0, 1.0)
    return v, d


def layers_of(layers: Any) -> Layers:
    """Weights and biases of linear layers."""
    out = []
    for layer in layers:
        weight = layer.weight.detach().double().numpy()
        bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()
        out.append((weight, bias))
    return out


def _plain(layers: Layers, h: Vector) -> Vector:
    for k, (weight, bias) in enumerate(layers):
        h = (np.maximum(h, 0.0) if k else h) @ weight.T + bias
    return h


def _item_layers(stream: StreamEncoder, chosen: bool) -> Layers | None:
    """The item network for items in or out of x, without the input for x; None: nothing."""
    choice = stream.config.choice
    if choice == "gate" and not chosen:
        return layers_of(stream.off)
    if choice == "mask" and not chosen:
        return None
    layers = layers_of(stream.item)
    if choice == "input":
        (weight, bias), *rest = layers
        layers = [(weight[:, :-1], bias + float(chosen) * weight[:, -1]), *rest]
    return layers


def network_values(
    network: ValueNetwork, encoding: Encoding, x: Vector, xi: Vector
) -> tuple[Vector, Vector]:
    """Value in the instance's units and score [a, b] at first stages and scenarios.

    Parameters
    ----------
    network, encoding
        The network, and the instance as it sees it.
    x, xi
        First stages [a, n] and scenarios [b, q].
    """

    def tensor(array: Vector) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]

    with torch.no_grad():
        value, score = network(
            [tensor(f) for f in encoding.features],
            tensor(encoding.inputs(x)),
            [None if u is None else tensor(u) for u in encoding.scenario(xi)],
        )
    shape = (len(x), len(xi))
    values = encoding.scale * value[0].double().numpy()
    return np.broadcast_to(values, shape), np.broadcast_to(score[0].double().numpy(), shape)


def embed_first_stage(
    model: Model,
    network: ValueNetwork,
    encoding: Encoding,
    x: Indices,
    xi: Vector,
    *,
    exact: bool = True,
) -> Outputs:
    """Value and score over first-stage columns x, at one scenario.

    Parameters
    ----------
    model
        Gets columns and rows.
    network, encoding
        The network, and the instance as it sees it.
    x
        The first stage's columns that the network sees [n].
    xi
        The scenario [q].
    exact
        If False, and the network is concave, outputs may be smaller than the network's; where
        larger is better they are not, and no binaries are needed.
    """
    parts = []
    numbers = encoding.scenario(xi[None])
    streams: Any = network.streams
    for stream, features, u in zip(streams, encoding.features, numbers, strict=True):
        h = features if u is None else np.concatenate([features, u[0]], axis=1)
        on = _plain(_item_layers(stream, True) or [], h)
        off_layers = _item_layers(stream, False)
        off = np.zeros_like(on) if off_layers is None else _plain(off_layers, h)
        if stream.config.choice == "none":
            part = Affine.of(on.mean(0))
        else:
            slope = (on - off).T / (len(h) * np.broadcast_to(encoding.width, len(h)))
            low = np.broadcast_to(encoding.low, len(h))
            part = Affine(x, slope, off.mean(0) - slope @ low)
        parts.append(feed(model, part, layers_of(stream.post)))
    return _head(model, network, Affine.joined(parts), encoding.scale, exact=exact)


def embed_scenario(
    model: Model, network: ValueNetwork, encoding: Encoding, x: Vector, xi: Indices
) -> Outputs:
    """Value and score over columns xi, at one first stage.

    Parameters
    ----------
    model
        Gets columns and rows; the columns xi have finite bounds.
    network, encoding
        The network, and the instance as it sees it.
    x
        The first stage [n].
    xi
        Columns of the scenario [q].
    """
    parts = []
    z = encoding.inputs(x)
    streams: Any = network.streams
    for k, stream in enumerate(streams):
        features, base, slope = encoding.features[k], encoding.base[k], encoding.slope[k]
        nets = {on: _item_layers(stream, on) for on in (True, False)}
        constant = np.zeros(stream.config.embedding)
        pieces: list[Affine] = []
        for i, fixed in enumerate(features):
            on = float(z[i]) if stream.config.choice != "none" else 1.0
            for layers, share in ((nets[True], on), (nets[False], 1.0 - on)):
                if layers is None or abs(share) <= 1e-6:
                    continue
                if base is None or slope is None:
                    constant += share * _plain(layers, fixed)
                    continue
                used = np.flatnonzero(np.abs(slope[i]).sum(0))
                matrix = np.zeros((len(fixed) + len(base[i]), len(used)))
                matrix[len(fixed) :] = slope[i][:, used]
                inputs = Affine(xi[used], matrix, np.concatenate([fixed, base[i]]))
                piece = feed(model, inputs, layers)
                pieces.append(Affine(piece.columns, share * piece.matrix, share * piece.constant))
        n = len(features)
        total = Affine(
            np.concatenate([np.zeros(0, dtype=np.intp), *(p.columns for p in pieces)]),
            np.hstack([np.zeros((len(constant), 0)), *(p.matrix for p in pieces)]) / n,
            (constant + sum((p.constant for p in pieces), np.zeros(len(constant)))) / n,
        )
        parts.append(feed(model, _compact(total), layers_of(stream.post)))
    return _head(model, network, Affine.joined(parts), encoding.scale)


def _compact(a: Affine) -> Affine:
    """The same with every column once."""
    columns, place = np.unique(a.columns, return_inverse=True)
    matrix = np.zeros((len(a.constant), len(columns)))
    np.add.at(matrix.T, place, a.matrix.T)
    return Affine(columns.astype(np.intp), matrix, a.constant)
