"""Hessian-vector products and eigenpairs against the dense Hessian."""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Forked
from problems import TASKS, cnn_task, dense_hessian, dense_hessian_of, function, mlp_task, quadratic
from torch import nn
from torch.utils.checkpoint import checkpoint

from landscaper_hpc.directions.directions import hessian_directions
from landscaper_hpc.directions.gradient import refuse_wrong_gradient
from landscaper_hpc.directions.hessian import Hessian, proof_of
from landscaper_hpc.directions.lanczos import by_magnitude, eigenpairs, mixture, most_negative
from landscaper_hpc.directions.proof import along
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.objective import Objective, Task
from landscaper_hpc.recording.slabs import divide_into, mean_of
from tests.kinds import kinds


def gaps_removed(hessian: Hessian, flat: torch.Tensor) -> torch.Tensor:
    return torch.cat([flat[..., place] for place in hessian.layout.slices().values()], dim=-1)


_LONG = {"cnn", "laplacian", "transformer", "mlp, unequal batches"}


@pytest.mark.parametrize("mode", ["forward-over-reverse", "reverse-over-reverse"])
@pytest.mark.parametrize("name", kinds(TASKS, *set(TASKS) - _LONG))
def test_products_against_the_dense_hessian(name: str, mode: str) -> None:
    objective = Objective(TASKS[name]())
    if name == "autograd inside" and mode == "forward-over-reverse":
        mode = Hessian(objective).mode
        assert mode == "reverse-over-reverse"  # the one that works is found
    hessian = Hessian(objective, mode)
    dense = dense_hessian_of(name)
    for seed in range(3):
        v = hessian.random(seed)
        product = hessian @ v
        torch.testing.assert_close(
            gaps_removed(hessian, product), dense @ gaps_removed(hessian, v), rtol=1e-9, atol=1e-11
        )
        assert product.norm() == pytest.approx(gaps_removed(hessian, product).norm())  # nothing in the gaps


