"""What does not depend on the moving parameters is computed once for each batch of data, where there is room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from problems import transformer_task
from torch import Tensor, nn
from torch.fx import GraphModule

from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.losses.evaluate import evaluation_mode, losses
from landscaper_hpc.objective.objective import Objective, Task
from landscaper_hpc.recording import kept
from landscaper_hpc.recording.kept import Kept, with_constants
from landscaper_hpc.recording.record import record

CPU = torch.device("cpu")


def operations(recorded: GraphModule) -> list[str]:
    return [str(node.target).split(".")[1] for node in recorded.graph.nodes if "aten" in str(node.target)]


def test_all_before_what_moves_is_a_constant_through_normalisation_and_attention() -> None:
    objective = Objective(transformer_task(), only=["out.*"])
    recorded = record(objective.loss, objective.parameters)
    assert "native_layer_norm" in operations(recorded)  # else there is nothing to see here
    short = with_constants(recorded)
    assert not {"native_layer_norm", "embedding"} & set(operations(short))
    assert not [name for name in operations(short) if "attention" in name]
    assert operations(short).count("addmm") == 1
    for scale in (1.0, -0.3):
        params = {name: scale * p for name, p in objective.parameters.items()}
        for _ in range(2):
            assert torch.equal(short(params), objective.loss(params).detach())


def norm_and_head(argument: Any) -> Tensor:
    params, (x,) = argument
    return (nn.functional.layer_norm(x, [3]).exp() @ params["w"]).sum()


@pytest.mark.parametrize(("room", "first", "later"), [(1 << 20, 2, 0), (80, 3, 1), (0, 3, 2)])
def test_each_batch_is_computed_once_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch, room: int, first: int, later: int
) -> None:
    monkeypatch.setattr(kept, "room", lambda device: room)  # of two batches that keep 48 bytes each
    batches = [[torch.randn(4, 3).double()[:2]], [torch.randn(2, 3).double()]]
    counted: list[int] = []

    class Counting(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            if n.target is torch.ops.aten.exp.default:
                counted.append(1)
            return super().run_node(n)

    def ready(module: GraphModule, _: Any) -> Any:
        return lambda argument: Counting(module).run(argument)

    w = {"w": torch.randn(3).double()}
    found = Kept(record(norm_and_head, (w, batches[0])), ready, CPU)
    if found._still is not None:
        still = found._still
        found._still = lambda argument: Counting(still).run(argument)  # type: ignore[assignment]
    for expected in (first, later):
        counted.clear()
        for i, data in enumerate(batches):
            assert torch.equal(found(w, i, data), norm_and_head((w, data)))
        assert len(counted) == expected


@pytest.mark.thorough
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("several", [False, True])
def test_losses_have_the_same_bits_whether_there_is_room_or_not(
    monkeypatch: pytest.MonkeyPatch, batch: int, several: bool
) -> None:
    def made() -> Objective:
        task = transformer_task()
        if several:
            task = Task(task.model, task.loss, list(task.data.split(1)))
        return Objective(task, precision="float32", only=["out.*"])

    objective = made()
    directions = random_directions(objective, 2)
    points = np.random.default_rng(0).uniform(-1, 1, (9, 2))
    with_room = losses(objective, directions, points, batch)
    assert evaluation_mode(objective, directions, batch).startswith("vmap" if batch > 1 else "one point")
    monkeypatch.setattr(kept, "room", lambda device: 0)
    assert losses(made(), directions, points, batch).tobytes() == with_room.tobytes()


def test_what_is_kept_is_not_written_into() -> None:
    """Rewritten recordings add up in the memory of a product, which may be one that does not move."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    task = Task(model, lambda m, x: m(x).square().sum(dim=1), torch.randn(8, 3))
    objective = Objective(task, only=["2.bias", "4.*"])
    directions = random_directions(objective, 1)
    points = np.array([[0.3], [0.3], [0.3], [0.1], [0.3], [0.2], [0.3], [0.3]])
    for batch in (1, 2):
        values = losses(objective, directions, points, batch)
        assert len(set(values[points[:, 0] == 0.3])) == 1
        there = {name: p + 0.3 * directions.vectors[name][0] for name, p in objective.parameters.items()}
        assert values[0] == pytest.approx(float(objective.loss(there)), rel=1e-12)
