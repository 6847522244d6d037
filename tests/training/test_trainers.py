"""The callbacks in Hugging Face's Trainer and in Lightning themselves. `make test-peers` installs both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

pytestmark = pytest.mark.peers


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        y = self.layer(x)[:, 0]
        return {"loss": (y - labels).square().mean(), "logits": y}


class Points(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": torch.tensor([float(i), 1.0]) / 16, "labels": torch.tensor(float(i % 3))}


def saved(folder: Path) -> dict[int, dict[str, Tensor]]:
    return {int(file.stem.removeprefix("step_")): load_file(file) for file in sorted(folder.iterdir())}


def test_hugging_faces_trainer_saves_weights_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from landscaper_hpc.training.hugging_face import SaveForSweep

    seen: dict[int, Tensor] = {}

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            seen[state.global_step] = given["model"].layer.weight.detach().clone()

    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=7,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    model = Line()
    first = model.layer.weight.detach().clone()
    Trainer(model, arguments, train_dataset=Points(), callbacks=[Look(), SaveForSweep(tmp_path / "w", every=3)]).train()
    found = saved(tmp_path / "w")
    assert list(found) == [0, 3, 6, 7]
    torch.testing.assert_close(found[0]["layer.weight"], first)
    for step in (3, 6, 7):
        torch.testing.assert_close(found[step]["layer.weight"], seen[step], rtol=0, atol=0)
        assert sorted(found[step]) == ["layer.bias", "layer.weight"]


@pytest.mark.filterwarnings(  # Lightning's own
    "ignore:The `srun` command",
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.isinstance:FutureWarning",
)
def test_lightning_saves_weights_and_nothing_else(tmp_path: Path) -> None:
    import lightning.pytorch as pl

    from landscaper_hpc.training.lightning import SaveForSweep

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Line()

        def training_step(self, batch: Any, i: int) -> Tensor:
            return self.net(**batch)["loss"]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    first = module.net.layer.weight.detach().clone()
    pl.Trainer(
        max_steps=5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=2,
        default_root_dir=tmp_path,
        callbacks=[SaveForSweep(tmp_path / "w", every=2)],
    ).fit(module, DataLoader(Points(), batch_size=2, num_workers=0))
    found = saved(tmp_path / "w")
    assert list(found) == [0, 2, 4, 5]
    torch.testing.assert_close(found[0]["net.layer.weight"], first)
    torch.testing.assert_close(found[5]["net.layer.weight"], module.net.layer.weight.detach(), rtol=0, atol=0)
    assert not torch.equal(found[2]["net.layer.weight"], found[4]["net.layer.weight"])