@pytest.mark.thorough
def test_a_large_batch_in_slabs_gives_the_same_products(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Hessian(Objective(cnn_task(70)))
    monkeypatch.setattr("landscaper_hpc.directions.derivatives.CACHE_BYTES", 16 * 6 * 6 * 4 * 8)  # 16 of the images
    divided, lean = Hessian(Objective(cnn_task(70))), Hessian(Objective(cnn_task(70)))
    lean.derivatives.room = -1  # nothing may be kept
    lean.derivatives.kept.clear()
    v = whole.random(1)
    torch.testing.assert_close(divided @ v, whole @ v, rtol=1e-10, atol=1e-12)
    assert torch.equal(lean @ v, divided @ v)
    assert (len(whole.derivatives.kept), len(divided.derivatives.kept), len(lean.derivatives.kept)) == (1, 5, 0)
    base = cnn_task(70)
    other = Objective(Task(base.model, lambda model, batch: base.loss(model, batch).mean().sqrt(), base.data))
    assert len(Hessian(other).derivatives.kept) == 1  # no mean over examples


def test_slabs_of_a_loss_that_calls_autograd_itself() -> None:
    objective = Objective(TASKS["autograd inside"]())
    assert mean_of(objective, divide_into(objective.batches[0], 40, 3))


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


@pytest.mark.parametrize("power", [1, 2])
def test_what_has_no_second_derivative_falls_back_to_finite_differences(power: int, caplog) -> None:
    objective = function(
        lambda x: (OnceDifferentiable.apply(x) ** power).sum(), torch.linspace(1, 2, 4, dtype=torch.float64)
    )
    with caplog.at_level("INFO", logger="landscaper_hpc"):
        hessian = Hessian(objective)
    assert hessian.mode == "finite differences"
    assert "only once" in caplog.text
    assert "relative error is about" in caplog.text
    v = hessian.random(1)
    exact = 2 * power * (2 * power - 1) * objective.parameters["x"] ** (2 * power - 2)
    torch.testing.assert_close((hessian @ v)[:4], exact * v[:4], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", kinds(["mlp", "cnn", "transformer"], "mlp"))
@pytest.mark.parametrize(("precision", "bound"), [("float64", 1e-8), ("float32", 1e-3), ("bf16", 0.5)])
def test_finite_differences_are_as_close_as_they_say(name: str, precision: str, bound: float, caplog) -> None:
    exact = Hessian(Objective(TASKS[name]()))
    with caplog.at_level("INFO", logger="landscaper_hpc"):
        differences = Hessian(Objective(TASKS[name](), precision=precision), "finite differences")
    v = exact.random(0)
    error = float((exact @ v - differences @ v.to(differences.objective.dtype)).norm() / (exact @ v).norm())
    said = float(caplog.text.strip().rsplit(" ", 1)[1])
    assert error < bound
    assert said / 5 < error < 5 * said


def test_attention_falls_back_to_plain_products_with_a_message(caplog) -> None:
    with caplog.at_level("INFO", logger="landscaper_hpc"):
        hessian = Hessian(Objective(TASKS["transformer"]()))
    assert hessian.derivatives.plain_attention
    assert "attention without fused kernels" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", logger="landscaper_hpc"):
        assert not Hessian(Objective(mlp_task())).derivatives.plain_attention
    assert not caplog.text


def test_a_loss_that_cannot_be_differentiated_says_so() -> None:
    class Never(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.square()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("no derivative here")

    with pytest.raises(InputError, match=r"cannot be differentiated .*no derivative here.*kind: random"):
        Hessian(function(lambda x: Never.apply(x).sum(), torch.ones(4)))


# ---- eigenpairs -----------------------------------------------------------------------------------------------------


def solve(matrix: np.ndarray, n: int, **kwargs):
    a = torch.from_numpy(matrix)

    def random(i: int) -> torch.Tensor:
        return torch.randn(len(a), dtype=torch.float64, generator=torch.Generator().manual_seed(i))

    options = {"tolerance": 1e-9, "max_products": 4000} | kwargs
    return eigenpairs(lambda v: a @ v, random, len(a), n, **options)


def symmetric(values: np.ndarray, seed: int = 0) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return (q * values) @ q.T


SPECTRA = {
    "one large": np.r_[100.0, np.linspace(-1, 0.9, 99)],
    "both signs": np.r_[-50.0, 49.0, -48.0, np.linspace(-1, 1, 97)],
    "hessian-like": np.r_[np.geomspace(100, 1, 10), np.random.default_rng(0).normal(0, 0.01, 190)],
    "close together": np.linspace(1, 2, 120),
    "repeated": np.r_[5.0, 5.0, 5.0, np.linspace(-1, 1, 60)],
    "low rank": np.r_[3.0, -2.0, 1.0, np.zeros(50)],
    "identity": np.full(20, 2.0),
    "tiny": np.array([3.0, -4.0]),
}


@pytest.mark.parametrize("basis", [None, 12])
@pytest.mark.parametrize(
    "name", kinds(SPECTRA, "both signs", "hessian-like", "repeated", "low rank", "identity", "tiny")
)
def test_eigenpairs_of_known_spectra(name: str, basis: int | None) -> None:
    values = SPECTRA[name]
    n = min(3, len(values))
    matrix = symmetric(values)
    found = solve(matrix, n, basis=basis)
    expected = values[np.argsort(-np.abs(values), kind="stable")][:n]
    np.testing.assert_allclose(found.values, expected, rtol=1e-9)
    v = found.vectors.numpy()
    np.testing.assert_allclose(v @ v.T, np.eye(n), atol=1e-10)
    residual = np.linalg.norm(v @ matrix - found.values[:, None] * v, axis=1) / np.abs(found.values)
    assert (residual <= 1e-8).all()
    np.testing.assert_allclose(residual, found.residuals, atol=1e-8)


def test_residuals_are_those_of_the_vectors() -> None:
    matrix = symmetric(SPECTRA["hessian-like"])
    found = solve(matrix, 4, tolerance=1e-2)
    v = found.vectors.numpy()
    residual = np.linalg.norm(v @ matrix - found.values[:, None] * v, axis=1) / np.abs(found.values)
    np.testing.assert_allclose(residual, found.residuals, rtol=1e-6, atol=1e-12)
    assert residual.max() <= 1e-2


@pytest.mark.thorough
def test_gradients_of_parts_of_the_data_are_a_better_start() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 30), nn.Tanh(), nn.Linear(30, 30), nn.Tanh(), nn.Linear(30, 1))
    x = torch.rand(100, 2)
    y = torch.sin(6 * x[:, :1]) * x[:, 1:]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    hessian = Hessian(Objective(Task(model, lambda m, b: (m(b[0]) - b[1]).square().mean(), (x, y))))
    spent = []
    for starts in ((None, None), (lambda: hessian.start(0), lambda: hessian.start(1))):
        options = {"tolerance": 1e-4, "max_products": 300}
        size = hessian.layout.dimension
        found = [eigenpairs(hessian.__matmul__, hessian.random, size, 4, start=start, **options) for start in starts]
        spent.append(sum(f.products for f in found))
    assert spent[1] < spent[0]
    assert torch.equal(hessian.start(0), hessian.start(0))
    flat = function(lambda x: x.square().sum() - x.square().sum(), torch.ones(4, dtype=torch.float64))
    assert torch.equal(Hessian(flat).start(3), Hessian(flat).random(3))  # no gradient


def test_not_enough_products_says_what_to_raise() -> None:
    with pytest.raises(InputError, match=r"directions.max_iterations: 7 .* residual of .*raise directions.max_iter"):
        solve(symmetric(SPECTRA["close together"]), 3, max_products=7)


@pytest.mark.parametrize("name", kinds(["mlp", "pinn", "cnn", "transformer", "autograd inside"], "mlp"))
def test_top_eigenpairs_of_networks(name: str) -> None:
    objective = Objective(TASKS[name]())
    dense = np.linalg.eigvalsh(dense_hessian_of(name).numpy())
    hessian = Hessian(objective)
    found = eigenpairs(
        hessian.__matmul__, hessian.random, hessian.layout.dimension, 3, tolerance=1e-7, max_products=500
    )
    np.testing.assert_allclose(found.values, dense[np.argsort(-np.abs(dense))][:3], rtol=1e-5)


def test_a_flat_and_an_infinite_loss_say_so() -> None:
    for f, message in ((lambda x: x.sum(), "zero in every direction"), (lambda x: x.log().sum(), "not finite")):
        hessian = Hessian(function(f, torch.zeros(5, dtype=torch.float64)))
        with pytest.raises(InputError, match=message):
            eigenpairs(hessian.__matmul__, hessian.random, 5, 2, tolerance=1e-3, max_products=50)


def test_more_directions_than_parameters() -> None:
    hessian = Hessian(quadratic([1.0, 2.0]))
    with pytest.raises(InputError, match="only 2 parameters move"):
        eigenpairs(hessian.__matmul__, hessian.random, 2, 3, tolerance=1e-3, max_products=50)


def test_reduced_precision_finds_the_same_pairs() -> None:
    exact, low = (Objective(mlp_task(), precision=p) for p in ("float64", "float32"))
    values = []
    for objective in (exact, low):
        h = Hessian(objective)
        values.append(eigenpairs(h.__matmul__, h.random, h.layout.dimension, 3, tolerance=1e-3, max_products=99).values)
    np.testing.assert_allclose(values[1], values[0], rtol=1e-4)


ORDERS = {
    "magnitude": (by_magnitude, [-50.0, 49.0, -48.0]),
    "most negative": (most_negative, [-50.0, -48.0, -1.0]),
    "mixture": (mixture(1, 2), [49.0, -50.0, -48.0]),
}


@pytest.mark.parametrize("basis", [None, 12])
@pytest.mark.parametrize("name", kinds(ORDERS, "magnitude", "mixture"))
def test_which_eigenpairs(name: str, basis: int | None) -> None:
    order, expected = ORDERS[name]
    found = solve(symmetric(SPECTRA["both signs"]), 3, order=order, basis=basis)
    np.testing.assert_allclose(found.values, expected, rtol=1e-9)


class Killed(Exception):
    pass


@pytest.mark.processes
@pytest.mark.parametrize(("kill_at", "torn"), [(1, False), (9, False), (11, False), (25, False), (25, True)])
def test_a_killed_search_goes_on_with_the_same_bits(kill_at: int, torn: bool, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("landscaper_hpc.directions.lanczos.SECONDS_BETWEEN_SAVES", 0.0)
    a = torch.from_numpy(symmetric(SPECTRA["close together"]))
    calls = []

    def product(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == kill_at + 1:
            raise Killed
        return a @ v

    def search(path):
        start = lambda i: torch.randn(len(a), dtype=torch.float64, generator=torch.Generator().manual_seed(i))  # noqa: E731
        return eigenpairs(product, start, len(a), 3, tolerance=1e-9, max_products=400, basis=10, resume=path)

    path = tmp_path / "lanczos.pt"
    with pytest.raises(Killed):
        search(path)
    before = len(calls)
    if torn:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    resumed = search(path)
    fresh = search(tmp_path / "other.pt")
    assert torch.equal(resumed.vectors, fresh.vectors)
    assert resumed.products == fresh.products
    assert len(calls) - before == 2 * fresh.products - (0 if torn else kill_at)  # nothing was done twice


@pytest.mark.processes
def test_kill_9_and_on_from_the_last_vector(tmp_path) -> None:
    script = Path(__file__).parents[1] / "lanczos_process.py"

    def search(name: str, *, kill_after: int = 0) -> list[int]:
        files = str(tmp_path / f"{name}.lanczos"), str(tmp_path / f"{name}.pt")
        done = []
        with Forked([*files, kill_after], script, stdout=subprocess.PIPE) as process:
            for line in process.stdout:
                done.append(int(line))
                if done[-1] == kill_after:
                    process.kill()
        assert process.returncode == (-signal.SIGKILL if kill_after else 0)
        return done

    whole = search("whole")
    middle = len(whole) // 2
    assert search("killed", kill_after=middle) == whole[:middle]
    assert search("killed") == whole[middle - 1 :]  # only the product that was not saved yet is done again
    vectors = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed")]
    assert all(torch.equal(vectors[0][k], vectors[1][k]) for k in vectors[0])


def test_a_saved_search_of_something_else_is_not_taken_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("landscaper_hpc.directions.lanczos.SECONDS_BETWEEN_SAVES", 0.0)
    path = tmp_path / "lanczos.pt"
    solve(symmetric(SPECTRA["both signs"]), 3, resume=path)
    assert path.exists()
    found = solve(symmetric(SPECTRA["hessian-like"]), 3, resume=path)
    np.testing.assert_allclose(found.values, np.sort(SPECTRA["hessian-like"])[::-1][:3], rtol=1e-9)


@pytest.mark.thorough
def test_the_hessian_of_a_group_of_parameters() -> None:
    objective = Objective(TASKS["transformer"](), only=["qkv.*", "out.weight"])
    assert list(objective.parameters) == ["qkv.weight", "qkv.bias", "out.weight"]
    full = Objective(TASKS["transformer"]())
    sizes = [p.numel() for p in full.parameters.values()]
    starts = dict(zip(full.parameters, np.cumsum([0, *sizes[:-1]]), strict=True))
    rows = np.concatenate([np.arange(starts[k], starts[k] + p.numel()) for k, p in objective.parameters.items()])
    block = dense_hessian(full).numpy()[np.ix_(rows, rows)]
    hessian = Hessian(objective)
    v = hessian.random(0)
    np.testing.assert_allclose(
        gaps_removed(hessian, hessian @ v), block @ gaps_removed(hessian, v).numpy(), rtol=1e-9, atol=1e-11
    )
    with pytest.raises(InputError, match=r"no parameter that moves matches 'head\.\*'; there are embed\.weight"):
        Objective(TASKS["transformer"](), only=["head.*"])


@pytest.mark.processes
def test_any_number_of_ranks_gives_the_same_products_and_eigenvectors(tmp_path) -> None:
    script = Path(__file__).parents[1] / "hessian_rank.py"
    ranks = [Forked([rank, 3, tmp_path], script, stderr=subprocess.PIPE) for rank in range(3)]
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    for name, objective in (
        ("batches", Objective(mlp_task(batches=True))),
        ("one batch", Objective(TASKS["transformer"]())),
    ):
        alone = Hessian(objective)
        expected = alone @ alone.random(1)
        for size in (1, 2, 3):
            for mode, tolerance in ((None, 1e-12), ("finite differences", 1e-6)):
                found = [torch.load(tmp_path / f"{name}-{mode}-{size}-{r}.pt", weights_only=True) for r in range(size)]
                assert all(torch.equal(f, found[0]) for f in found)
                torch.testing.assert_close(found[0], expected, rtol=tolerance, atol=tolerance)
            vectors = [torch.load(tmp_path / f"{name}-vectors-{size}-{r}.pt", weights_only=True) for r in range(size)]
            one = hessian_directions(objective, 2, tolerance=1e-8, normalization="unit").vectors
            for key, expected_vector in one.items():
                assert all(torch.equal(v[key], vectors[0][key]) for v in vectors)
                torch.testing.assert_close(vectors[0][key], expected_vector, rtol=1e-6, atol=1e-7)


# ---- every Hessian is proved ----------------------------------------------------------------------------------------


class Once(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return OnceTanh.apply(x)


class OnceTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].tanh().square())


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(checkpoint(lambda z: self.first(z).tanh(), x, use_reentrant=False))


def with_derivative_inside(model: nn.Module) -> Task:
    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        z = batch.clone().requires_grad_()
        u = model(z)
        (slope,) = torch.autograd.grad(u.sum(), z, create_graph=True)
        return slope.square().sum(dim=1) + u.square().sum(dim=1)

    return Task(model, loss, torch.rand(12, 5))


def with_a_tangent_inside(model: nn.Module) -> Task:
    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        u, slope = torch.func.jvp(model, (batch,), (torch.ones_like(batch),))
        return slope.square().mean() + (u - 1).square().mean()

    return Task(model, loss, torch.rand(12, 5))


def classified(model: nn.Module, examples: int = 12) -> Task:
    data = (torch.randn(examples, 5), torch.randint(0, 3, (examples,)))
    return Task(model, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none"), data)


def contrastive() -> Task:
    model = nn.ModuleList([nn.Linear(5, 4), nn.Linear(3, 4)])

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        logits = model[0](batch[0]) @ model[1](batch[1]).T
        return nn.functional.cross_entropy(logits, torch.arange(30))

    return Task(model, loss, (torch.randn(30, 5), torch.randn(30, 3)))


def layers(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), *middle, nn.Linear(4, 3))


weight_norm = nn.utils.parametrizations.weight_norm
FAULTS = {
    "weight_norm": lambda: classified(nn.Sequential(weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3))),
    "weight_norm, derivative inside": lambda: with_derivative_inside(
        nn.Sequential(weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 1))
    ),
    "layer norm, derivative inside": lambda: with_derivative_inside(layers(nn.LayerNorm(4), nn.Tanh())),
    "layer norm, tangent inside": lambda: with_a_tangent_inside(layers(nn.LayerNorm(4), nn.Tanh())),
    "batch norm, derivative inside": lambda: with_derivative_inside(
        layers(nn.BatchNorm1d(4, track_running_stats=False), nn.Tanh())
    ),
    "batch norm, tangent inside": lambda: with_a_tangent_inside(
        layers(nn.BatchNorm1d(4, track_running_stats=False), nn.Tanh())
    ),
    "instance norm, derivative inside": lambda: with_derivative_inside(
        layers(nn.InstanceNorm1d(12, affine=True), nn.Tanh())
    ),
    "once differentiable": lambda: classified(layers(nn.Tanh(), nn.Linear(4, 4), Once())),
    "checkpointed": lambda: classified(Checkpointed()),
    "kinks": lambda: classified(layers(nn.ReLU(), nn.Linear(4, 4), nn.ReLU()), 300),
    "statistics of the batch": lambda: classified(layers(nn.BatchNorm1d(4, track_running_stats=False), nn.Tanh())),
    "contrastive": contrastive,
}


