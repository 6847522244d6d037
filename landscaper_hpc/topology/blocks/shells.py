"""Labels on the faces of blocks, which the blocks around them ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.blocks.boxes import Boxes
from landscaper_hpc.topology.kernels.compiled import jit


@dataclass(frozen=True)
class Shell:
    """Labels on some faces of a block's core. `nodes` gives each label's vertex: a minimum of the block or an exit."""

    core: tuple[slice, ...]
    faces: dict[tuple[int, int], NDArray[np.int32]]
    nodes: NDArray[np.int64]

    def lead_to(self, vertices: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The minimum or exit at the end of the descent from each vertex on the faces, as flat ids."""
        return np.asarray(self.nodes[self.labels_of(vertices, shape)])

    def labels_of(self, vertices: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int32]:
        """The label of each vertex on the faces."""
        result = np.full(len(vertices), -1, np.int32)
        starts, sizes = np.array([(s.start, s.stop - s.start) for s in self.core]).T
        for (axis, side), labels in self.faces.items():
            edge = 0 if side < 0 else sizes[axis] - 1
            _look_up(vertices, np.array(shape), starts, sizes, axis, edge, labels.reshape(-1), result)
        if (result < 0).any():
            raise AssertionError("a vertex was asked for that lies on no stored face")
        return result


@jit
def _look_up(
    vertices: Any, shape: Any, starts: Any, sizes: Any, axis: int, edge: int, labels: Any, result: Any
) -> None:
    """For the vertices on one face of the core that have no result yet: their label.

    Most vertices follow another one of their row, which saves all divisions."""
    n = shape.size
    first = last = shift = np.int64(0)
    on = False
    for i in range(vertices.size):
        if result[i] >= 0:
            continue
        vertex = vertices[i]
        if vertex < first or vertex >= last:
            # the part of its row that is on the face, and where its labels are; or how far its row is off
            x = vertex % shape[n - 1]
            first = vertex - x
            last = first + shape[n - 1]
            stride = 1
            shift = -first
            on = True
            if axis == n - 1:
                first = vertex
                last = vertex + 1
                shift = -vertex
                on = x - starts[n - 1] == edge
            else:
                shift -= starts[n - 1]
                first += starts[n - 1]
                last = first + sizes[n - 1]
                stride = sizes[n - 1]
                if vertex < first or vertex >= last:
                    first = last = vertex
                    on = False
            rest = vertex // shape[n - 1]
            for d in range(n - 2, -1, -1):
                x = rest % shape[d] - starts[d]
                rest //= shape[d]
                if d == axis:
                    on &= x == edge
                else:
                    on &= (x >= 0) & (x < sizes[d])
                    shift += x * stride
                    stride *= sizes[d]
        if on:
            result[i] = labels[vertex + shift]


def shell_of(root: NDArray[np.int32], nodes: NDArray[np.int64], boxes: Boxes, number: int) -> Shell:
    """What the blocks around block `number` may ask for, from its labels (see `basins.Basins`) and their vertices."""
    core, ghosted = boxes.core(number), boxes.ghosted(number)
    labels = root.reshape([s.stop - s.start for s in ghosted])
    inner = labels[tuple(slice(c.start - g.start, c.stop - g.start) for c, g in zip(core, ghosted, strict=True))]
    faces = {}
    for axis, side in {(d, o) for _, offset in boxes.neighbours(number) for d, o in enumerate(offset) if o}:
        # of one axis, the face is a point
        faces[axis, side] = np.asarray(np.invert(inner[(slice(None),) * axis + (0 if side < 0 else -1,)]))
    return Shell(core, faces, nodes)
