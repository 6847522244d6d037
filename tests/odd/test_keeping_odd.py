"""Losses that keep something from call to call: the value is the first call's, or it is refused. A row is one loss."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from problems import mlp_task
from studies import command, wells
from torch import Tensor, nn

from landscaper_hpc import InputError
from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.losses.spotcheck import refuse_changing
from landscaper_hpc.objective.keeping import may_keep, prove_nothing_kept, prove_unchanged
from landscaper_hpc.objective.metrics import with_metrics
from landscaper_hpc.objective.objective import Objective, Task
from landscaper_hpc.objective.own_state import again_and_again
from tests.kinds import thorough

Loss = Callable[[Any, Any], Tensor]


def _squares(m: Any, b: Any) -> Tensor:
    return (m(b[0]) - b[1]).square().sum(dim=1)


def _first(of: Callable[[Any, Tensor], Any]) -> Callable[[], Loss]:
    """What is computed in the first call divides the value in all."""

    def made() -> Loss:
        kept: list[Any] = []

        def loss(m: Any, b: Any) -> Tensor:
            value = _squares(m, b)
            if not kept:
                kept.append(of(m, value))
            return value / kept[0]

        return loss

    return made


def _cached(name: Callable[[Any], Any], convert: Callable[[Tensor], Any]) -> Callable[[], Loss]:
    """A norm is kept by something of a parameter."""

    def made() -> Loss:
        known: dict[Any, Any] = {}

        def loss(m: Any, b: Any) -> Tensor:
            p = m[0].weight
            return _squares(m, b) * known.setdefault(name(p), convert(p.norm()))

        return loss

    return made


def _by_lru_cache() -> Loss:
    norm = functools.lru_cache(lambda m: m[0].weight.norm())
    return lambda m, b: _squares(m, b) * norm(m)


def _anchored() -> Loss:
    anchor: list[Any] = []

    def loss(m: Any, b: Any) -> Tensor:
        if not anchor:
            anchor.append(copy.deepcopy(m))
        return _squares(m, b) + (m(b[0]) - anchor[0](b[0])).square().sum(dim=1)

    return loss


def _best() -> Loss:
    best = [float("inf")]

    def loss(m: Any, b: Any) -> Tensor:
        value = _squares(m, b)
        best[0] = min(best[0], float(value.mean()))
        return value - best[0]

    return loss


def _history(convert: Callable[[Tensor], Any]) -> Callable[[], Loss]:
    def made() -> Loss:
        history: list[Any] = []

        def loss(m: Any, b: Any) -> Tensor:
            value = _squares(m, b)
            history.append(convert(value))
            return value

        return loss

    return made


def _workspace() -> Loss:
    space = torch.zeros(11, dtype=torch.float64)
    return lambda m, b: space.copy_(_squares(m, b)) * 1.0


USED, ORDER = "uses what an earlier call has computed", r"depends on where it was called before: it is \S+ at the"
KEEPING: dict[str, tuple[Callable[[], Loss], str]] = {
    "a tensor": (_first(lambda m, v: v.mean().detach()), USED),
    "a tensor with its history": (_first(lambda m, v: m[0].weight.norm()), USED),
    "what was chosen": (_first(lambda m, v: v.argmax() + 1), USED),
    "a number": (_first(lambda m, v: float(v.mean())), ORDER),
    "an array": (_first(lambda m, v: v.detach().numpy().mean()), ORDER),
    "a count": (_first(lambda m, v: int((100 * v.sum()).ceil())), ORDER),
    "lru_cache": (_by_lru_cache, USED),
    "a copy of the model": (_anchored, USED),
    "the lowest so far": (_best, ORDER),
    "by its address": (_cached(lambda p: p.data_ptr(), float), r"depends on where it was called before"),
    "by the tensor": (_cached(lambda p: p, float), ""),
    "a history of numbers that nobody asks": (_history(lambda v: v.mean().item()), ""),
    "a history of tensors that nobody asks": (_history(lambda v: v.detach()), ""),
    "a space that is used again": (_workspace, ""),
    "nothing": (lambda: _squares, ""),
}


def _objective(make: Callable[[], Loss], **more: Any) -> Objective:
    made = mlp_task()
    return Objective(Task(made.model, make(), made.data), **more)


@pytest.mark.parametrize("what", KEEPING)
def test_what_is_kept_outside_of_modules_is_not_used_or_refused(what: str) -> None:
    """The landscape was of the first call's parameters in part: up to 45 % off, exit code 0."""
    make, said = KEEPING[what]
    objective = _objective(make)
    assert may_keep(objective) == (what != "nothing")
    if said:
        with pytest.raises(InputError, match=said) as caught:
            prove_nothing_kept(objective, _objective(make, elsewhere=True))
        assert "\n" not in str(caught.value)
        return
    prove_nothing_kept(objective, _objective(make, elsewhere=True))
    directions = random_directions(objective, 2)
    points = np.array([[0.4, -0.2], [-0.3, 0.5], [0.1, 0.1]])
    for alpha, value in zip(points, losses(objective, directions, points), strict=True):
        moved = {
            n: p + torch.tensordot(torch.from_numpy(alpha), directions.vectors[n], 1)
            for n, p in objective.parameters.items()
        }
        assert value == pytest.approx(float(_objective(make).loss(moved).detach()), rel=1e-12)


