"""Value networks from and to weights files; see `nco.weights`. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from nco.robust.network import ValueConfig, ValueNetwork
from nco.weights import (
    VALUE_ARCHITECTURE,
    default_weights,
    misfit,
    read_checked,
    write_checked,
)


@dataclass(frozen=True)
class ValueModel:
    """A trained value network.

    Parameters
    ----------
    network
        The network, in float32 on the CPU.
    card
        Its card.
    """

    network: ValueNetwork
    card: Mapping[str, Any]


def read_value_model(problem: str, path: str | Path | None = None) -> ValueModel:
    """The value network in a weights file, by default the shipped one.

    Parameters
    ----------
    problem
        What it must be for.
    path
        A ``.safetensors`` file with its card and manifest beside it, or None.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, for another problem, or not understood.
    """
    path = default_weights(problem) if path is None else Path(path)
    card, data = read_checked(path, problem, VALUE_ARCHITECTURE)
    try:
        network = ValueNetwork(ValueConfig(**card["network"]))
        network.load_state_dict({k: v.float() for k, v in load(data).items()})
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise misfit(path, error) from None
    return ValueModel(network.requires_grad_(False).eval(), card)


def write_value_weights(
    folder: str | Path, name: str, network: ValueNetwork, problem: str, **card: Any
) -> Path:
    """Write a value network in float32 with its card, and enter it in the manifest.

    Parameters
    ----------
    folder
        The weights folder.
    name
        File name without suffix, such as ``two-stage-knapsack-v1``.
    network, problem
        The network and what it is for.
    card
        What else the card says: ranges of the inputs, training, measured errors.
    """
    tensors = {k: v.detach().cpu().float().contiguous() for k, v in network.state_dict().items()}
    data = save(tensors)
    full = {
        "architecture": VALUE_ARCHITECTURE,
        "problem": problem,
        "policy": {},
        "network": network.config.to_dict(),
        "parameters": sum(v.numel() for v in tensors.values()),
        "licence": "Apache-2.0",
        **card,
    }
    return write_checked(folder, name, data, full)
