"""SchNet and DimeNet++ of torch-geometric, in the sizes that their authors use on QM9.

Which atoms are near each other, and which pairs of them meet, is found here: torch-geometric's own ways need pyg-lib,
torch-cluster and torch-sparse, compiled for the torch that is there.
"""

from typing import Any

import torch
from torch import Tensor, nn

from landscaper_hpc.errors import InputError

SCHNET_CUTOFF, DIMENET_CUTOFF = 10.0, 5.0  # Å


def schnet() -> nn.Module:
    """Schütt et al., arXiv 1706.08566."""
    models = _models()

    def graph(places: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        near = pairs(places, SCHNET_CUTOFF, of)
        return near, (places[near[0]] - places[near[1]]).norm(dim=-1)

    found: nn.Module = models.SchNet(
        hidden_channels=128, num_interactions=6, num_gaussians=50, cutoff=SCHNET_CUTOFF, interaction_graph=graph
    )
    return found


def dimenet() -> nn.Module:
    """Gasteiger et al., arXiv 2011.14115."""
    models = _models()
    from torch_geometric.nn.models import dimenet as module

    module.radius_graph = lambda places, r, batch, max_num_neighbors: pairs(places, r, batch)
    module.triplets = meetings
    found: nn.Module = models.DimeNetPlusPlus(
        hidden_channels=128,
        out_channels=1,
        num_blocks=4,
        int_emb_size=64,
        basis_emb_size=8,
        out_emb_channels=256,
        num_spherical=7,
        num_radial=6,
        cutoff=DIMENET_CUTOFF,
    )
    return found


def pairs(places: Tensor, cutoff: float, of: Tensor) -> Tensor:
    """Two atoms of the same molecule, no further apart, both ways, (2, pairs)."""
    away = (places[:, None] - places[None]).square().sum(-1)
    near = (of[:, None] == of) & (away <= cutoff**2)
    return near.fill_diagonal_(False).nonzero().T


def meetings(near: Tensor, num_nodes: int) -> tuple[Tensor, ...]:
    """Pairs j → i and k → j that meet in j, k not i, as torch-geometric's `triplets` gives them: i and j of every pair,
    then of every meeting i, j, k, and the numbers of its pairs k → j and j → i."""
    j, i = near
    into = torch.bincount(i, minlength=num_nodes)
    sorted_ = torch.argsort(i, stable=True)  # pairs by the atom that they lead to
    count = into[j]
    ji = torch.arange(len(j), device=j.device).repeat_interleave(count)
    place = torch.arange(len(ji), device=j.device) - (count.cumsum(0) - count).repeat_interleave(count)
    kj = sorted_[(into.cumsum(0) - into)[j][ji] + place]
    kept = j[kj] != i[ji]
    kj, ji = kj[kept], ji[kept]
    return i, j, i[ji], j[ji], j[kj], kj, ji


def _models() -> Any:
    try:
        from torch_geometric.nn import models
    except ImportError as error:
        raise InputError(f"QM9 needs torch-geometric: pip install 'landscaper-hpc[molecules]' ({error})") from error
    return models
