"""Odd losses: what is recorded has the value of the loss as it is written, nothing crashes torch, and what is no number
at the checkpoint is refused. A row is one loss."""

from __future__ import annotations

import copy
import ctypes
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from problems import mlp_task
from studies import wells
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.dlpack import from_dlpack, to_dlpack
from typer.testing import CliRunner

from landscaper_hpc import InputError
from landscaper_hpc.cli import app
from landscaper_hpc.directions.directions import hessian_directions, random_directions
from landscaper_hpc.directions.gradient import refuse_wrong_gradient
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.losses.evaluate import evaluation_mode, losses
from landscaper_hpc.objective.dependence import prove_dependence
from landscaper_hpc.objective.objective import Objective, Task
from tests.kinds import kinds, thorough

# ---- ways for values to leave torch ---------------------------------------------------------------------------------


def _to_storage(v: Tensor) -> Tensor:
    return torch.empty(0, dtype=v.dtype).set_(v.untyped_storage(), 0, v.shape)  # type: ignore[call-overload]


def _to_tensor(v: Tensor) -> Tensor:
    return torch.empty(0, dtype=v.dtype).set_(v)


def _to_data(v: Tensor) -> Tensor:
    other = torch.zeros_like(v)
    other.data = v
    return other


def _by_address(v: Tensor) -> Tensor:
    numbers = (ctypes.c_double * v.numel()).from_address(v.contiguous().data_ptr())
    return torch.tensor(list(numbers), dtype=v.dtype)


def _by_file(v: Tensor) -> Tensor:
    file = io.BytesIO()
    torch.save(v, file)
    file.seek(0)
    return torch.load(file)


WAYS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "dlpack, by its own name": (lambda v: from_dlpack(to_dlpack(v)), r"values leave torch \(to_dlpack\)"),
    "dlpack, through torch": (lambda v: torch.from_dlpack(torch.to_dlpack(v)), r"values leave torch \(to_dlpack\)"),
    "dlpack, by NumPy": (lambda v: torch.from_numpy(np.from_dlpack(v).copy()), "values leave torch"),
    "set_ to a storage": (_to_storage, "values leave torch"),
    "set_ to a tensor": (_to_tensor, ""),
    "data": (_to_data, "unrecorded"),
    "address": (_by_address, r"values leave torch \(data_ptr\)"),
    "apply_": (lambda v: v.clone().apply_(lambda number: number), r"values leave torch \(apply_\)"),
    "map_": (lambda v: v.clone().map_(v, lambda number, other: other), r"values leave torch \(map_\)"),
    "file": (_by_file, "values leave torch"),
    "pickle": (lambda v: pickle.loads(pickle.dumps(v)), "values leave torch"),
    "copy": (copy.copy, "values leave torch"),
    "text": (lambda v: torch.tensor([float(f"{x:.17g}") for x in v], dtype=v.dtype), "unrecorded"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", WAYS)
def test_a_mask_that_left_torch_is_not_frozen(name: str, batch: int) -> None:
    way, words = WAYS[name]
    base = mlp_task()

    def loss(model: Any, data: tuple[Tensor, Tensor]) -> Tensor:
        error = base.loss(model, data)
        return error * (1 + (way(error.detach()) > 1.0))

    objective = Objective(Task(base.model, loss, base.data))
    directions = random_directions(objective, 2)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (9, 2))
    found = losses(objective, directions, points, batch)
    for alpha, value in zip(points, found, strict=True):
        shifts = {k: torch.tensordot(torch.from_numpy(alpha), u, 1) for k, u in directions.vectors.items()}
        plain = objective.loss({k: p + shifts[k] for k, p in objective.parameters.items()})
        assert value == pytest.approx(float(plain.detach()), rel=1e-9)
    assert re.search(words or "^vmap|^one point", evaluation_mode(objective, directions, batch))


# ---- what is said ----------------------------------------------------------------------------------------------------

