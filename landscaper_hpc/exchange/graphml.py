"""The merge tree as GraphML."""

from __future__ import annotations

import io

import numpy as np

from landscaper_hpc.exchange.graphs import to_networkx
from landscaper_hpc.exchange.subject import Subject


def write(subject: Subject) -> dict[str, bytes]:
    """One file, with the coordinates of every node."""
    import networkx as nx

    graph = to_networkx(subject.tree)
    nodes = [node for _, node in graph.nodes(data=True)]
    for node, place in zip(nodes, subject.alphas(np.array([node["point"] for node in nodes], np.int64)), strict=True):
        node.update({f"alpha_{d}": alpha for d, alpha in enumerate(place.tolist())})
    held = io.BytesIO()
    nx.write_graphml_xml(graph, held)
    return {".graphml": held.getvalue()}
