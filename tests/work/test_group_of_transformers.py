"""Models of Hugging Face's, with their own modules, tied weights and buffers, held together by several processes.
`make test-peers` installs transformers and PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from landscaper_hpc import Site, Study, run
from landscaper_hpc.objective import load_task
from landscaper_hpc.store.landscape import LandscapeStore

pytestmark = [pytest.mark.peers, pytest.mark.processes]

TASK = """
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, GPT2Config, LlamaConfig

from landscaper_hpc import Task

SIZES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
KINDS = {
    "gpt2": (GPT2Config(vocab_size=31, n_positions=9, n_embd=12, n_layer=2, n_head=2), "transformer.h.*"),
    "bert": (BertConfig(vocab_size=31, max_position_embeddings=9, **SIZES), "bert.encoder.layer.*"),
    "llama": (LlamaConfig(vocab_size=31, max_position_embeddings=9, num_key_value_heads=1, **SIZES), "model.layers.*"),
}


def task(kind, adapter=""):
    torch.manual_seed(0)
    config, shard = KINDS[kind]
    make = AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM
    model = make.from_config(config, attn_implementation="eager")
    if adapter:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        shard = f"base_model.model.{shard}"
    tokens = torch.randint(31, (4, 9), generator=torch.Generator().manual_seed(1))
    return Task(model, loss, list(tokens.split(1)), shard=shard)


def loss(model, tokens):
    logits = model(tokens).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
"""
STUDY = """\
name: s
task: task.py
checkpoints: [{{name: a, file: {file}, options: {options}}}]
directions: {{kind: random, n: 2}}
grid: {{count: 3, range: 0.3}}
"""


Values = np.ndarray[Any, np.dtype[np.float64]]


def displaced(folder: Path, options: dict[str, str], store: LandscapeStore) -> Values:
    """The losses of models into which displaced parameters were loaded, in plain torch."""
    found, directions = np.empty(store.grid.shape), dict(store.direction_vectors())
    for i, alpha in enumerate(np.ndindex(store.grid.shape)):
        task = load_task(folder / "task.py", options)
        model = task.model.double().eval()
        with torch.no_grad():
            for name, p in model.named_parameters():
                for axis, at, u in zip(store.grid.axes, alpha, directions.get(name, ()), strict=False):
                    p += axis.coordinates()[at] * torch.from_numpy(u)
            found.flat[i] = float(torch.cat([task.loss(model, batch) for batch in task.data]).mean())
    return found


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own
@pytest.mark.parametrize(
    ("kind", "sizes"), [("gpt2", (1, 2, 3)), ("bert", (1, 2)), ("llama", (1, 3)), ("adapter", (1, 2))]
)
def test_losses_are_those_of_displaced_models(kind: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    options = {"kind": "llama", "adapter": "yes"} if kind == "adapter" else {"kind": kind}
    model = load_task(tmp_path / "task.py", options).model
    if kind == "adapter":
        model.save_pretrained(tmp_path / "made")
    else:
        torch.save(model.state_dict(), tmp_path / "made.pt")
    file = "made" if kind == "adapter" else "made.pt"
    (tmp_path / "study.yaml").write_text(STUDY.format(file=file, options=options))
    expected = None
    for size in sizes:
        run(Study.load(tmp_path / "study.yaml"), Site(executor="serial", gpus_per_model=size), tmp_path / str(size))
        store = LandscapeStore(tmp_path / f"{size}/study.zarr", "a")
        if expected is None:
            moving = {name for name, p in model.named_parameters() if p.requires_grad}
            assert {name for name, _ in store.direction_vectors()} == moving
            expected = displaced(tmp_path, options, store)
            assert np.ptp(expected) > 1e-3
        losses = np.asarray(zarr.open_group(tmp_path / f"{size}/study.zarr", mode="r", path="a")["loss"][:])
        # Llama's attention rounds to float32 within
        np.testing.assert_allclose(losses, expected, rtol=1e-12 if kind in ("gpt2", "bert") else 1e-7)
