"""Odd data and odd parameters: a study of them runs in every mode of evaluation. A row is one input."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

from landscaper_hpc import InputError, Task, landscape
from landscaper_hpc.directions.directions import (
    directions_from_file,
    gradient_direction,
    hessian_directions,
    random_directions,
)
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.directions.of_checkpoints import trajectory_directions
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.own_state import again_and_again
from landscaper_hpc.study.choices import NORMALIZATIONS


class BatchEncoding(collections.UserDict):  # type: ignore[type-arg]
    """As Hugging Face's: values as attributes, no copy of itself from a dict alone."""

    def __init__(self, data: dict[str, Any], *, encodings: object) -> None:
        super().__init__(data)
        self.encodings = encodings

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


class Bag(dict):  # type: ignore[type-arg]
    pass


class ReadOnly(Mapping[str, Any]):
    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = items

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


@dataclasses.dataclass(frozen=True)
class Record:
    x: Tensor
    y: Tensor
    name: str = "n"


@dataclasses.dataclass(slots=True)
class Slots:
    x: Tensor
    y: Tensor


class Pair(collections.namedtuple("Pair", ["x", "y"])):
    __slots__ = ()


torch.manual_seed(0)
X, Y = torch.randn(12, 5), torch.randint(0, 3, (12,))

