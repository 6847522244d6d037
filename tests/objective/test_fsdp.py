"""Models sharded by FSDP against the same models whole."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from sharded_rank import found, task
from torch import nn

from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.loading import load_objective
from landscaper_hpc.objective.objective import Objective, Task

pytestmark = pytest.mark.processes

SCRIPT = Path(__file__).parents[1] / "sharded_rank.py"


@pytest.fixture(scope="module", params=[3])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    size, folder = request.param, tmp_path_factory.mktemp("ranks")
    torch.manual_seed(8)
    theta = {name: p + 0.1 * torch.randn_like(p) for name, p in task().model.state_dict().items()}
    theta["4.weight"] = theta["2.weight"]
    torch.save(theta, folder / "theta.pt")
    processes = [Forked([rank, size, folder], SCRIPT, stderr=subprocess.PIPE) for rank in range(size)]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()
    return size, folder


def whole(folder: Path, shape: str) -> Objective:
    return load_objective(SCRIPT, folder / "theta.pt", options={"shape": shape})


@pytest.mark.parametrize(("data", "shape"), [("all", "batches"), ("shares", "one")])
def test_a_sharded_model_gives_what_the_whole_one_gives(ranks: tuple[int, Path], data: str, shape: str) -> None:
    size, folder = ranks
    results: list[dict[str, Any]] = [torch.load(folder / f"{data}-{rank}.pt") for rank in range(size)]
    expected = found(whole(folder, shape), "finite differences")
    hessian = Hessian(whole(folder, shape))
    exact = hessian @ hessian.random(1)
    for result in results:
        assert result["unchanged"]
        assert result["notices"] == []
        assert all(torch.equal(result[key], results[0][key]) for key in expected)  # on all ranks the same bits
        (error,) = {line.rsplit(" ", 1)[1] for line in result["said"] if "relative error" in line}
        assert result["ways"] == ["unrecorded, one point at a time (the model is sharded by FSDP)", 1]
    assert len({str(result["shards"]) for result in results}) > 1  # uneven: nobody has all of it
    result = results[0]
    for key in ("loss", "losses", "gradient"):
        torch.testing.assert_close(result[key], expected[key], rtol=1e-13, atol=1e-14)
    for key, tolerance in (("product", 1e-9), ("values", 1e-8), ("vectors", 1e-5)):
        if key in expected:
            torch.testing.assert_close(result[key], expected[key], rtol=tolerance, atol=tolerance)
    assert 0 < float((result["product"] - exact).norm() / exact.norm()) < 5 * float(error)


def test_what_cannot_work_with_a_sharded_model_says_so(ranks: tuple[int, Path]) -> None:
    size, folder = ranks
    for rank in range(size):
        refused = torch.load(folder / f"refused-{rank}.pt")
        assert set(refused) == {"mode", "group", "uneven", "narrow", "early", "idle"}
        for key in ("mode", "group"):
            assert "sharded by FSDP, whose gradients have no derivative" in refused[key]
            assert "leave out the mode (or give 'finite differences') and the group" in refused[key]
        assert f"different numbers of examples and batches ({12 // size + 3} in 2, " in refused["uneven"]
        assert "leave out its mp_policy" in refused["narrow"]
        assert "shard a model that has not been run" in refused["early"]
        assert "parameters that move nothing" in refused["idle"]


def test_the_older_wrapper_is_refused() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel  # a second, of every collection

    model = FullyShardedDataParallel.__new__(FullyShardedDataParallel)  # making one takes a GPU
    nn.Module.__init__(model)
    with pytest.raises(InputError, match=r"with torch\.distributed\.fsdp\.fully_shard"):
        Objective(Task(model, lambda m, b: m(b), torch.zeros(3)))
