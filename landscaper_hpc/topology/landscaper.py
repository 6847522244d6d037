"""SMAD as Landscaper 1.3.1 computes it, which is not equation 1 of its paper on the merge tree (`metrics.smad`): see
`topopy` for what it is a mean over."""

from __future__ import annotations

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.contour_result import ContourTree


def smad_landscaper(tree: ContourTree, normalize: bool = True, weighted: bool = True) -> float | None:
    """SMAD as Landscaper 1.3.1 computes it; None where it is not defined by Landscaper.

    It is another number than `metrics.smad`: heights are those of arcs of the contour tree, so that a lone minimum has
    one, up to a saddle of maxima. On a perfect bowl it is large (0.2 to 0.4) where `smad` is 0.

    Parameters
    ----------
    tree
        Of a field as Landscaper would see it, on the axis graph, which is Landscaper's on a grid. With another
        connectivity: by the same rules on that graph.
    normalize
        Divide each height by the range of values; without, it is in the values' own unit.
    weighted
        Multiply each height by the share of all vertices that descend to the minimum.

    Returns
    -------
    float or None
        0 where the contour tree has no branch. None where Landscaper raises an error or gives NaN, on some plateaus
        for example, or where the highest vertex is itself a saddle; and where a value is not finite.

    Raises
    ------
    InputError
        For anything but a contour tree.

    Notes
    -----
    Equal to Landscaper's to rounding where its coordinates are np.linspace(-r, r, k) along each axis. Where the first
    two axes differ in length, Landscaper takes points for neighbours that are none (it numbers them in the order of
    `numpy.meshgrid`); this is what it would compute of the right neighbours. Where two edges from a vertex are equally
    steep, rounding of the coordinates decides there.

    References
    ----------
    Landscaper 1.3.1, `LossLandscape.smad`, with topopy 1.0.4.
    """
    if not isinstance(tree, ContourTree):
        raise InputError(f"this number is of a contour tree; found a {type(tree).__name__}: give contour_tree(values)")
    made = tree.as_landscaper
    if made is None:
        return None
    if not made.branches:
        return 0.0
    if not len(made.pairs):
        return None
    values = tree.source.reshape(-1)
    height = np.abs(np.subtract(*values[made.pairs].T.astype(np.float64)))
    if normalize:
        height /= tree.value_range[1] - tree.value_range[0]
    if weighted:
        height *= made.sizes / tree.n_vertices
    return float(height.mean())