DATA: dict[str, tuple[Any, Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "BatchEncoding": (BatchEncoding({"x": X, "y": Y}, encodings=[1]), lambda b: (b.x, b["y"])),
    "UserDict": (collections.UserDict({"x": X, "y": Y}), lambda b: (b["x"], b["y"])),
    "a class of dict": (Bag(x=X, y=Y), lambda b: (b["x"], b["y"])),
    "a mapping that cannot be changed": (types.MappingProxyType({"x": X, "y": Y}), lambda b: (b["x"], b["y"])),
    "a mapping of one's own": (ReadOnly({"x": X, "y": Y}), lambda b: (b["x"], b["y"])),
    "a dataclass": (Record(X, Y), lambda b: (b.x, b.y)),
    "a dataclass with slots": (Slots(X, Y), lambda b: (b.x, b.y)),
    "a named tuple": (Pair(X, Y), lambda b: (b.x, b.y)),
    "one in the other": ((Bag(r=Record(X, Y)), 3), lambda b: (b[0]["r"].x, b[0]["r"].y)),
    "several": ([BatchEncoding({"x": X, "y": Y}, encodings=[1])] * 2, lambda b: (b.x, b.y)),
}


def _model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def _values(task: Task, precision: str = "float64") -> list[float]:
    objective = Objective(task, precision=precision)
    directions = random_directions(objective, 2)
    Hessian(objective) @ torch.ones(Hessian(objective).layout.size, dtype=objective.dtype)
    return losses(objective, directions, np.array([[0.0, 0.0], [0.1, -0.2], [0.3, 0.3]]), 2).tolist()


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("what", DATA)
@pytest.mark.thorough
def test_data(what: str, precision: str) -> None:
    data, taken = DATA[what]

    def loss(model: Any, batch: Any) -> Tensor:
        x, y = taken(batch)
        assert x.dtype == (torch.float64 if precision == "float64" else torch.float32)
        return nn.functional.cross_entropy(model(x), y, reduction="none")

    plain = Task(_model(), lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none"), (X, Y))
    np.testing.assert_allclose(_values(Task(_model(), loss, data), precision), _values(plain, precision), rtol=1e-6)
    if not isinstance(data, list):
        assert taken(data)[0] is X  # what the task holds stays as it was


@pytest.mark.parametrize(
    "data", [[np.zeros(3)], [[1.0, 2.0]], [Record(1, 2)], [object()]], ids=["arrays", "numbers", "no tensors", "object"]
)
def test_data_without_tensors(data: Any) -> None:
    with pytest.raises(InputError, match=r"a batch of Task.data is a \w+ that holds no tensor"):
        Objective(Task(_model(), lambda m, b: m(b).mean(), data))


UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "nested": (
        lambda: (torch.nested.nested_tensor([X[:5], X[5:]], layout=torch.jagged), Y),
        "tensor 1 of .* is nested",
    ),
    "sparse": (
        lambda: {"y": Y, "x": X.relu().to_sparse()},
        "tensor 2 of a batch of Task.data is sparse; give it whole",
    ),
    "sparse, in a record": (lambda: Record(X.relu().to_sparse(), Y), "tensor 1 of .* is sparse"),
    "one of no example, among others": (lambda: [(X, Y), (X[:0], Y[:0])], "batch 2 of Task.data holds no example"),
    "meta": (lambda: [(X, Y), (X.to("meta"), Y)], "tensor 1 of .* is on the meta device, which holds no numbers"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_tensors_that_data_cannot_be(what: str) -> None:
    make, said = UNFIT[what]
    with pytest.raises(InputError, match=said):
        Objective(Task(_model(), lambda m, b: m(b[0]).mean(), make()))


def _loader(**more: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(12.0), torch.full((12,), torch.nan)), 4, **more)


READ: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (lambda: (batch for batch in _loader()), ""),
    "a map": (lambda: map(list, _loader()), ""),
    "in order": (_loader, ""),
    "shuffled, with the same mean": (
        lambda: _loader(shuffle=True),
        "gives the examples in another order",
    ),
    "a permutation of some": (lambda: _loader(sampler=SubsetRandomSampler(range(12))), "shuffle=False"),
}


@pytest.mark.parametrize("what", READ)
def test_data_that_are_read_once_or_in_another_order_each_time(what: str) -> None:
    make, said = READ[what]
    torch.manual_seed(0)
    objective = Objective(Task(_model(), lambda m, b: m[0].bias.sum() + b[0].mean(), make()))
    with pytest.raises(InputError, match=f"reading the data twice .*{said}") if said else nullcontext():
        objective.prove_deterministic()


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(itertools.repeat(X[0]))


NO_END: dict[str, tuple[Callable[[], Any], str]] = {
    "the same again": (lambda: itertools.repeat((X, Y)), "come to no end within 1,000 batches; give an iterable"),
    "others each time": (lambda: ((X.clone(), Y) for _ in itertools.count()), "come to no end within 1,000 batches"),
    "large ones": (
        lambda: (torch.zeros(10**6) for _ in itertools.count()),
        "come to no end within the 0.02 GB of memory",
    ),
    "no tensors": (lambda: itertools.count(), "come to no end within 1,000 batches"),
    "a DataLoader": (lambda: DataLoader(Endless(), 4), "come to no end within 1,000 batches"),
}


@pytest.mark.parametrize("what", NO_END)
def test_data_without_an_end(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, said = NO_END[what]
    monkeypatch.setattr("landscaper_hpc.objective.data.MOST_BATCHES", 1000)
    monkeypatch.setattr("landscaper_hpc.objective.data.free_bytes", lambda _: 2 * 10**7)
    with pytest.raises(InputError, match=f"Task.data {said}"):
        Objective(Task(_model(), lambda m, b: m(b[0]).mean(), make()))
    with pytest.raises(InputError, match=f"data {said}"):
        landscape(_model(), lambda m, b: m(b[0]).mean(), make())


@pytest.mark.parametrize("of", ["weight_norm", "pruning"])
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_a_model_in_memory_that_keeps_what_it_computed_is_copied(of: str) -> None:
    model = _model()
    if of == "pruning":
        l1_unstructured(model[0], "weight", 0.3)  # type: ignore[no-untyped-call, index]
    else:
        nn.utils.weight_norm(model[0])  # type: ignore[index]
    copied = again_and_again(Task(model, lambda m, b: m(b), X))().model
    assert torch.equal(copied(X), model(X))
    with torch.no_grad():
        for p in copied.parameters():
            p.mul_(2)
    assert not torch.equal(copied(X), model(X))


def test_a_list_of_a_few_tensors_is_one_of_batches_and_that_is_said() -> None:
    loss = lambda m, b: m(b[0]).square()  # noqa: E731
    with pytest.raises(InputError, match=r"a list of 2 tensors that are not alike, .* as a tuple, \(x, y\)"):
        Objective(Task(_model(), loss, [X, Y]))
    (said,) = Objective(Task(_model(), loss, [X, X])).notices
    assert "each of which is taken for a batch of its own" in said
    assert Objective(Task(_model(), loss, [X] * 5)).notices == []
    assert Objective(Task(_model(), lambda m, b: m(b[0]).sum(1), [(X, Y), (X, Y)])).notices == []


@dataclasses.dataclass
class ByValue(nn.Module):
    width: int = 4

    def __post_init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, self.width)


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.again = self.inner = inner


def _tied_by_memory(transposed: bool = False) -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    weight = model[0].weight.data
    if transposed:
        model[2].weight = nn.Parameter(weight.t())
    else:
        model[2].weight.data = weight
    return model


def _interleaved(start: int) -> nn.Module:
    flat = torch.randn(12)
    return nn.ParameterList([nn.Parameter(flat[0::2]), nn.Parameter(flat[start::2])])


NO_MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a dataclass": (ByValue, r"ByValue compares by value and cannot be hashed, .*; write @dataclass\(eq=False\)"),
    "a dataclass inside": (lambda: Around(Around(ByValue())), "its part again.again, of class ByValue, compares"),
    "TorchScript": (lambda: torch.jit.script(_model()), "RecursiveScriptModule is a TorchScript program, .*; give the"),
    "tied by their memory": (_tied_by_memory, "0.weight and 2.weight are two parameters in one memory, which a"),
    "tied, transposed": (lambda: _tied_by_memory(True), r"make them one parameter .*\(b.weight = a.weight\)"),
    "views that meet": (lambda: _interleaved(4), "0 and 1 are two parameters in one memory"),
    "TorchScript, inside": (lambda: Around(torch.jit.script(_model())), "its part again, of class .*Module, is"),
}


