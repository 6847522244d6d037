from __future__ import annotations

import numpy as np

from landscaper_hpc.topology.blocks.boxes import Boxes
from landscaper_hpc.topology.blocks.shells import Shell, shell_of

SHAPE = (5, 7, 4)


def test_labels_are_looked_up_on_faces() -> None:
    boxes = Boxes(SHAPE, (3, 4, 4))
    core = boxes.core(0)
    labels = np.arange(48, dtype=np.int32).reshape(3, 4, 4)
    shell = Shell(core, {(0, 1): labels[-1], (1, 1): labels[:, -1]}, np.arange(48) * 10)
    inside = np.arange(np.prod(SHAPE)).reshape(SHAPE)[core]
    asked = np.concatenate([inside[-1].reshape(-1), inside[:, -1].reshape(-1)])
    expected = np.concatenate([labels[-1].reshape(-1), labels[:, -1].reshape(-1)])
    shuffled = np.random.default_rng(0).permutation(len(asked))
    for order in (np.arange(len(asked)), shuffled):
        np.testing.assert_array_equal(shell.labels_of(asked[order], SHAPE), expected[order])
        np.testing.assert_array_equal(shell.lead_to(asked[order], SHAPE), expected[order] * 10)


def test_a_shell_has_the_faces_on_which_other_blocks_lie() -> None:
    boxes = Boxes(SHAPE, (2, 4, 4))
    number = 2  # rows 2 and 3: blocks before, after and beside it
    ghosted = np.arange(4 * 5 * 4, dtype=np.int32)  # rows 1 ... 4, columns 0 ... 4
    shell = shell_of(~ghosted, np.arange(80), boxes, number)
    core = ghosted.reshape(4, 5, 4)[1:3, :4]
    assert shell.core == boxes.core(number)
    assert shell.faces.keys() == {(0, -1), (0, 1), (1, 1)}
    for (axis, side), labels in shell.faces.items():
        np.testing.assert_array_equal(labels, np.take(core, 0 if side < 0 else -1, axis))
