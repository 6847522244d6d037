"""What a precision means holds whatever the user's code has chosen, in backward passes too, and is undone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from problems import TASKS, cnn_task
from torch.utils._python_dispatch import TorchDispatchMode

from landscaper_hpc.comparison.similarity import bezier
from landscaper_hpc.directions.directions import hessian_directions
from landscaper_hpc.directions.gradient import gradient
from landscaper_hpc.directions.hessian import MODES, Hessian
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, epsilon

CPU = torch.device("cpu")
PRODUCTS = ("mm", "addmm", "bmm", "mv", "convolution", "convolution_backward")
SWITCHES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)


def chosen() -> tuple[str, ...]:
    return tuple(switch.fp32_precision for switch in SWITCHES)


@pytest.fixture(params=["as torch begins", "by the old switches", "by the new ones"])
def users_choice(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    generic, before = torch.backends.fp32_precision, chosen()
    if request.param == "by the old switches":
        torch.set_float32_matmul_precision("medium")
    elif request.param == "by the new ones":
        torch.backends.fp32_precision = "tf32"
    yield chosen()
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision = generic
    for switch, value in zip(SWITCHES, before, strict=True):
        switch.fp32_precision = value


@pytest.mark.parametrize("precision", ["float64", "float32", "tf32", "bf16"])
def test_products_are_rounded_as_the_precision_says(precision: str, users_choice: tuple[str, ...]) -> None:
    with arithmetic(precision, CPU):
        assert chosen() == (("tf32", "tf32", "ieee") if precision == "tf32" else ("ieee",) * 3)
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
        assert torch.backends.cudnn.deterministic
    assert chosen() == users_choice
    assert not torch.backends.cudnn.deterministic


class Watch(TorchDispatchMode):
    """The settings at every product and convolution of float32 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, bool]] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in PRODUCTS and args[0].dtype == torch.float32:
            self.seen.add((torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.deterministic))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_backward_passes_too(precision: str) -> None:
    objective = Objective(cnn_task(), precision=precision)
    wanted = {("tf32" if precision == "tf32" else "ieee", True)}
    for mode in MODES:
        hessian = Hessian(objective, mode)
        v = hessian.random(0)
        with Watch() as watch:
            hessian @ v
        assert watch.seen == wanted
    with Watch() as watch:
        gradient(objective)
    assert watch.seen == wanted
    with Watch() as watch:
        bezier(objective, {k: p + 1 for k, p in objective.parameters.items()}, steps=1, points=2)
    assert watch.seen == wanted


def test_lanczos_itself_is_not_rounded() -> None:
    objective = Objective(TASKS["transformer"](), precision="tf32")
    with Watch() as watch:
        hessian_directions(objective, 1, tolerance=1e-2)
    assert watch.seen == {("ieee", True), ("tf32", True)}


def test_the_rounding_of_each_precision() -> None:
    for precision, device in (
        ("float64", "cpu"),
        ("float32", "cpu"),
        ("tf32", "cpu"),
        ("tf32", "cuda"),
        ("bf16", "cpu"),
    ):
        eps = epsilon(precision, torch.device(device))
        assert eps == {"float64": 2.0**-52, "float32": 2.0**-23, "bf16": 2.0**-7}.get(
            precision, 2.0**-10 if device == "cuda" else 2.0**-23
        )