@pytest.mark.parametrize("what", NO_MODELS)
def test_models_whose_parameters_torch_cannot_replace(what: str) -> None:
    make, said = NO_MODELS[what]
    with pytest.raises(InputError, match=said):
        Task(make(), lambda m, b: m(b[0]).mean(), (X, Y))


def test_parameters_of_one_flat_memory_are_apart_where_they_do_not_meet() -> None:
    Task(_interleaved(1), lambda m, b: m[0].sum(), (X, Y))
    Task(torch.nn.LSTM(3, 2, 2), lambda m, b: m(b[0])[0].sum(), (X, Y))


class Scaled(nn.Module):
    """With parameters of no axis, one of no element, and a complex one of no axis."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.nothing = nn.Parameter(torch.ones(0, 3))
        self.turn = nn.Parameter(torch.tensor(1.0 + 0.5j))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale.exp() * self.turn.abs() + self.nothing.sum()


def _scaled(module: type[nn.Module] = Scaled) -> Task:
    torch.manual_seed(1)
    return Task(module(), lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none"), (X, Y))


def _moved(objective: Objective, seed: int) -> dict[str, Tensor]:
    """The parameters somewhere else, the same for those with a single element as for those without an axis."""
    flat = np.random.default_rng(seed).normal(size=sum(p.numel() for p in objective.parameters.values()))
    parts = torch.from_numpy(flat).split([p.numel() for p in objective.parameters.values()])
    return {n: p + q.reshape(p.shape).to(p) for (n, p), q in zip(objective.parameters.items(), parts, strict=True)}


def _written(objective: Objective, file: Path) -> Path:
    torch.save({name: moved[None] for name, moved in _moved(objective, 3).items()}, file)
    return file


@pytest.mark.parametrize("normalization", NORMALIZATIONS.names())
@pytest.mark.thorough
def test_a_parameter_without_an_axis_moves_as_one_with_a_single_element(normalization: str, tmp_path: Path) -> None:
    class Single(Scaled):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([0.5]))
            self.turn = nn.Parameter(torch.tensor([1.0 + 0.5j]))

    points = np.array([[0.0], [0.05], [-0.1]])
    for make in (
        lambda o: random_directions(o, 1, normalization=normalization),
        lambda o: hessian_directions(o, 1, normalization=normalization),
        lambda o: gradient_direction(o, normalization=normalization),
        lambda o: trajectory_directions(o, [_moved(o, 1), _moved(o, 2)], 1, normalization=normalization)[0],
        lambda o: directions_from_file(_written(o, tmp_path / "u.pt"), o, n=1, normalization=normalization),
    ):
        found = []
        for module in (Scaled, Single):
            objective = Objective(_scaled(module))
            directions = make(objective)
            assert directions.vectors["scale"].shape == (1, *objective.parameters["scale"].shape)
            found.append([losses(objective, directions, points, batch).tolist() for batch in (1, 2)])
        np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


def test_a_model_of_one_number() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Parameter(torch.tensor(2.0))

    task = Task(One(), lambda m, x: (m.c - x) ** 2, torch.zeros(4))
    objective = Objective(task)
    directions = hessian_directions(objective, 1, normalization="unit")
    assert directions.eigenvalues is not None
    assert directions.eigenvalues.tolist() == pytest.approx([2.0])
    assert losses(objective, directions, np.array([[0.0], [1.0]]), 1).tolist() == [4.0, 9.0]