MORE = """

good = task
calls = [0]

def counted():
    calls[0] += 1
    return calls[0]

def task(**options):
    made = good(**options)
    return Task(made.model, lambda model, data: made.loss(model, data) {more}, made.data)
"""
SAID = {
    "infinite": ("/ 0.0", "landscape origin: the loss of the checkpoint is Infinity, so there is nothing"),
    "no number": ("* float('nan')", "landscape origin: the loss of the checkpoint is NaN, so there is nothing"),
    "counts its calls": ("+ counted()", "what the loss keeps from call to call (a counter, a cache, the time)"),
}


@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_loss_that_is_no_function_with_a_value_is_refused(what: str, command: str, tmp_path: Path) -> None:
    more, told = SAID[what]
    file = wells(tmp_path / "study", count=5)
    (tmp_path / "study/task.py").write_text((tmp_path / "study/task.py").read_text() + MORE.format(more=more))
    options = ["--executor", "serial", "--out", str(tmp_path / "run")] if command == "run" else []
    ended = CliRunner().invoke(app, [command, str(file), *options])
    assert ended.exit_code == 2
    assert told in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "ok" not in ended.stdout.split()


class Backwardless(torch.autograd.Function):
    """A backward pass that fails."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Tensor:
        raise RuntimeError("no way back")


NO_GRADIENT: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "reentrant": (
        lambda v: checkpoint(torch.tanh, v, use_reentrant=True),
        "calls torch.utils.checkpoint with use_reentrant=True, .* call it with use_reentrant=False",
    ),
    "reentrant on the data alone": (
        lambda v: v * checkpoint(torch.tanh, v.detach(), use_reentrant=True),
        "of two functions: .* torch.utils.checkpoint with use_reentrant=True",
    ),
    "a failing backward pass": (Backwardless.apply, r"has no gradient \(no way back\); use random directions"),
}


@pytest.mark.parametrize("what", NO_GRADIENT)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_loss_without_a_gradient_is_one_sentence(what: str) -> None:
    way, said = NO_GRADIENT[what]
    made = mlp_task()
    objective = Objective(Task(made.model, lambda m, b: way(m(b[0])).square().mean(dim=1), made.data))
    with pytest.raises(InputError, match=said) as caught:
        refuse_wrong_gradient(objective)
    assert "\n" not in str(caught.value)


def _rooted(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    z = m(b[0]).square()
    return torch.where(z >= 0, z, (-1 - z).sqrt()).mean()


def test_a_gradient_that_is_not_finite_is_no_direction() -> None:
    """All of the landscape was NaN, and the run had done well."""
    made = mlp_task()
    with pytest.raises(InputError, match=r"the gradient at the checkpoint is not finite, though the loss is"):
        refuse_wrong_gradient(Objective(Task(made.model, _rooted, made.data)))


# ---- what a loss keeps, and what it asks of parameters ---------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)
        self.words = nn.Embedding(4, 2, padding_idx=0)
        with torch.no_grad():
            self.words.weight[0] = 0.3
        self.kept = list(self.parameters())
        self.register_buffer("rows", self.a.weight.detach()[:2], persistent=False)
        self.turned = self.a.weight.detach().T
        self.a.weight.factor = 2.0  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.b(torch.tanh(self.norm(self.a(self.words(x)))))
        return result


WORDS = torch.tensor([0, 1, 2, 3, 0, 0, 2, 1])
Loss = Callable[[Any, Tensor], Tensor]


def _plain(m: Any, x: Tensor) -> Tensor:
    return nn.functional.cross_entropy(m(x), x % 2, reduction="none")


def _training(part: Callable[[Any], Any]) -> Loss:
    def loss(m: Any, x: Tensor) -> Tensor:
        found = _plain(m, x)
        part(m).train()
        return found

    return loss


def _of_a_class(m: Any, x: Tensor) -> Tensor:
    return _plain(m, x).as_subclass(type("Image", (Tensor,), {}))


def _conjugate(m: Any, x: Tensor) -> Tensor:
    z = m(x)
    return _plain(m, x) + torch.complex(z, z).conj().resolve_conj().imag.mean()


def _kept(m: Any, x: Tensor) -> Tensor:
    if not hasattr(m.a, "squared"):
        m.a.squared = m.a.weight.square().sum()
    return _plain(m, x) + 0.1 * m.a.squared


def _carried(m: Any, x: Tensor) -> Tensor:
    found = _plain(m, x) + 0.1 * getattr(m, "before", [torch.zeros(())])[0]
    m.before = [found.detach().mean()]
    return found


AS_WRITTEN: dict[str, Loss] = {
    "what is computed from parameters once and kept": _kept,
    "what one call hands to the next": _carried,
    "a row of padding": _plain,
    "the model left in training mode": _training(lambda m: m),
    "a part left in training mode": _training(lambda m: m.norm),
    "what is written on a parameter": lambda m, x: _plain(m, x) * getattr(m.a.weight, "factor", 1.0),
    "a value of a class of its own": _of_a_class,
    "what cannot be replayed": _conjugate,
}


@pytest.mark.parametrize("what", kinds(AS_WRITTEN, "a row of padding", "what cannot be replayed"))
def test_values_and_products_are_those_of_a_model_that_has_done_nothing_else(what: str) -> None:
    loss = AS_WRITTEN[what]
    objective = Objective(Task(Net(), loss, WORDS))
    directions = random_directions(objective, 2)
    points = np.array([[0.0, 0.0], [0.4, -0.2], [-0.3, 0.5]])
    found = [losses(objective, directions, points, batch) for batch in (1, 2)]
    for i, alpha in enumerate(points):
        model = Net().double().eval()
        for name, p in model.named_parameters():
            p.data = p.data + torch.tensordot(torch.from_numpy(alpha), directions.vectors[name], 1)
        for values in found:
            assert values[i] == pytest.approx(float(loss(model, WORDS).detach().mean()), rel=1e-9)
            model.eval()
            for module in model.modules():
                for name in ("squared", "before"):
                    module.__dict__.pop(name, None)
    assert Hessian(objective).agreement == pytest.approx(0, abs=1e-3)


KEPT: dict[str, Loss] = {
    "a list": lambda m, x: _plain(m, x) + sum(p.square().sum() for p in m.kept),
    "a closure": lambda m, x: _plain(m, x) + OUTSIDE["weight"].square().sum(),
    "a buffer that is a view": lambda m, x: _plain(m, x) + m.rows.square().sum(),
    "an attribute that is a view": lambda m, x: _plain(m, x) + m.turned.square().sum(),
    "a view in a closure": lambda m, x: _plain(m, x) + OUTSIDE["row"].square().sum(),
}
OUTSIDE: dict[str, Tensor] = {}


@pytest.mark.parametrize("what", KEPT)
def test_parameters_that_were_kept_are_not_those_that_move(what: str) -> None:
    """The term of a list of parameters stayed what it was at the checkpoint, and was up to a fifth of the loss."""
    model = Net()
    OUTSIDE["weight"], OUTSIDE["row"] = model.a.weight, model.a.weight.detach()[1:]
    with pytest.raises(InputError, match=r"the loss reads .*a\.weight.* not from the model that it is called with"):
        prove_dependence(Objective(Task(model, KEPT[what], WORDS)))


SCALES = [("float64", 1e-200), ("float64", 1e200), ("float32", 1e-25), ("float32", 1e25)]
"""Whose squares are no numbers of the precision."""


@pytest.mark.thorough
@pytest.mark.parametrize(("precision", "scale"), SCALES)
def test_eigenvectors_do_not_depend_on_the_scale_of_the_loss(precision: str, scale: float) -> None:
    found = []
    for factor in (1.0, scale):
        made = mlp_task()
        task = Task(made.model, lambda m, b, by=factor, loss=made.loss: loss(m, b) * by, made.data)
        objective = Objective(task, precision=precision)
        found.append(hessian_directions(objective, 2, normalization="unit"))
        assert found[-1].eigenvalues is not None
    whole, scaled = found
    np.testing.assert_allclose(scaled.eigenvalues / scale, whole.eigenvalues, rtol=1e-3)
    for name, u in whole.vectors.items():
        np.testing.assert_allclose(scaled.vectors[name].abs(), u.abs(), atol=1e-2)


# ---- losses that differentiate, write and put back; operations that take functions -----------------------------------


def _sums(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    return (m(b[0]) - b[1]).square().sum(dim=1)


def _penalised(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    value = _sums(m, b).mean()
    return value + sum(g.square().sum() for g in torch.autograd.grad(value, list(m.parameters()), create_graph=True))


def _one_step_on(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    parameters = dict(m.named_parameters())
    found = torch.autograd.grad(_sums(m, b)[:5].mean(), list(parameters.values()), create_graph=True)
    later = {n: p - 0.1 * g for (n, p), g in zip(parameters.items(), found, strict=True)}
    return (torch.func.functional_call(m, later, (b[0],)) - b[1]).square().sum(dim=1)


def _climbed_and_back(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    parameters = list(m.parameters())
    found = torch.autograd.grad(_sums(m, b).mean(), parameters)
    with torch.no_grad():
        for p, g in zip(parameters, found, strict=True):
            p.add_(g, alpha=0.05)
        value = _sums(m, b)
        for p, g in zip(parameters, found, strict=True):
            p.sub_(g, alpha=0.05)
    return value


def _swapped(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    parameters = list(m.parameters())
    found, before = torch.autograd.grad(_sums(m, b).mean(), parameters), [p.data for p in parameters]
    for p, g in zip(parameters, found, strict=True):
        p.data = p.data - 0.1 * g
    value = _sums(m, b)
    for p, old in zip(parameters, before, strict=True):
        p.data = old
    return value


def _chosen(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    value = _sums(m, b)
    chosen: Tensor = torch.cond(value.mean() > 5.0, lambda v: v * 2.0, lambda v: v + 0.5, (value,))
    return chosen


def _chosen_around(m: Any, b: tuple[Tensor, Tensor]) -> Tensor:
    value = _sums(m, b)
    chosen: Tensor = torch.cond(value.mean() > 5.0, lambda: value * 2.0, lambda: value + 0.5, ())
    return chosen


DIFFERENTIATING: dict[str, Callable[[Any, tuple[Tensor, Tensor]], Tensor]] = {
    "a penalty on the gradient": _penalised,
    "a step of training inside": _one_step_on,
    "a step and back (SAM)": _climbed_and_back,
    "a step and back, by data": _swapped,
}


@pytest.mark.parametrize("what", kinds(DIFFERENTIATING, "a penalty on the gradient"))
@pytest.mark.parametrize("batch", [thorough(1), 4])
def test_a_loss_may_ask_for_gradients_in_its_parameters(what: str, batch: int) -> None:
    _held_against_plain(DIFFERENTIATING[what], batch)


@pytest.mark.thorough
@pytest.mark.parametrize("loss", [_chosen, _chosen_around])
def test_operations_that_take_functions_are_evaluated_as_written(loss: Any) -> None:
    """`torch.cond` was refused, once a recorder had listened to it, in the words of torch's compiler."""
    objective = _held_against_plain(loss, 1)
    assert prove_dependence(objective) == []
    with pytest.raises(InputError, match=r"the loss (has no gradient \(|and its gradient are of two).*use random"):
        refuse_wrong_gradient(objective)
    objective.prove_deterministic()


def _held_against_plain(loss: Any, batch: int) -> Objective:
    base = mlp_task()
    objective = Objective(Task(base.model, loss, base.data))
    directions = random_directions(objective, 2)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 2))
    found = losses(objective, directions, points, batch)
    data = (base.data[0].double(), base.data[1].double())
    for alpha, value in zip(points, found, strict=True):
        model = mlp_task().model.double()
        with torch.no_grad():
            for name, p in model.named_parameters():
                p += torch.tensordot(torch.from_numpy(alpha), directions.vectors[name], 1)
        with torch.compiler.set_stance("force_eager"):
            assert value == pytest.approx(float(loss(model, data).detach().mean()), rel=1e-9)
    return objective
