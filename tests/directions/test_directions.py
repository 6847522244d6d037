"""Directions: eigenvectors against the dense Hessian, normalisations by their definition, files by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from problems import TASKS, cnn_task, compact, dense_hessian_of, mlp_task, quadratic, transformer_task
from safetensors.torch import save_file

from landscaper_hpc.directions.directions import (
    directions_from_file,
    gradient_direction,
    hessian_directions,
    random_directions,
)
from landscaper_hpc.directions.of_checkpoints import plane_directions, projection, trajectory_directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.objective import Objective
from tests.kinds import kinds


def length(vectors: torch.Tensor) -> np.ndarray:
    return torch.linalg.vector_norm(vectors.reshape(len(vectors), -1), dim=1).numpy()


@pytest.mark.parametrize("name", kinds(["mlp", "pinn", "cnn", "transformer"], "mlp"))
def test_eigenvectors_against_the_dense_hessian(name: str) -> None:
    objective = Objective(TASKS[name]())
    found = hessian_directions(objective, 3, tolerance=1e-7, max_iterations=500, normalization="unit")
    values, vectors = np.linalg.eigh(dense_hessian_of(name).numpy())
    order = np.argsort(-np.abs(values))[:3]
    np.testing.assert_allclose(found.eigenvalues, values[order], rtol=1e-5)
    ours = compact(objective, found.vectors).numpy()
    for i, place in enumerate(order):
        reference = vectors[:, place]
        reference = reference * np.sign(reference[np.abs(reference).argmax()])
        np.testing.assert_allclose(ours[i], reference, atol=1e-5)
    assert found.residuals.max() <= 1e-7
    assert 3 <= found.iterations <= 500
    np.testing.assert_allclose(found.gram, np.eye(3), atol=1e-10)


def test_order_and_sign_of_a_quadratic() -> None:
    found = hessian_directions(quadratic([1.0, -5.0, 3.0, 0.5]), 3, tolerance=1e-9, normalization="unit")
    np.testing.assert_allclose(found.eigenvalues, [-5.0, 3.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(found.vectors["x"].numpy(), np.eye(4)[[1, 2, 0]], atol=1e-9)
    assert found.kind == "hessian"


def test_the_same_seed_gives_the_same_bytes() -> None:
    for make in (
        lambda: hessian_directions(Objective(mlp_task()), 2, seed=4),
        lambda: random_directions(Objective(mlp_task()), 2, seed=4),
    ):
        first, second = make(), make()
        assert all(torch.equal(first.vectors[k], second.vectors[k]) for k in first.vectors)


def test_random_directions_are_orthonormal_and_seeded() -> None:
    objective = Objective(mlp_task())
    found = random_directions(objective, 4, seed=0, normalization="unit")
    np.testing.assert_allclose(found.gram, np.eye(4), atol=1e-12)
    other = random_directions(objective, 4, seed=1, normalization="unit")
    assert np.abs(compact(objective, found.vectors).numpy() @ compact(objective, other.vectors).numpy().T).max() < 0.6
    many = compact(objective, random_directions(objective, 60, seed=2, normalization="unit").vectors).numpy()
    assert abs(many.mean()) < 5 / np.sqrt(many.size * many.shape[1])  # no preferred sign


def test_model_normalisation_gives_the_length_of_theta() -> None:
    objective = Objective(cnn_task())
    theta = np.sqrt(sum(float(p.square().sum()) for p in objective.parameters.values()))
    found = random_directions(objective, 2, normalization="model")
    np.testing.assert_allclose(np.sqrt(np.diag(found.gram)), [theta, theta], rtol=1e-12)


def test_layer_normalisation_gives_each_tensor_its_own_length() -> None:
    objective = Objective(cnn_task())
    found = random_directions(objective, 2, normalization="layer")
    for name, p in objective.parameters.items():
        np.testing.assert_allclose(length(found.vectors[name]), float(p.norm()), rtol=1e-12)
    assert abs(found.gram[0, 1]) > 1e-6  # orthogonality is lost, and the Gram matrix says so


def test_filter_normalisation_gives_each_filter_its_own_length() -> None:
    objective = Objective(cnn_task())
    found = random_directions(objective, 2, normalization="filter")
    for name, p in objective.parameters.items():
        u = found.vectors[name]
        if p.ndim < 2:
            assert not u.any()
            continue
        ours = torch.linalg.vector_norm(u.flatten(2), dim=2)
        torch.testing.assert_close(ours, p.flatten(1).norm(dim=1).expand_as(ours), rtol=1e-12, atol=0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_directions_from_a_file(tmp_path: Path, suffix: str) -> None:
    objective = Objective(transformer_task())
    made = random_directions(objective, 3, normalization="unit")
    path = tmp_path / f"u{suffix}"
    vectors = {k: v.contiguous() for k, v in made.vectors.items()}
    torch.save(vectors, path) if suffix == ".pt" else save_file(vectors, path)
    read = directions_from_file(path, objective, n=2, normalization="unit")
    assert read.n == 2
    for name, v in made.vectors.items():
        torch.testing.assert_close(read.vectors[name], v[:2], rtol=1e-14, atol=1e-16)


def test_a_wrong_file_is_listed(tmp_path: Path) -> None:
    objective = Objective(mlp_task())
    vectors = {k: v.clone() for k, v in random_directions(objective, 2).vectors.items()}
    del vectors["0.bias"]
    vectors["zzz"] = torch.zeros(2, 2)
    vectors["2.weight"] = torch.zeros(2, 3, 3)
    torch.save(vectors, tmp_path / "u.pt")
    with pytest.raises(InputError, match=r"missing: 0\.bias; not a parameter that moves: zzz.*2\.weight \(2, 3, 3\)"):
        directions_from_file(tmp_path / "u.pt", objective)
    good = {k: v.clone() for k, v in random_directions(objective, 2).vectors.items()}
    torch.save(good, tmp_path / "u.pt")
    with pytest.raises(InputError, match=r"holds \[2\] directions per tensor; 5 are asked for"):
        directions_from_file(tmp_path / "u.pt", objective, n=5)
    torch.save(
        {k: v * torch.tensor([1.0, 0.0]).view(2, *[1] * (v.ndim - 1)) for k, v in good.items()}, tmp_path / "u.pt"
    )
    with pytest.raises(InputError, match="direction 1 is zero or not finite"):
        directions_from_file(tmp_path / "u.pt", objective)


def test_bad_requests() -> None:
    objective = quadratic([1.0, 2.0])
    with pytest.raises(
        InputError, match=r"normalization is 'none'; choose one of model, unit, layer, filter, landscaper"
    ):
        random_directions(objective, 1, normalization="none")
    with pytest.raises(InputError, match="only 2 parameters move"):
        random_directions(objective, 3)
    with pytest.raises(InputError, match="leaves a direction of length zero"):
        random_directions(objective, 1, normalization="filter")


def test_the_gradient_direction() -> None:
    objective = Objective(mlp_task(batches=True))
    found = gradient_direction(objective, normalization="unit")
    leaves = {k: p.clone().requires_grad_() for k, p in objective.parameters.items()}
    expected = torch.autograd.grad(objective.loss(leaves), list(leaves.values()))
    length = torch.cat([g.reshape(-1) for g in expected]).norm()
    for name, g in zip(leaves, expected, strict=True):
        torch.testing.assert_close(found.vectors[name][0], g / length, rtol=1e-12, atol=1e-15)
    flat = quadratic([1.0, 1.0])
    flat.parameters["x"].zero_()
    with pytest.raises(InputError, match="gradient at the checkpoint is zero"):
        gradient_direction(flat)


@pytest.mark.parametrize("normalization", ["unit", "model"])
def test_principal_components_of_a_trajectory(normalization: str) -> None:
    objective = Objective(mlp_task())
    plane = random_directions(objective, 2, normalization="unit")
    alphas = np.array([[3.0, 0.1], [2.0, -0.4], [-1.5, 0.3], [0.5, 0.0]])
    checkpoints = [
        {k: p + a * plane.vectors[k][0] + b * plane.vectors[k][1] for k, p in objective.parameters.items()}
        for a, b in alphas
    ]
    found, coordinates, share = trajectory_directions(objective, checkpoints, 2, normalization=normalization)
    for point, checkpoint in zip(coordinates, checkpoints, strict=True):
        for name, p in objective.parameters.items():
            again = p + sum(float(a) * found.vectors[name][i] for i, a in enumerate(point))
            torch.testing.assert_close(again, checkpoint[name], rtol=1e-9, atol=1e-12)
    singular = np.linalg.svd(alphas, compute_uv=False) ** 2
    np.testing.assert_allclose(share, singular / singular.sum(), rtol=1e-9)
    with pytest.raises(InputError, match="4 checkpoints span 2 directions; 3 are asked for"):
        trajectory_directions(objective, checkpoints, 3)


def test_a_plane_goes_through_its_three_checkpoints() -> None:
    objective = Objective(mlp_task())
    ways = random_directions(objective, 2, normalization="unit").vectors

    def at(a: float, b: float) -> dict[str, torch.Tensor]:
        return {k: p + a * ways[k][0] + b * ways[k][1] for k, p in objective.parameters.items()}

    others = [at(3.0, 1.0), at(-1.0, 2.0)]
    found = plane_directions(objective, others)
    np.testing.assert_allclose(found.gram, np.eye(2), atol=1e-12)
    places = projection(objective, found, [*others, at(0.0, 0.0)])
    first = np.sqrt(10)  # along the first axis; the other, (-3 + 2)/√10 along it, and to the side of positive α₂
    np.testing.assert_allclose(places.alphas, [[first, 0], [-1 / first, np.sqrt(5 - 0.1)], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(places.shares, 1)
    np.testing.assert_allclose(places.distances, [first, np.sqrt(5), 0], atol=1e-12)
    for name, p in objective.parameters.items():
        again = p + sum(float(a) * found.vectors[name][i] for i, a in enumerate(places.alphas[1]))
        torch.testing.assert_close(again, others[1][name], rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="through: entry 1 is the study's own checkpoint, or lies on a line"):
        plane_directions(objective, [others[0], at(-6.0, -2.0)])
    with pytest.raises(InputError, match="layer turns directions"):
        plane_directions(objective, others, normalization="layer")
