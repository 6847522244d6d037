"""What large models are worked on with: blocks, points and bases in the memory that there is, with the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from problems import cnn_task, mlp_task
from torch import Tensor

from landscaper_hpc.directions import lanczos
from landscaper_hpc.directions.directions import Directions, hessian_directions, random_directions
from landscaper_hpc.directions.lanczos import basis_size, eigenpairs
from landscaper_hpc.directions.orthonormal import orthonormalize
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses import displacement
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective import flat_layout
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.study.choices import NORMALIZATIONS


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is worked on in blocks."""
    monkeypatch.setattr(flat_layout, "_SMALL", 64)
    monkeypatch.setattr(flat_layout, "_BLOCK", 96)
    monkeypatch.setattr(displacement, "_PARTIAL", 0)


def drawn_at_once(layout: Layout, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    flat = torch.zeros(n, layout.size, dtype=torch.float64)
    for place in layout.slices().values():
        flat[:, place] = torch.randn(n, place.stop - place.start, dtype=torch.float64, generator=generator)
    return flat


@pytest.mark.parametrize("block", [16, 48, 512, 2**19])
def test_normal_numbers_are_the_same_in_whatever_pieces_they_are_drawn(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat_layout, "_BLOCK", block)
    shapes = {"a": (7, 3), "b": (), "c": (100, 37), "none": (0, 3), "e": (5,)}
    layout = Layout(shapes, frozenset(["e"]))
    for n in (1, 3):
        expected = drawn_at_once(layout, n, 4)
        assert torch.equal(layout.gaussian(n, 4), expected)
        for i in range(n):
            assert torch.equal(layout.gaussian_row(i, n, 4, torch.ones(layout.size).double()), expected[i])


def test_orthonormal_rows_block_by_block(large: None) -> None:
    rows = torch.randn(3, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis, triangle = torch.linalg.qr(rows.T)
    orthonormalize(rows)
    torch.testing.assert_close(rows, (basis * torch.sign(torch.diagonal(triangle))).T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("normalization", NORMALIZATIONS.names())
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_directions_of_a_large_model_are_those_of_a_small_one(
    normalization: str, precision: str, request: pytest.FixtureRequest
) -> None:
    objective = Objective(cnn_task(), precision=precision)
    expected = random_directions(objective, 3, seed=1, normalization=normalization)
    request.getfixturevalue("large")
    found = random_directions(objective, 3, seed=1, normalization=normalization)
    tolerance = {"rtol": 1e-11, "atol": 1e-13} if precision == "float64" else {"rtol": 1e-4, "atol": 1e-6}
    for name, vectors in expected.vectors.items():
        torch.testing.assert_close(found.vectors[name], vectors, **tolerance)
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-5, atol=1e-5)


@pytest.mark.thorough
def test_eigenvectors_with_a_small_basis_in_blocks(request: pytest.FixtureRequest) -> None:
    objective = Objective(mlp_task())
    expected = hessian_directions(objective, 3, tolerance=1e-8, max_iterations=400, normalization="unit")
    request.getfixturevalue("large")
    found = hessian_directions(objective, 3, tolerance=1e-8, max_iterations=400, normalization="unit", basis=6)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-8)
    for name, vectors in expected.vectors.items():
        torch.testing.assert_close(found.vectors[name], vectors, rtol=0, atol=1e-6)


def test_a_large_model_gets_a_small_basis() -> None:
    assert basis_size(3, 10_000_000) == 60
    assert basis_size(20, 10_000_000) == 80
    assert basis_size(3, 124_000_000) == 12
    assert basis_size(3, 5) == 5


def test_points_have_the_same_bits_without_room_for_partial_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(cnn_task(), precision="float32")
    directions = random_directions(objective, 3)
    points = np.random.default_rng(0).integers(-2, 3, (20, 3)) / 100
    kept = Walk(objective, directions)
    monkeypatch.setattr(displacement, "_PARTIAL", 0)
    lean = Walk(objective, directions)
    assert (len(kept._partial), len(lean._partial)) == (3, 1)
    for alpha in points:
        expected = {name: p.clone() for name, p in kept.one(alpha).items()}
        assert all(torch.equal(p, expected[name]) for name, p in lean.one(alpha).items())


def test_theta_and_directions_are_taken_as_they_lie() -> None:
    objective = Objective(cnn_task())
    layout = Layout.of(objective.parameters)
    flat = layout.whole(objective.parameters)
    assert flat.data_ptr() == next(iter(objective.parameters.values())).data_ptr()
    assert torch.equal(flat, layout.flatten(objective.parameters))
    model = dict(objective.model.named_parameters())
    assert all(model[name].data_ptr() == p.data_ptr() for name, p in objective.parameters.items())
    directions = random_directions(objective, 2)
    walk = Walk(objective, directions)
    assert walk._u.data_ptr() == next(iter(directions.vectors.values())).data_ptr()
    apart = {name: u.clone() for name, u in directions.vectors.items()}
    points = np.array([[0.01, -0.02]])
    copied = losses(objective, Directions(apart, "file", "model", directions.gram), points)
    assert np.array_equal(copied, losses(objective, directions, points))


def test_parameters_with_an_order_of_their_own_stay_as_they_lie() -> None:
    task = cnn_task()
    task.model.to(memory_format=torch.channels_last)
    objective = Objective(task)
    strided = [p for p in objective.parameters.values() if not p.is_contiguous()]
    assert strided
    layout = Layout.of(objective.parameters)
    assert torch.equal(layout.whole(objective.parameters), layout.flatten(objective.parameters))


@pytest.mark.parametrize("kept_in", [torch.float32, torch.bfloat16])
def test_a_basis_of_fewer_bits_tells_its_own_residuals(kept_in: torch.dtype) -> None:
    values = torch.cat([torch.tensor([9.0, -7.0, 5.0]), torch.linspace(-1, 1, 997)]).double()
    turn = torch.linalg.qr(torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0)).double())[0]
    matrix = turn @ torch.diag(values) @ turn.T
    made: list[Tensor] = []

    def product(vector: Tensor) -> Tensor:
        assert vector.dtype == torch.float64
        made.append(vector)
        return matrix @ vector

    def start(i: int) -> Tensor:
        return torch.randn(1000, generator=torch.Generator().manual_seed(i)).double()

    given = {"tolerance": 0.01, "max_products": 200, "basis": 7, "kept_in": kept_in}
    found = eigenpairs(product, start, 1000, 3, **given)
    assert found.products == len(made)
    np.testing.assert_allclose(found.values, values[:3], rtol=1e-4)
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(3).double(), rtol=0, atol=1e-12)
    left = found.vectors @ matrix - torch.from_numpy(found.values)[:, None] * found.vectors
    np.testing.assert_allclose(found.residuals, left.norm(dim=1).numpy() / np.abs(found.values), rtol=1e-9)
    if kept_in == torch.bfloat16:
        with pytest.raises(InputError, match=r"basis_precision: a basis of so few bits leaves a residual of 0\.00\d"):
            eigenpairs(product, start, 1000, 3, **given | {"tolerance": 1e-4})


def test_a_search_with_a_basis_in_bf16_goes_on_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanczos, "SECONDS_BETWEEN_SAVES", 0.0)
    objective = Objective(mlp_task())
    given = {"tolerance": 0.1, "max_iterations": 400, "normalization": "unit", "basis": 5, "basis_precision": "bf16"}
    expected = hessian_directions(objective, 3, **given)
    calls = 0

    def dies(done: int, of: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hessian_directions(objective, 3, **given, resume=tmp_path / "saved", progress=dies)
    after: list[int] = []
    found = hessian_directions(
        objective, 3, **given, resume=tmp_path / "saved", progress=lambda done, of: after.append(done)
    )
    assert after[0] == 7
    for name, vectors in expected.vectors.items():
        assert torch.equal(found.vectors[name], vectors)
