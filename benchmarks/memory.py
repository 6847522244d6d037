"""Peaks of memory, measured and as `plan` tells them, of a GPT-2-like model in float32 of which everything moves.

    python benchmarks/memory.py                      # 29 M parameters: about ten minutes of one core
    python benchmarks/memory.py --width 768 --layers 12 --stages random evaluation     # GPT-2's 124 M
    python benchmarks/memory.py --ranks 4 --stages random hessian evaluation     # of each of four that hold it together

The unit is a copy of the parameters that move. On a CPU: what is resident above what was before there was a model,
with the model; the allocator is told to give everything back, the blocks too in which vectors are worked on
(`MALLOC_MMAP_THRESHOLD_`).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

OF_DIRECTIONS = ("evaluation", "confirming", "confirming of 3 batches")
SHARD = "blocks.*"
STAGES = ("random", "filter", "layer", "hessian", "hessian of 3 batches", *OF_DIRECTIONS)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Peaks of this process by stage, each with the one that the formulas tell, in bytes."""
    import torch
    from torch import Tensor, nn

    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.directions.directions import Directions, hessian_directions, random_directions
    from landscaper_hpc.losses import displacement
    from landscaper_hpc.losses.evaluate import losses
    from landscaper_hpc.objective import flat_layout
    from landscaper_hpc.objective.device import Peak
    from landscaper_hpc.objective.flat_layout import Layout
    from landscaper_hpc.objective.fsdp import apply
    from landscaper_hpc.objective.objective import Objective, Task
    from landscaper_hpc.work.memory import Sizes, confirming_bytes, evaluation_bytes, hessian_bytes, random_bytes

    if args.small:  # as large models are worked on
        flat_layout._SMALL, flat_layout._BLOCK, displacement._PARTIAL = args.small, args.small // 8, 0

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.attention(self.before(x)).chunk(3, dim=-1)
            causal = torch.full((x.shape[1], x.shape[1]), -1e9).triu(1)
            x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + causal, dim=-1) @ v)
            return x + self.down(nn.functional.gelu(self.up(self.between(x))))

    class Model(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(args.words, width)
            self.place = nn.Parameter(torch.randn(args.tokens, width) / 50)
            self.blocks = nn.Sequential(*[Block(width) for _ in range(args.layers)])
            self.last = nn.LayerNorm(width)

        def forward(self, tokens: Tensor) -> Tensor:
            hidden = self.blocks(self.embed(tokens) / 50 + self.place)
            return nn.functional.linear(self.last(hidden), self.embed.weight) / args.width**0.5

    def loss(model: Any, tokens: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokens = torch.randint(args.words, (3 * args.ranks, 1, args.tokens))
    n = args.directions

    def peaks(model: Model, stages: Sequence[str]) -> dict[str, Any]:
        def objective(batches: int) -> Objective:
            data = list(tokens[: batches * args.ranks])
            return Objective(Task(model, loss, data, shard=SHARD), precision="float32", frozen=True, dealt=dealt)

        found: dict[str, Any] = {}
        dealt = False
        sizes = Sizes.of(objective(1), n).divided(args.ranks)
        layout = Layout.of(dict(model.named_parameters()))
        if args.ranks > 1:
            dealt = apply(model, SHARD, torch.device("cpu"), "benchmark")
        for stage in stages:
            given = objective(3 if stage.endswith("of 3 batches") else 1)
            if stage in OF_DIRECTIONS:
                flat = given.layout.gaussian(n, 0, torch.float32)
                directions = Directions(given.layout.unflatten(flat), "random", "unit", np.eye(n))
            gc.collect()
            peak = Peak(torch.device("cpu"))
            if stage in OF_DIRECTIONS:
                points, held = 1e-3 * np.random.default_rng(0).standard_normal((args.points, n)), (n + 1) * sizes.moving
                if stage == "evaluation":
                    losses(given, directions, points)
                    needed = evaluation_bytes(sizes, n)
                else:
                    surface = ObjectiveSurface(given, directions, np.full(n, 1e-3))
                    surface.gradients(points)
                    surface.hessians(points)
                    needed = confirming_bytes(sizes, n)
                    del surface
                del flat, directions
            elif stage.startswith("hessian"):
                hessian_directions(
                    given,
                    n,
                    basis=args.basis,
                    basis_precision="bf16" if args.bf16 else None,
                    tolerance=args.tolerance,
                    max_iterations=500,
                )
                needed, held = hessian_bytes(sizes, n, args.basis, 16 if args.bf16 else None), sizes.moving
            else:
                random_directions(given, n, normalization=stage.replace("random", "model"))
                needed, held = random_bytes(sizes, n), sizes.moving
            found[stage] = {"measured": peak.bytes() + held, "planned": needed}
        return {"parameters": layout.dimension, "bytes": sizes.moving, "stages": found}

    # Pages of libraries become resident when first used, as many as the system reads ahead: they are used once here,
    # but not by an evaluation, after which this process keeps what it frees. Large models use others than small ones
    # (a product with the Hessian imports sympy: 40 MB).
    small, before = flat_layout._SMALL, [stage for stage in args.stages if stage != "evaluation"]
    for flat_layout._SMALL in (0, small):
        peaks(Model(8), before)
    return peaks(Model(args.width), args.stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    for name, default in (
        *(("words", 32768), ("width", 512), ("layers", 4), ("tokens", 16), ("directions", 3), ("basis", 12)),
        *(("points", 6), ("small", 0), ("ranks", 1)),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--bf16", action="store_true", help="hold the basis so")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        again = [sys.executable, str(Path(__file__)), *sys.argv[1:]]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384"}
        with tempfile.TemporaryDirectory() as folder:
            ranks = [
                subprocess.Popen(again, env={**environment, "RANK": str(rank), "MEETING": f"file://{folder}/meeting"})
                for rank in range(args.ranks)
            ]
            raise SystemExit(max(abs(rank.wait()) for rank in ranks))
    if args.ranks > 1:
        import torch.distributed as dist

        dist.init_process_group(
            "gloo", init_method=os.environ["MEETING"], rank=int(os.environ["RANK"]), world_size=args.ranks
        )
    found = measure(args)
    if os.environ.get("RANK", "0") != "0":
        return
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['parameters']:,} parameters, {found['bytes'] / 1e6:,.0f} MB, n = {args.directions}\n")
    print("| stage | measured | planned |\n|---|---|---|")
    for stage, row in found["stages"].items():
        print(f"| {stage} | {row['measured'] / found['bytes']:.2f} | {row['planned'] / found['bytes']:.2f} |")


if __name__ == "__main__":
    main()
