"""A loss that draws random numbers is refused, also where they do not show at the checkpoint."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from problems import TASKS, Point, function
from torch import Tensor

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.determinism import prove_repeatable
from landscaper_hpc.objective.objective import Objective, Task

FAR = {"x": torch.ones(3, dtype=torch.float64)}


def _where(v: Tensor) -> Tensor:
    return torch.where(v.mean() > 0.8, v + 0.1 * torch.rand(v.shape), v)


def _branch(v: Tensor) -> Tensor:
    return v + 0.1 * torch.rand(v.shape) if float(v.detach().mean()) > 0.8 else v


def _numpy(v: Tensor) -> Tensor:
    return v + 0 * np.random.rand()


def _python(v: Tensor) -> Tensor:
    return v + 0 * random.random()


def _dropout(v: Tensor) -> Tensor:
    return torch.nn.functional.dropout(v, 0.5)


_going_on = torch.Generator().manual_seed(0)


def _its_own_generator(v: Tensor) -> Tensor:
    return v + torch.rand(v.shape, generator=_going_on)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (_where, r"at the checkpoint is not deterministic: it draws random numbers \(aten\.rand"),
        (_branch, r"away from the checkpoint is not deterministic: it draws random numbers \(aten\.rand"),
        (_numpy, r"it draws random numbers \(numpy\.random\)"),
        (_python, r"it draws random numbers \(random\)"),
        (_dropout, r"it draws random numbers \(aten\..*(dropout|bernoulli)"),
        (_its_own_generator, r"not deterministic \("),
    ],
)
def test_random_numbers_are_refused_by_name(loss: Callable[[Tensor], Tensor], words: str) -> None:
    objective = function(loss, torch.zeros(3, dtype=torch.float64))
    before = torch.get_rng_state(), random.getstate()
    with pytest.raises(InputError, match=words):
        objective.prove_deterministic([FAR])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


class Drawn:
    def __init__(self) -> None:
        self.inside = random.Random(0)


_numpys, _old, _drawn = np.random.default_rng(0), np.random.RandomState(0), Drawn()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda m, _: m() + 0 * torch.rand(3, generator=_going_on), "aten.rand.generator, the generator _going_on"),
        (lambda m, _: m() + 0 * _numpys.random(), "the generator _numpys"),
        (lambda m, _: m() + 0 * _old.rand(), "the generator _old"),
        (lambda m, _: m() + 0 * _drawn.inside.random(), r"the generator _drawn\.inside"),
        (lambda m, _: m() + 0 * m.rng.random(), r"the generator model\.rng"),
    ],
)
def test_generators_that_go_on_from_call_to_call_are_refused(loss: Callable[[Any, Any], Tensor], words: str) -> None:
    """Where they do not show in the value, too: at other parameters they would."""
    model = Point(torch.zeros(3, dtype=torch.float64))
    model.rng = np.random.default_rng(0)  # type: ignore[assignment]
    made = Objective(Task(model, loss, torch.zeros(1)))
    before = _numpys.bit_generator.state
    with pytest.raises(InputError, match=rf"it draws random numbers \({words}\)"):
        made.prove_deterministic()
    assert _numpys.bit_generator.state == before


def test_what_is_kept_from_call_to_call_is_named() -> None:
    calls = [0]

    def counting(v: Tensor) -> Tensor:
        calls[0] += 1
        return v + calls[0]

    with pytest.raises(InputError, match=r"not deterministic \(.*what the loss keeps from call to call"):
        function(counting, torch.zeros(3, dtype=torch.float64)).prove_deterministic()


def _seeded(v: Tensor) -> Tensor:
    return v * torch.rand(v.shape, generator=torch.Generator().manual_seed(3))


def _seeds_everything(v: Tensor) -> Tensor:
    torch.manual_seed(3)
    return v * torch.rand(v.shape) * np.random.default_rng(3).random()


def _fails_far_out(v: Tensor) -> Tensor:
    if float(v.detach().mean()) > 0.8:
        raise ArithmeticError("no value here")
    return v


@pytest.mark.parametrize("loss", [_seeded, _seeds_everything, _fails_far_out])
def test_numbers_that_are_seeded_in_every_call_are_constants(loss: Callable[[Tensor], Tensor]) -> None:
    function(loss, torch.zeros(3, dtype=torch.float64)).prove_deterministic([FAR])


@pytest.mark.parametrize("name", list(TASKS))
def test_ordinary_losses_are_proved(name: str) -> None:
    objective = Objective(TASKS[name]())

    def displaced() -> Iterator[dict[str, Tensor]]:
        yield {name: 1.1 * p for name, p in objective.parameters.items()}

    assert objective.prove_deterministic(displaced()) == float(objective.loss(objective.parameters).detach())


def test_what_another_thread_draws_meanwhile_is_not_held_against_the_loss() -> None:
    calls = []

    def value() -> float:
        calls.append(1)
        if len(calls) <= 2:  # as if a thread drew during the first two
            random.random()
        return 1.0

    assert prove_repeatable(value, "task.py", "at the checkpoint") == 1.0


@pytest.mark.parametrize("seeded", [False, True])
def test_what_a_thread_draws_in_every_call_is_not_held_against_a_loss(seeded: bool) -> None:
    with ThreadPoolExecutor(1) as others:
        others.submit(random.random).result()  # it is there before, as Dask's loop is

        def value() -> float:
            if seeded:
                random.seed(5)
                random.random()
            others.submit(random.random).result()
            return 1.0

        assert prove_repeatable(value, "task.py", "at the checkpoint") == 1.0


def test_what_a_thread_of_the_loss_draws_is() -> None:
    def value() -> float:
        (thread := Thread(target=random.random)).start()
        thread.join()
        return 1.0

    with pytest.raises(InputError, match=r"draws random numbers \(random\)"):
        prove_repeatable(value, "task.py", "at the checkpoint")
