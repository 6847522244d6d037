"""Recorded functions give the bits of the function itself, with less to do."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from problems import TASKS
from torch import Tensor, nn
from torch.func import jvp, vmap

from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.recording.padding import pad
from landscaper_hpc.recording.record import NotRecordable, record
from landscaper_hpc.recording.rewrite import rewrite


def operations(recorded: torch.fx.GraphModule) -> list[str]:
    return [str(node.target) for node in recorded.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"branching"}))
def test_a_recorded_loss_has_the_bits_of_the_loss(name: str) -> None:
    objective = Objective(TASKS[name]())
    recorded = record(objective.loss, objective.parameters)
    for scale in (1.0, 1.3, -0.2):
        params = {k: scale * v for k, v in objective.parameters.items()}
        assert torch.equal(recorded(params), objective.loss(params).detach())


def test_what_does_not_depend_on_the_argument_is_computed_once() -> None:
    data = torch.linspace(0, 1, 100)
    recorded = record(lambda x: (x * data.sin().exp()).sum(), torch.ones(100))
    assert operations(recorded) == ["aten.mul.Tensor", "aten.sum.default"]
    assert torch.equal(recorded(2 * torch.ones(100)), (2 * data.sin().exp()).sum())


def test_zero_tangents_cost_nothing() -> None:
    x, v = torch.randn(20, 3), torch.randn(20, 3)

    def derivative(weight: Tensor) -> Tensor:
        return jvp(lambda x: torch.tanh(x @ weight.T), (x,), (v,))[1].sum()

    weight = torch.randn(4, 3)
    recorded = record(derivative, weight)
    assert operations(recorded).count("aten.mm.default") == 2  # the value and its tangent, not x times zero
    assert torch.equal(recorded(weight + 1), derivative(weight + 1))


def test_large_zero_tangents_too() -> None:
    def function(x: Tensor) -> Tensor:
        return (x @ torch.zeros(600, 600) + x).sum()  # too large to be folded

    recorded = record(function, torch.ones(600, 600))
    x = torch.randn(600, 600)
    torch.testing.assert_close(recorded(x), function(x))


def test_a_constant_that_is_moved_stays_on_the_device_of_the_argument() -> None:
    constant = torch.tensor([1.0, 2.0, 3.0])  # meta stands for a GPU here
    for function in (lambda x: x * constant.to(x.device), lambda x: x * torch.tensor([1.0, 2.0, 3.0], device=x.device)):
        recorded = record(function, torch.ones(3, device="meta"))
        assert {str(buffer.device) for buffer in recorded.buffers()} == {"meta"}
        assert operations(recorded) == ["aten.mul.Tensor"]


def test_what_is_computed_twice_from_equal_constants_is_computed_once() -> None:
    """A model may make its mask anew with every call."""

    def masked(x: Tensor) -> Tensor:
        return torch.where(torch.tensor([True, False, True]), x, torch.tensor(-2.0)).exp()

    recorded = record(lambda x: masked(x).sum() + masked(x).prod(), torch.ones(3))
    assert operations(recorded).count("aten.exp.default") == 1
    x = torch.arange(3.0)
    assert torch.equal(recorded(x), masked(x).sum() + masked(x).prod())


def test_vmap_leaves_no_trace() -> None:
    f = vmap(lambda w: torch.tanh(torch.ones(5, 3) @ w).sum())
    w = torch.randn(7, 3, 2)
    recorded = record(f, w)
    assert torch.equal(recorded(w + 1), f(w + 1))


def _whatever_happens(function, otherwise: Tensor) -> Tensor:
    try:
        return function()
    except Exception:
        return otherwise


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x if x.sum() > 0 else -x, "."),
        (lambda x: x * x.sum().item(), "."),
        (lambda x: x + torch.randn(3), "random"),
        (lambda x: torch.nn.functional.dropout(x), "random"),
        (lambda x: x[x > 0.5].sum(), "a shape depends on values .*index"),
        (lambda x: x.sum() * len(torch.unique(x)), "a shape depends on values .*unique"),
        (lambda x: torch.masked_select(x, x > 0.5).mean(), "a shape depends on values .*masked_select"),
        (lambda x: torch.repeat_interleave(x, (x > 0).long()).sum(), "a shape depends on values .*repeat_interleave"),
        (lambda x: torch.where(x > 0.5)[0].sum() * x.sum(), "a shape depends on values .*nonzero"),
        (lambda x: (x * torch.from_numpy(x.detach().numpy() > 0)).sum(), "values leave torch .numpy."),
        (lambda x: x.sum() * x.tolist()[0], "values leave torch .tolist."),
        (lambda x: x.sum() * float(np.asarray(x.detach()).max()), "values leave torch .__array__."),
        (lambda x: sum(p.sum() for p in x.tensor_split((3 * x[:1]).long())), "values leave torch .tensor_split."),
        (
            lambda x: torch.func.grad(lambda y: (y * torch.from_numpy(y.detach().numpy() > 0)).sum())(x).sum(),
            "values leave torch .numpy.",
        ),
        (lambda x: (x * torch.tensor([x.sum(), 2.0, 3.0])).sum(), "values leave torch .tensor."),
        (lambda x: (x * torch.as_tensor([[x.sum()], [2.0]])).sum(), "values leave torch .as_tensor."),
        (lambda x: (x * x.new_tensor([x[0], x[1], 3.0])).sum(), "values leave torch .new_tensor."),
        (lambda x: (x * torch.Tensor([x.sum(), 2.0, 3.0])).sum(), "values leave torch .__float__."),
        (lambda x: torch.func.vmap(lambda y: y * torch.tensor([y.detach()]))(x).sum(), "."),
        (
            lambda x: (x * copy.copy(x.detach())).sum(),
            "values leave torch .untyped_storage.",
        ),  # a crash, if not refused
        (lambda x: (x * x.detach().clone().share_memory_()).sum(), "values leave torch .share_memory_."),
        (lambda x: _whatever_happens(lambda: x.sum() * x.max().item(), x.sum()), "its course depends on values"),
    ],
)
def test_what_a_list_of_operations_cannot_say_is_refused(function, message: str) -> None:
    with pytest.raises(NotRecordable, match=message):
        record(function, torch.ones(3))


def test_values_of_constants_may_decide() -> None:
    data = torch.tensor([1.0, 2.0])
    recorded = record(lambda x: (x * data.sum().item() if data.max() > 1 else x).sum(), torch.ones(3))
    assert recorded(2 * torch.ones(3)) == 18


def test_constants_may_have_shapes_that_depend_on_their_values_and_may_leave_torch() -> None:
    def function(x: Tensor) -> Tensor:
        c = torch.tensor([1.0, 2.0, 3.0])
        d = torch.tensor([c.sum(), 1.0]) + torch.Tensor([c[0], 0]) + x.new_tensor(4)
        return (
            x[c > 1].sum() + len(torch.unique(c)) + float(c.numpy().sum()) + x.data.sum() + x[x.argsort()][0] + d.sum()
        )

    recorded = record(function, torch.ones(3))
    assert recorded(torch.tensor([1.0, 2.0, 5.0])) == 7 + 3 + 6 + 8 + 1 + 16


@pytest.mark.processes
def test_recording_imports_no_compiler() -> None:
    code = (
        "import sys, torch; from torch.func import vmap; from landscaper_hpc.recording.record import record; "
        "record(vmap(lambda x: (x @ x).tanh().sum()), torch.ones(2, 3, 3)); "
        "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'torch._inductor', 'sympy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0


@pytest.mark.processes
def test_a_compiled_function_is_recorded_as_it_is_written() -> None:
    """And neither it nor the recorder is compiled meanwhile."""
    code = (
        "import sys, torch; from landscaper_hpc.recording.record import record\n"
        "def f(x): return (x @ x).tanh().sum()\n"
        "x = torch.eye(3) / 2\n"
        "found = record(torch.compile(f, backend='eager'), x)\n"
        "from torch._dynamo.utils import counters\n"
        "sys.exit(not torch.equal(found(x), f(x)) or counters['frames']['total'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=240, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.processes
def test_recording_writes_into_new_tensors_does_not_import_the_compilers() -> None:
    """As losses of classifiers and activations do; to do without such writes torch would bring its compilers along."""
    code = (
        "import sys, torch; from torch.nn import functional as F; from landscaper_hpc.recording.record import record\n"
        "def loss(x): return F.binary_cross_entropy_with_logits(F.relu(x + 1, inplace=True).mul_(2), torch.ones(3))\n"
        "record(loss, torch.ones(3))\n"
        "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'torch._inductor', 'sympy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0


@pytest.mark.parametrize("name", ["twice", "under another name", "into the argument", "with a wider type"])
def test_writes_in_place_are_recorded_with_the_bits_of_the_function(name: str) -> None:
    def twice(x: Tensor) -> Tensor:
        y = x + 1
        return (y.mul_(x).add_(y, alpha=2) + y).sum()

    def under_another_name(x: Tensor) -> Tensor:
        y = x + 1
        first = y[0]
        y.mul_(3)
        return first + y.sum()

    def into_the_argument(x: Tensor) -> Tensor:
        y = x.clone()
        (-y).add_(1)
        return y.detach().mul_(2).sum() + y.sum()

    def with_a_wider_type(x: Tensor) -> Tensor:
        return (x * 2).add_(torch.ones(3, dtype=torch.float64)).sum()

    functions = (twice, under_another_name, into_the_argument, with_a_wider_type)
    function = next(f for f in functions if f.__name__ == name.replace(" ", "_"))
    recorded = record(function, torch.ones(3))
    for scale in (1.0, -0.7):
        x = scale * torch.arange(1.0, 4.0)
        assert torch.equal(recorded(x.clone()), function(x.clone()))


@pytest.mark.parametrize("closed_over", [False, True])
def test_writes_into_tensors_are_recorded_without_side_effects(closed_over: bool) -> None:
    constant = torch.zeros(3)

    def writes(x: Tensor) -> Tensor:
        buffer = constant.clone() if closed_over else torch.zeros(3)
        buffer[1] = x[0]
        buffer += x
        return buffer.square().sum()

    recorded = record(writes, torch.ones(3))
    for scale in (1.0, 2.0, 3.0):
        x = scale * torch.arange(1.0, 4.0)
        assert torch.equal(recorded(x), writes(x))
    assert not constant.any()


def test_what_is_computed_twice_is_computed_once() -> None:
    recorded = record(lambda w: (w.t() @ w).sum() + (w.t() @ w).sum(), torch.randn(3, 3))
    assert operations(recorded).count("aten.mm.default") == 1


# ---- rewrites -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_goes_into_the_convolution(bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=bias)
    norm = torch.nn.BatchNorm2d(4, affine=affine)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    model = torch.nn.Sequential(convolution, norm, torch.nn.ReLU()).double().eval().requires_grad_(False)
    x = torch.randn(5, 3, 7, 7, dtype=torch.float64)
    params = {k: torch.randn_like(p) for k, p in model.named_parameters()}
    recorded = record(lambda p: torch.func.functional_call(model, p, x).square().sum(), params)
    assert rewrite(recorded, batched=False) == ["BatchNorm folded"]
    assert not any("batch_norm" in operation for operation in operations(recorded))
    params = {k: torch.randn_like(p) for k, p in params.items()}
    before = {k: p.clone() for k, p in params.items()}
    for _ in range(2):  # nothing is written into what is used again
        torch.testing.assert_close(
            recorded(params), torch.func.functional_call(model, params, x).square().sum(), rtol=1e-13, atol=0
        )
    assert all(torch.equal(p, before[k]) for k, p in params.items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(64,), (5, 7), (3, 5, 7)])
def test_tanh_by_sigmoid(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=dtype)
    for batched in (False, True):
        for function in (torch.tanh, lambda x: (x * 3).tanh() + (x * 3), lambda x: (x * 3).tanh()):
            recorded = record(function, x)
            assert rewrite(recorded, batched=batched) == ["tanh by sigmoid"]
            for argument in (x, 30 * x, torch.full_like(x, torch.nan)):
                kept, eps = argument.clone(), torch.finfo(dtype).eps
                torch.testing.assert_close(
                    recorded(argument), function(argument), rtol=eps, atol=4 * eps, equal_nan=True
                )
                assert torch.equal(argument.nan_to_num(), kept.nan_to_num())
    signs = record(torch.tanh, x)
    rewrite(signs, batched=False)
    assert torch.equal(signs(x.new_tensor([torch.inf, -torch.inf, 0.0])), x.new_tensor([1.0, -1.0, 0.0]))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("between", ["tanh", "relu", "tanh, read again"])
def test_the_bias_goes_into_the_product(between: str, outputs: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, dtype=torch.float64)

    def function(p: dict[str, Tensor]) -> Tensor:
        hidden = torch.nn.functional.linear(x, p["w"], p["b"])
        active = hidden.relu() if between == "relu" else hidden.tanh()
        result = torch.nn.functional.linear(active, p["v"], p["c"]).flatten().square().sum()
        return result + hidden.exp().sum() + active.sum() if "again" in between else result

    shapes = {"w": (5, 4, 3), "b": (5, 4), "v": (5, outputs, 4), "c": (5, outputs)}
    params = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    recorded = record(vmap(function), params)
    assert rewrite(recorded, batched=True)[0] == "bias in the product"
    products = [operation for operation in operations(recorded) if "bmm" in operation]
    assert products == ["aten.baddbmm.default"] * 2
    before = {k: p.clone() for k, p in params.items()}
    for _ in range(2):
        torch.testing.assert_close(recorded(params), vmap(function)(params), rtol=1e-13, atol=0)
    assert all(torch.equal(p, before[k]) for k, p in params.items())


def test_what_is_read_again_is_not_overwritten() -> None:
    def function(x: Tensor) -> Tensor:
        y = x * 2
        z = y.relu() + y
        return z.tanh() + z + z.relu()

    x = torch.randn(8, 8, dtype=torch.float64)
    recorded = record(function, x)
    assert rewrite(recorded, batched=False)
    torch.testing.assert_close(recorded(x), function(x), rtol=1e-14, atol=1e-15)


def test_what_writes_is_left_alone() -> None:
    def writes(x: Tensor) -> Tensor:
        buffer = torch.zeros(3)
        buffer[1] = x[0]
        return (buffer + x).tanh().sum()

    recorded = record(writes, torch.ones(3))
    value = recorded(torch.ones(3))
    rewrite(recorded, batched=False)
    torch.testing.assert_close(recorded(torch.ones(3)), value)


# ---- padding --------------------------------------------------------------------------------------------------------


ELEMENTWISE = {
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "elu": nn.functional.elu,
    "selu": nn.functional.selu,
    "mish": nn.functional.mish,
    "gelu": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "softplus": nn.functional.softplus,
    "log-sigmoid": nn.functional.logsigmoid,
    "power": lambda x: (x * x + 1) ** 1.7,
    "multiply and add": lambda x: torch.add(x, x.square(), alpha=0.3) + torch.lerp(x, x * x, 0.3),
    "huber": lambda x: nn.functional.huber_loss(x, x * x, reduction="none"),
    "derivative of silu": torch.func.vmap(torch.func.grad(nn.functional.silu)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_value_does_not_depend_on_where_a_vector_register_ends(name: str, dtype: torch.dtype) -> None:
    row = torch.linspace(-3, 3, 37).to(dtype)
    for rows in (2, 4, 16):
        recorded = record(vmap(ELEMENTWISE[name]), row.repeat(rows, 1))
        assert pad(recorded) == ""
        found = recorded(row.repeat(rows, 1))
        assert all(torch.equal(found[i], found[0]) for i in range(rows))
        torch.testing.assert_close(found[0], ELEMENTWISE[name](row))


def test_what_cannot_be_filled_up_is_named() -> None:
    def writes(x: Tensor) -> Tensor:
        (y,) = torch.autograd.grad((x.requires_grad_().square()).sum(), x, create_graph=True)
        return y.detach().sigmoid_()

    recorded = record(writes, torch.ones(37))
    assert pad(recorded) == "aten.sigmoid_.default"
    assert not pad(record(writes, torch.ones(64)))