def _global() -> Loss:
    space: dict[str, Any] = {"squares": _squares, "first": None, "__name__": "notebook"}
    exec(
        "def loss(m, b):\n"
        "    global first\n"
        "    value = squares(m, b)\n"
        "    first = first or float(value.mean().detach())\n"
        "    return value / first\n"
        "def around(m, b):\n"
        "    return loss(m, b)",
        space,
    )
    around: Loss = space["around"]
    return around


class _Object:
    first: float | None = None

    def __call__(self, m: Any, b: Any) -> Tensor:
        value = _squares(m, b)
        self.first = self.first or float(value.mean().detach())
        return value / self.first


def _in_closure() -> Loss:
    first = None

    def loss(m: Any, b: Any) -> Tensor:
        nonlocal first
        value = _squares(m, b)
        first = first or float(value.mean().detach())
        return value / first

    return loss


def _attribute() -> Loss:
    def loss(m: Any, b: Any) -> Tensor:
        value = _squares(m, b)
        vars(loss).setdefault("first", float(value.mean().detach()))
        return value / vars(loss)["first"]

    return loss


def _default(m: Any, b: Any, kept: dict[str, float] | None = None) -> Tensor:
    value = _squares(m, b)
    assert kept is not None
    return value / kept.setdefault("first", float(value.mean().detach()))


def _array() -> Loss:
    kept = np.zeros(1)

    def loss(m: Any, b: Any) -> Tensor:
        value = _squares(m, b)
        kept[0] = kept[0] or float(value.mean().detach())
        return value / kept[0]

    return loss


IN_MEMORY: dict[str, Callable[[], Any]] = {
    **{what: make for what, (make, said) in KEEPING.items() if said == ORDER},
    "a global of a notebook": _global,
    "an attribute of an object": _Object,
    "a method of an object": lambda: _Object().__call__,
    "a variable of a closure": _in_closure,
    "an attribute of a function": _attribute,
    "an argument's default": lambda: functools.partial(_default, kept={}),
    "an array that is written into": _array,
    "a decorated function": lambda: torch.enable_grad()(_in_closure()),
    "a cache of numbers": lambda: (lambda norm: lambda m, b: _squares(m, b) * norm(m))(
        functools.lru_cache(lambda m: float(m[0].weight.norm()))
    ),
}


@pytest.mark.parametrize("what", IN_MEMORY)
def test_what_a_loss_in_memory_keeps_is_found_out_by_a_copy(what: str) -> None:
    """It cannot be loaded once more: a number that it had kept was part of the landscape without a word."""
    made, loss = mlp_task(), IN_MEMORY[what]()
    give = again_and_again(Task(made.model, loss, made.data))
    objective = Objective(give())
    assert objective.loss_function is loss
    with pytest.raises(InputError, match=ORDER):
        prove_nothing_kept(objective, Objective(give(), elsewhere=True))


def test_a_loss_in_memory_that_keeps_nothing_is_as_it_was() -> None:
    made, history = mlp_task(), list[float]()

    def loss(m: Any, b: Any) -> Tensor:
        value = _squares(m, b)
        history.append(float(value.mean().detach()))
        return value

    give = again_and_again(Task(made.model, loss, made.data))
    objective = Objective(give())
    calls = len(history)
    prove_nothing_kept(objective, Objective(give(), elsewhere=True))
    assert len(history) - calls == 4  # of those of the copy it knows nothing


MODULES: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: nn.LSTM(3, 4),
    "GRU": lambda: nn.GRU(3, 4),
    "RNN": lambda: nn.RNN(3, 4, num_layers=2),
    "a number on a module": lambda: Divided(3, 4),
}


class Divided(nn.Linear):
    """Keeps its first norm."""

    norm: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            self.norm = float(self.weight.norm())
        return super().forward(x) / self.norm