def by_losses(objective: Objective, v: torch.Tensor, w: torch.Tensor) -> float:
    """w'Hv by fourth-order second differences of the losses alone."""
    layout = Layout.of(objective.parameters)
    theta = layout.flatten(objective.parameters)

    def mixed(h: float) -> float:
        return sum(
            s * t * float(objective.loss(layout.unflatten(theta + h * (s * v + t * w))).detach())
            for s in (1, -1)
            for t in (1, -1)
        ) / (4 * h * h)

    return (4 * mixed(1e-3) - mixed(2e-3)) / 3


@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"kinks"}))
@pytest.mark.thorough
def test_products_against_differences_of_the_losses(name: str) -> None:
    torch.manual_seed(0)
    objective = Objective(FAULTS[name]())
    hessian = Hessian(objective)
    hessian.start(0)
    v = hessian.random(1)
    product = hessian @ v
    for seed in range(2, 6):
        w = hessian.random(seed)
        assert float(w @ product) == pytest.approx(
            by_losses(objective, v, w), rel=1e-4, abs=1e-5 * float(product.norm())
        )
    assert hessian.agreement < 1e-6
    assert proof_of(objective)["hessian_agreement"] == hessian.agreement
    if "norm" in name and name != "batch norm, tangent inside":
        assert "without fused kernels" in proof_of(objective)["hessian_mode"]
    assert (hessian.mode == "finite differences") == (name == "once differentiable")


