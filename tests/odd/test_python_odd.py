"""What Python callers have that files have not: NumPy's numbers, arrays, tuples, criteria with weights, teachers. What
is given, and the value or the sentence that answers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from landscaper_hpc import (
    Axis,
    InputError,
    Study,
    contour_tree,
    landscape,
    lowest,
    mean_climb,
    merge_tree,
    smad,
    smad_landscaper,
)
from landscaper_hpc.objective.objective import Objective, Task

SCIENCE = {"name": "s", "task": "task.py", "checkpoints": [{"name": "c", "file": "c.pt"}]}


def _study(**keys: Any) -> Study:
    return Study.of(SCIENCE | keys, Path("study"))


TAKEN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("an int64", {"grid": {"count": np.int64(3)}}, {"grid": {"count": 3}}),
    ("a uint8", {"batch": np.uint8(4)}, {"batch": 4}),
    ("an int32, deeper", {"directions": {"n": np.int32(1)}}, {"directions": {"n": 1}}),
    ("a float32", {"grid": {"range": np.float32(0.5)}}, {"grid": {"range": 0.5}}),
    ("two kinds in a list", {"grid": {"range": [np.float32(-0.5), np.int8(1)]}}, {"grid": {"range": [-0.5, 1.0]}}),
    ("an array", {"grid": {"range": np.array([-0.5, 1])}}, {"grid": {"range": [-0.5, 1.0]}}),
    ("an array without axes", {"grid": {"count": np.array(3)}}, {"grid": {"count": 3}}),
    ("a tuple", {"grid": {"range": (-0.5, 1)}}, {"grid": {"range": [-0.5, 1.0]}}),
    ("a tuple of names", {"only": ("a", np.str_("b"))}, {"only": ["a", "b"]}),
    ("a bool for a bool", {"frozen": np.True_}, {"frozen": True}),
    ("a rise", {"grid": {"range": {"rise": np.float32(0.5)}}}, {"grid": {"range": {"rise": 0.5}}}),
]


@pytest.mark.parametrize(("keys", "same"), [row[1:] for row in TAKEN], ids=[row[0] for row in TAKEN])
def test_numbers_of_numpy_are_those_of_python(keys: dict[str, Any], same: dict[str, Any]) -> None:
    expected = _study(**same).model_dump()
    assert _study(**keys).model_dump() == Study(**SCIENCE | keys).model_dump() == expected


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("half an integer", {"grid": {"count": np.float64(2.5)}}, r"grid.count: .*valid integer; found 2.5"),
    ("a float that is an integer", {"grid": {"count": np.float32(3)}}, r"grid.count: .*valid integer; found 3.0"),
    ("a bool for a number", {"batch": np.True_}, r"batch: .*; found True"),
    ("a bool for a length", {"grid": {"range": np.True_}}, r"grid.range: .*; found True"),
    ("NaN", {"grid": {"range": np.float32("nan")}}, "grid.range: .*finite number; found nan"),
    ("complex", {"grid": {"range": np.complex64(0.5)}}, "grid.range: .*valid number"),
    ("what can be read once", {"only": (name for name in "ab")}, "only: .*valid list; found <generator"),
]


@pytest.mark.parametrize(("keys", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_such_number_is_one_sentence(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        _study(**keys)


# ---- what a loss holds in float32, under float64 ---------------------------------------------------------------------

X, Y = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 2
WEIGHT = torch.tensor([1.0, 3.0])


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


class _Callable:
    def __init__(self) -> None:
        self.criterion = nn.CrossEntropyLoss(weight=WEIGHT)

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        return self.criterion(model(batch[0]), batch[1])


def _closed_over(criterion: nn.Module) -> Any:
    return lambda model, batch: criterion(model(batch[0]), batch[1])


IN_CONTAINERS: Any = ({"a": nn.CrossEntropyLoss(weight=WEIGHT)},)


def _listed(model: nn.Module, batch: Any) -> Any:
    return IN_CONTAINERS[0]["a"](model(batch[0]), batch[1])


HOLDS: list[tuple[str, Any]] = [
    ("in a closure", _closed_over(nn.CrossEntropyLoss(weight=WEIGHT))),
    ("in an object", _Callable()),
    ("in containers", _listed),
]


@pytest.mark.parametrize("loss", [row[1] for row in HOLDS], ids=[row[0] for row in HOLDS])
def test_modules_that_a_loss_holds_are_cast_with_the_model(loss: Any) -> None:
    made = Objective(Task(_model(), loss, (X, Y)))
    plain = cross_entropy(_model().double()(X.double()), Y, WEIGHT.double())
    assert float(made.loss(made.parameters)) == pytest.approx(plain.item(), rel=1e-15)


def test_a_teacher_is_cast_where_the_loss_fails_without_alone() -> None:
    torch.manual_seed(1)
    teacher = nn.Linear(3, 2)

    def loss(model: nn.Module, batch: Any) -> Any:
        return ((model(batch) - teacher(batch)) ** 2).mean()

    made = Objective(Task(_model(), loss, X))
    expected = ((_model().double()(X.double()) - teacher(X.double())) ** 2).mean()  # which is float64 by now
    assert float(made.loss(made.parameters).detach()) == pytest.approx(expected.item(), rel=1e-15)
    wider = Task(_model(), lambda m, b: m(b).double().sum() * teacher(b.double()).sum(), X)
    exact = Objective(wider, precision="float32")
    assert torch.isfinite(exact.loss(exact.parameters))
    assert teacher.weight.dtype == torch.float64


class _Weighted:
    weight = WEIGHT

    def __init__(self) -> None:
        self.w = WEIGHT

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        return cross_entropy(model(batch[0]), batch[1], weight=self.w)


@pytest.mark.parametrize(
    "loss", [_Weighted(), lambda m, b, w=WEIGHT: cross_entropy(m(b[0]), b[1], w)], ids=["in an object", "by default"]
)
def test_a_tensor_that_a_loss_holds_is_named(loss: Any) -> None:
    with pytest.raises(InputError, match=r"precision is float64, and the task holds .* in float32: cast it"):
        made = Objective(Task(_model(), loss, (X, Y)))
        made.prove_deterministic()


def test_criteria_given_to_landscape_stay_as_they_are() -> None:
    criterion = nn.CrossEntropyLoss(weight=WEIGHT)
    few: dict[str, Any] = {"directions": {"kind": "random", "n": np.int64(1)}, "grid": {"count": 3}, "progress": False}
    made = landscape(_model(), criterion, (X, Y), metrics={"m": criterion}, batch=4, **few)
    plain = cross_entropy(_model().double()(X.double()), Y, WEIGHT.double()).item()
    assert made.loss.values[1] == made.metrics["m"].values[1] == pytest.approx(plain, rel=1e-15)
    assert criterion.weight is WEIGHT
    for data, told in ((X[:2], "a Tensor"), ((X, Y, Y), "a tuple of 3"), ({"x": X, "y": Y}, "a dict")):
        with pytest.raises(InputError, match=rf"each batch must be \(inputs, targets\); found {told}; give"):
            landscape(_model(), nn.MSELoss(), data, **few)
    with pytest.raises(InputError, match="a metric failed with RuntimeError: "):
        landscape(_model(), criterion, (X, Y), metrics={"m": nn.NLLLoss(torch.ones(5))}, batch=4, **few)


# ---- public functions, and what they are not of ----------------------------------------------------------------------

FIELD = np.random.default_rng(0).normal(size=(5, 6))
ANY: Any = FIELD
NOT_OF: list[tuple[str, Any, str]] = [
    ("half a point", lambda: Axis(-1, 1, ANY[0, 0]), "count is .*; give a whole number of points, 1 or more"),
    ("no point", lambda: Axis(-1, 1, 0), "count is 0"),
    ("an end at NaN", lambda: Axis(np.nan, 1, 3), "lower is nan; give a finite number"),
    ("an end at infinity", lambda: Axis(-1, np.inf, 3), "upper is inf"),
    ("an end that is a word", lambda: Axis("a", 1, 3), "lower is 'a'"),  # type: ignore[arg-type]
    ("a threshold of NaN", lambda: merge_tree(FIELD).simplify(np.nan), "threshold is nan; give a height"),
    ("a threshold of none", lambda: merge_tree(FIELD).simplify(None), "threshold is None"),  # type: ignore[arg-type]
    ("SMAD of a field", lambda: smad(ANY), r"of a merge tree; found a ndarray: give merge_tree\(values\)"),
    ("mean climb of contours", lambda: mean_climb(contour_tree(FIELD)), "found a ContourTree"),  # type: ignore[arg-type]
    ("Landscaper's of a merge tree", lambda: smad_landscaper(merge_tree(FIELD)), "contour tree; found a MergeTree"),  # type: ignore[arg-type]
    ("an array for a shape", lambda: lowest(len, np.array([9, 9]), share=0.1), "shape is .*; give the number of"),  # type: ignore[arg-type]
    ("a shape of floats", lambda: lowest(len, (9.0, 9), share=0.1), r"shape is \(9.0, 9\)"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in NOT_OF], ids=[row[0] for row in NOT_OF])
def test_what_functions_are_not_of_is_one_sentence(call: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()


def test_a_study_is_loaded_by_a_name_that_is_a_text(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("{name: s, task: task.py, checkpoints: [{name: c, file: c.pt}]}")
    assert Study.load(str(file)).path("task.py") == tmp_path / "task.py"
