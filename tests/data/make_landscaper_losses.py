"""Makes landscaper_losses.pt: what Landscaper 1.3.1 computes for an MLP, a CNN and a transformer, before it adds its
noise.

Run by the peers' Python: `.venv-landscaper/bin/python tests/data/make_landscaper_losses.py`.
"""

import sys
from pathlib import Path
from unittest import mock

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "benchmarks"))

import models  # noqa: E402
from landscaper.compute import compute_loss_landscape  # noqa: E402

CASES = {
    "mlp": (models.mlp, {"points": 30}, 5, 2),
    "cnn": (models.cnn, {"images": 12}, 4, 2),
    "transformer": (models.transformer, {"layers": 1, "width": 16, "vocabulary": 31, "length": 12}, 3, 3),
}


def main() -> None:
    result = {}
    for name, (make, options, steps, dim) in CASES.items():
        model, data, loss = make(**options)
        torch.manual_seed(5)
        directions = [[torch.randn_like(p).half().float() for p in model.parameters()] for _ in range(dim)]
        with mock.patch("numpy.random.normal", lambda *a: 0.0):
            losses, _ = compute_loss_landscape(
                model, data[0], directions, lambda m, b, loss=loss: loss(m, b).item(), steps, 0.3, dim, "cpu"
            )
        result[name] = {
            "options": options,
            "steps": steps,
            "distance": 0.3,
            "parameters": dict(model.named_parameters()),
            "directions": {
                key: torch.stack([d[i] for d in directions]).half()
                for i, (key, _) in enumerate(model.named_parameters())
            },
            "inputs": data[0][0].contiguous(),
            "targets": data[0][1].contiguous(),
            "losses": torch.from_numpy(losses),
        }
        result[name]["parameters"] = {k: p.detach().clone() for k, p in result[name]["parameters"].items()}
    torch.save(result, HERE / "landscaper_losses.pt")


main()