def test_weight_norm_has_the_eigenvalues_of_its_losses() -> None:
    """By torch's fused kernel they would be 0.6716 and 0.5858, with small residuals."""
    torch.manual_seed(0)
    objective = Objective(classified(nn.Sequential(weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3))))
    found = hessian_directions(objective, 2, tolerance=1e-6).eigenvalues
    assert found == pytest.approx([0.70553862, 0.60758248], rel=1e-6)


@pytest.mark.parametrize(("inside", "batches"), [(classified, 1), (classified, 2), (with_derivative_inside, 1)])
def test_a_backward_pass_that_can_be_taken_once_has_the_eigenvalues_of_what_it_computes(
    inside: Callable[[nn.Module], Task], batches: int
) -> None:
    """In mid-network torch takes what is behind it for constant, silently; with a derivative inside there is none."""
    for layer in (nn.Tanh(), Once()):
        torch.manual_seed(0)
        task = inside(layers(layer, nn.Linear(4, 4), nn.Tanh()))
        if batches > 1:
            x, y = task.data
            task = Task(task.model, task.loss, [(x[:5], y[:5]), (x[5:], y[5:])])
        objective = Objective(task)
        if isinstance(layer, nn.Tanh):
            dense = np.linalg.eigvalsh(dense_hessian(objective).numpy())
            exact = dense[np.argsort(-np.abs(dense))][:2]
        elif inside is classified:
            found = hessian_directions(objective, 2, tolerance=1e-5).eigenvalues
            np.testing.assert_allclose(found, exact, rtol=1e-5)
        else:
            with pytest.raises(InputError, match=r"two functions|cannot be differentiated"):
                hessian_directions(objective, 2)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_kinks_are_no_disagreement(precision: str) -> None:
    torch.manual_seed(0)
    hessian = Hessian(Objective(FAULTS["kinks"](), precision=precision))
    assert hessian.mode == "reverse-over-reverse"