@pytest.mark.parametrize("what", MODULES)
@pytest.mark.parametrize("as_written", [False, thorough(True)])
def test_what_modules_keep_for_themselves_is_that_of_each_call(what: str, as_written: bool) -> None:
    """An LSTM had the checkpoint's weights again from the second call on."""

    def loss(m: Any, x: Tensor) -> Tensor:
        found = m(x)
        value: Tensor = (found[0] if isinstance(found, tuple) else found).square().mean(dim=(1, 2))
        return value if not as_written or float(value.mean()) >= 0 else -value

    def made() -> Objective:
        torch.manual_seed(0)
        return Objective(Task(MODULES[what](), loss, torch.randn(6, 2, 3)))

    objective = made()
    directions = random_directions(objective, 2)
    points = np.array([[0.4, -0.2], [-0.3, 0.5], [-0.3, 0.5], [0.0, 0.0]])
    for alpha, value in zip(points, losses(objective, directions, points), strict=True):
        shifts = {n: torch.tensordot(torch.from_numpy(alpha), u, 1) for n, u in directions.vectors.items()}
        plain = made().loss({n: p + shifts[n] for n, p in objective.parameters.items()})
        assert value == pytest.approx(float(plain.detach()), rel=1e-9)
    objective.prove_deterministic([{n: 1.1 * p for n, p in objective.parameters.items()}])


def test_a_metric_that_keeps_something_is_refused_as_well() -> None:
    def made(**more: Any) -> Objective:
        base, norm = mlp_task(), functools.lru_cache(lambda m: float(m[0].weight.norm()))
        return with_metrics(
            Objective(Task(base.model, base.loss, base.data, {"norm": lambda m, b: b[0].sum(1) * norm(m)}), **more)
        )

    outputs = made()
    assert may_keep(outputs)
    with pytest.raises(InputError, match="depends on where it was called before"):
        prove_nothing_kept(outputs, made(elsewhere=True))


def test_a_metric_that_writes_leaves_nothing_for_the_next_point() -> None:
    """The loss was evaluated with the data that the metric of the point before had changed."""

    def scaling(m: nn.Module, b: Any) -> Tensor:
        found: Tensor = m(b[0].mul_(0.5)).square().sum(dim=1)
        return found

    base = mlp_task()
    plain = Objective(base)
    with_metric = with_metrics(Objective(Task(mlp_task().model, base.loss, base.data, {"scaled": scaling})))
    for by in (1.0, 1.3, 0.7):
        moved = {n: by * p for n, p in plain.parameters.items()}
        assert float(with_metric.loss(moved)[0]) == pytest.approx(float(plain.loss(moved)), rel=1e-12)


def _counting(until: int, as_written: bool = False) -> Callable[[], Loss]:
    def made() -> Loss:
        calls = [0]

        def loss(m: Any, b: Any) -> Tensor:
            calls[0] += 1
            value = _squares(m, b)
            if as_written and float(value.mean()) < 0:
                return -value
            return value * (0.5 if calls[0] <= until else 1.0)

        return loss

    return made


def test_what_changes_after_the_first_call_is_refused() -> None:
    objective = _objective(_counting(1))
    objective.prove_deterministic()  # it has come to rest
    with pytest.raises(
        InputError, match=r"changes from call to call: that of the checkpoint's first batch was .* in the first"
    ):
        prove_unchanged(objective)


def test_a_counter_that_acts_in_the_midst_of_shards_ends_the_run() -> None:
    objective = _objective(_counting(60, as_written=True))
    directions = random_directions(objective, 2)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (25, 2))
    with pytest.raises(InputError, match=r"changes from call to call: at alpha = \[.*\] it was .* at first"):
        for _ in range(3):
            losses(objective, directions, points)


@pytest.mark.parametrize(("calls", "shards"), [(5, [9]), (33, [30, 3]), (30, [10, 10, 10, 9])])
def test_a_counter_that_acts_at_the_last_points_of_a_process_is_met(calls: int, shards: list[int]) -> None:
    """It was looked at every 16 points, and the last 15 of a process by nobody."""
    objective, made = _objective(lambda: _squares), 0

    def evaluate(points: np.ndarray) -> np.ndarray:
        nonlocal made
        made += len(points)
        return 1.0 + (np.arange(made - len(points), made) >= calls)

    with pytest.raises(InputError, match="changes from call to call"):
        for size in shards:
            points = np.zeros((size, 2))
            refuse_changing(objective, points, evaluate(points), evaluate)


@pytest.mark.parametrize("name", ["check", "run"])
def test_commands_refuse_a_loss_that_keeps_a_number(name: str, tmp_path: Path) -> None:
    study = wells(tmp_path / "study", count=5)
    task = tmp_path / "study/task.py"
    kept = "        import sys\n        first = vars(sys).setdefault(__name__ + str(id(loss)), float(x.sum()))\n"
    text = task.read_text().replace("        x = model.x\n", f"        x = model.x\n{kept}")
    task.write_text(text.replace("+ 0 * data.sum()", "+ first"))
    ended = command(name, study, *(["--executor", "serial", "--out", tmp_path / "run"] if name == "run" else []))
    assert ended.returncode == 2, ended.stderr
    assert "the loss depends on where it was called before" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
