"""Decoding: from instances to solutions, for every policy alike.

One engine. Greedy decoding is a beam of width one. All instances of a batch take their
steps together; there is no Python per node row or per instance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nco.bq.network import Network
from nco.bq.state import Fields, Policy, State


def nearest_rows(policy: Policy, state: State, k: int) -> Tensor:
    """Rows [b, markers + k] of the markers and the k best candidates of each state."""
    score = policy.nearness(state).masked_fill(state.index < 0, -torch.inf)
    score[:, : policy.markers] = -torch.inf
    near = score.topk(min(k, state.width - policy.markers), dim=1, sorted=False).indices
    fixed = torch.arange(policy.markers, device=near.device).expand(len(near), -1)
    return torch.cat([fixed, near], 1)


@torch.inference_mode()
def greedy(network: Network, policy: Policy, state: State, k: int = 0) -> Tensor:
    """Recorded actions [b, steps] of always taking the likeliest action.

    Parameters
    ----------
    network, policy
        The model.
    state
        Where to start.
    k
        Number of candidates looked at in every step; 0 for all.
    """
    out = []
    kinds = policy.actions_per_node
    while True:
        live = state.compact(policy.markers)
        if not bool(policy.mask(live).any()):
            break
        state = live
        for _ in range(max(1, (state.width - policy.markers) // 8)):
            rows = None
            view = state
            if 0 < k < state.width - policy.markers:
                rows = nearest_rows(policy, state, k)
                view = state.rows(rows)
            filled = view.index >= 0
            logits = network(policy.features(view), None if bool(filled.all()) else filled)
            action = logits.masked_fill(~policy.mask(view), -torch.inf).argmax(1)
            row, kind = action // kinds, action % kinds
            if rows is not None:
                row = rows.gather(1, row[:, None])[:, 0]
            node = state.index.gather(1, row[:, None])[:, 0]
            out.append(node * kinds + kind)
            state = policy.step(state, row * kinds + kind)
    return torch.stack(out, 1)
