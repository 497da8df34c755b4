"""Models from and to weights files: safetensors, checked against a manifest.

Nothing is ever unpickled. What a weights folder holds: see `nco.weights`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from nco.bq.decoding import Model
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.machine import processor
from nco.weights import ARCHITECTURE, WeightsError, misfit, read_checked, write_checked


def read_model(path: str | Path, problem: str | None = None) -> Model:
    """The model in a weights file, in float32 on the CPU.

    Parameters
    ----------
    path
        A ``.safetensors`` file with its card and manifest beside it.
    problem
        Refuse weights of any other problem.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, for another problem, or not understood.
    """
    path = Path(path)
    card, data = read_checked(path, problem, ARCHITECTURE)
    try:
        policy = load_policy(card["problem"]).POLICY(**card["policy"])
        network = Network(NetworkConfig(**card["network"]))
        tensors = {k: v.float() for k, v in load(data).items()}
        network.load_state_dict(tensors)
        model = Model(network, policy, int(card.get("k", 0)), {"name": path.stem, **card})
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise misfit(path, error) from None
    if not all(bool(torch.isfinite(v).all()) for v in tensors.values()):
        raise WeightsError(f"{path}: weights that are infinite or no numbers; train them anew")
    return model


def write_weights(
    folder: str | Path,
    name: str,
    network: Network,
    problem: str,
    policy: Mapping[str, Any],
    **card: Any,
) -> Path:
    """Write weights in bfloat16 with their card, and enter them in the manifest.

    Parameters
    ----------
    folder
        The weights folder.
    name
        File name without suffix, such as ``tsp-v1``.
    network
        The network.
    problem, policy
        The policy's name and options.
    card
        What else the card says: candidates ``k``, training command, data, steps,
        hardware, measured gaps, licence.
    """
    tensors = {k: v.detach().cpu().bfloat16() for k, v in network.state_dict().items()}
    data = save({k: v.contiguous() for k, v in tensors.items()})
    full = {
        "architecture": ARCHITECTURE,
        "problem": problem,
        "policy": dict(policy),
        "network": network.config.to_dict(),
        "parameters": sum(v.numel() for v in tensors.values()),
        **card,
    }
    return write_checked(folder, name, data, full)


def bf16_pays(device: torch.device) -> bool:
    """Whether inference in bfloat16 is faster there."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        if torch.cpu._is_amx_tile_supported():
            return True
        # Without the instructions every product is emulated, far slower than float32. With
        # them, products are four times as fast on Zen 4, but on Emerald Rapids whose AMX is
        # hidden half as fast: 80 against 150 GFLOPS of one core.
        return torch.cpu._is_avx512_bf16_supported() and "Intel" not in processor()
    return False
