"""The page on other curvatures: what it says to run is run, in `make test-peers`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from landscaper_hpc import Site, Study, open_landscape, run

PAGE = Path(__file__).parents[2] / "docs" / "curvature.md"
TASK = """
import torch
from torch import nn

from landscaper_hpc import Task


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)).double()


criterion = nn.CrossEntropyLoss()
random = torch.Generator().manual_seed(1)
data = [(torch.randn(24, 3, generator=random, dtype=torch.float64), torch.arange(24) % 2)]


def task():
    return Task(make_model(), lambda model, batch: criterion(model(batch[0]), batch[1]), data)
"""


@pytest.mark.peers
@pytest.mark.processes
def test_the_ggn_of_curvlinops_gives_directions(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    there: dict[str, object] = {}
    exec(TASK, there)
    model, (inputs, _) = there["make_model"](), there["data"][0]
    torch.save(model.state_dict(), tmp_path / "trained.pt")
    code, study = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (tmp_path / "study.yaml").write_text(
        "name: ggn\ntask: task.py\ncheckpoints: [{name: trained, file: trained.pt}]\ngrid: {count: 3, range: 0.1}\n"
        + study
    )
    run(Study.load(tmp_path / "study.yaml"), Site(executor="serial"), tmp_path / "run")
    stored = open_landscape(tmp_path / "run").directions()
    names = [name for name, _ in model.named_parameters()]
    assert sorted(stored.vectors) == sorted(names)
    found = np.hstack([stored.vectors[name].reshape(2, -1) for name in names])
    jacobian = torch.autograd.functional.jacobian(
        lambda *values: torch.func.functional_call(model, dict(zip(names, values, strict=True)), inputs),
        tuple(p.detach() for p in model.parameters()),
    )
    J = torch.cat([part.reshape(24, 2, -1) for part in jacobian], dim=2)
    p = nn.functional.softmax(model(inputs), dim=1).detach()
    ggn = torch.einsum("nci,ncd,ndj->ij", J, torch.diag_embed(p) - p[:, :, None] * p[:, None, :], J) / 24
    values, vectors = np.linalg.eigh(ggn.numpy())
    for direction, exact in zip(found, vectors.T[::-1], strict=False):
        assert abs(direction @ exact) == pytest.approx(np.linalg.norm(direction), rel=1e-6)
    assert values[-1] > 2 * values[-3]