def siamese() -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4))
    return Task(model, lambda m, x: -nn.functional.cosine_similarity(m(x), m(x + 0.1).detach()), torch.randn(12, 5))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("stationary", [False, True])
def test_a_stopped_gradient_is_refused(stationary: bool, precision: str) -> None:
    at_rest = function(lambda x: (x * x.detach()).sum() + 1, torch.zeros(4, dtype=torch.float64), precision=precision)
    objective = at_rest if stationary else Objective(siamese(), precision=precision)
    with pytest.raises(InputError, match=r"two functions: .*slope of the loss is .*gradient says .*kind: random"):
        Hessian(objective)
    if not stationary:
        with pytest.raises(InputError, match="two functions"):
            refuse_wrong_gradient(objective)


def test_derivatives_by_differences_know_their_error() -> None:
    for f, first, second in ((math.exp, 1.0, 1.0), (math.sin, 1.0, 0.0), (lambda t: (t - 1) ** 2, -2.0, 2.0)):
        slope, curvature = along(f, 2e-16, 1e-6)
        assert slope.value == pytest.approx(first, abs=10 * slope.error + 1e-12)
        assert curvature.value == pytest.approx(second, abs=10 * curvature.error + 1e-12)
        assert slope.error < 1e-6
        assert not slope.contradicts(first, 1e-6)
        assert slope.contradicts(first + 0.1, 1e-3)
    nothing = along(lambda t: math.nan if t else 0.0, 2e-16, 1e-3)[0]
    assert not nothing.contradicts(1.0, 1e-3)
    assert not nothing.measured(1e-3)


@pytest.mark.parametrize("width", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("place", [0.5, 1.0, 2.0])
def test_derivatives_by_differences_see_what_is_narrower_than_their_first_steps(width: float, place: float) -> None:
    """Two large steps over a narrow dip agreed with each other, to 14 digits: the slope 0.000484 for one of -0.0995."""
    height = 0.05 * width * math.exp(place**2) / place

    def loss(t: float) -> float:
        return 1 + 0.000484 * t + t * t + height * math.exp(-((t / width + place) ** 2))

    slope, curvature = along(loss, 2.2e-16, 1e-3)
    assert slope.value == pytest.approx(0.000484 - 0.1, rel=1e-6)
    assert not slope.contradicts(0.000484 - 0.1, 1e-3)
    assert slope.contradicts(0.000484, 1e-3)
    assert not curvature.contradicts(2 + 0.1 * (2 * place**2 - 1) / (place * width), 1e-3)
