"""What the papers' studies are about: their models, losses and data, and what six points of a table can tell."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from landscaper_hpc import merge_tree
from landscaper_hpc.comparison.association import association
from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.objective import load_task

WORKFLOW = Path(__file__).parents[1] / "workflow"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{Path(name).stem}", WORKFLOW / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    sys.path.insert(0, str((WORKFLOW / name).parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def trained(study: str, file: Path, **options: object) -> dict[str, Tensor]:
    loaded(f"{study}/train.py").train(file, lambda done, total: None, **options)
    found: dict[str, Tensor] = torch.load(file, weights_only=True)
    return found


@pytest.mark.thorough
def test_six_points_have_the_papers_correlation_with_one_tie_only() -> None:
    table6 = loaded("reaction_ood/table6.py")
    found = table6.possible()
    assert len(found) == 36
    for each in found:
        assert len(set(each.x)) + len(set(each.y)) == 11
        assert round(each.rho, 3) == 0.928
        assert association(each.x, each.y).p == each.p
        assert each.p_of_t == pytest.approx(0.0077, abs=5e-5)
    assert {round(each.p * 720) for each in found} == {12, 16}
    assert {round(each.least_p * 720) for each in found} == {4}
    assert {round(each.without_one[0], 3) for each in found} == {0.872}
    assert any("from 0.0167 to 0.0222" in line for line in table6.of_summary(found))


def test_a_table_gives_its_own_numbers_and_what_is_wrong_with_it_one_line(tmp_path: Path) -> None:
    table6 = loaded("reaction_ood/table6.py")
    smad, error = np.array([1.0, 2, 3, 4, 6, 5]), np.array([0.1, 0.2, 0.2, 0.5, 0.6, 0.7])
    table = tmp_path / "table.csv"
    table.write_text(
        "level,smad,error\n" + "".join(f"{i},{x},{y}\n" for i, (x, y) in enumerate(zip(smad, error, strict=True)))
    )
    found = association(smad, error)
    said = "\n".join(table6.of_table(table))
    for number in (f"ρ = {found.rho:.3f}", f"p = {found.p:.4f}", f"{found.error_of_mean:.3f}", f"{found.error:.3f}"):
        assert number in said
    for content, words in (
        ("a,b\n1,2\n", "has no columns smad and error"),
        ("smad,error\n1,2\n", "at least 4 pairs"),
        ("smad,error\n1,x\n", "could not convert"),
    ):
        other = tmp_path / "other.csv"
        other.write_text(content)
        with pytest.raises(InputError, match=words):
            table6.of_table(other)


@pytest.mark.processes
def test_a_table_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(WORKFLOW / "reaction_ood" / "table6.py"), str(tmp_path / "no.csv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "does not exist; give a CSV file" in done.stderr
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.thorough
def test_a_letter_is_predicted_from_those_before_it() -> None:
    problem = load_task(WORKFLOW / "lm_checkpoints" / "task.py", {"hidden": 4})
    tokens = problem.data[:2].clone()
    before = problem.model(tokens)
    tokens[:, 10:] = 0
    after = problem.model(tokens)
    torch.testing.assert_close(after[:, :10], before[:, :10])
    assert not torch.allclose(after[:, 10:], before[:, 10:])
    with torch.no_grad():
        for parameter in problem.model.head.parameters():
            parameter.zero_()
    told = problem.loss(problem.model, problem.data)
    torch.testing.assert_close(told, torch.full_like(told, np.log(32)))


@pytest.mark.thorough
def test_what_is_looked_at_was_not_trained_on() -> None:
    whole = load_task(WORKFLOW / "lm_checkpoints" / "task.py", {"hidden": 4, "training": True}).data
    seen = load_task(WORKFLOW / "lm_checkpoints" / "task.py", {"hidden": 4}).data
    rows = {tuple(row.tolist()) for row in whole}
    assert not any(tuple(row.tolist()) in rows for row in seen)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("study", "fewer", "more"),
    [
        ("lm_checkpoints", {"step": 2, "hidden": 4}, {"step": 4, "hidden": 4}),
        ("molecules", {"steps": 2, "hidden": 3}, {"steps": 3, "hidden": 3}),
        ("reaction_ood", {"steps": 2, "hidden": 3, "level": 30.0}, {"steps": 3, "hidden": 3, "level": 30.0}),
        ("unet_segmentation", {"epoch": 1, "rate": 0.01, "width": 1}, {"epoch": 2, "rate": 0.01, "width": 1}),
    ],
)
def test_training_is_the_same_twice_and_other_with_other_seeds(
    study: str, fewer: dict[str, object], more: dict[str, object], tmp_path: Path
) -> None:
    def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return all(torch.equal(a[key], b[key]) for key in a)

    first = trained(study, tmp_path / "a.pt", seed=0, **fewer)
    assert same(first, trained(study, tmp_path / "b.pt", seed=0, **fewer))
    assert not same(first, trained(study, tmp_path / "c.pt", seed=1, **fewer))
    assert not same(first, trained(study, tmp_path / "d.pt", seed=0, **more))


@pytest.mark.parametrize("architecture", ["distances", "angles"])
def test_molecules_have_the_energy_of_their_shape(architecture: str) -> None:
    problem = load_task(WORKFLOW / "molecules" / "task.py", {"architecture": architecture})
    places = problem.data[0]
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    energies = problem.model(places)
    torch.testing.assert_close(problem.model(places @ turn + 1.5), energies)
    torch.testing.assert_close(problem.model(places[:, [2, 3, 0, 1]]), energies)  # the same kinds change places
    assert not torch.allclose(problem.model(places[:, [1, 0, 2, 3]]), energies)
    assert energies.std() > 0


@pytest.mark.parametrize("potential", ["morse", "lennard_jones", "yukawa", "harmonic", "buckingham"])
def test_forces_are_slopes_of_energies_and_in_the_loss(potential: str) -> None:
    module = loaded("molecules/task.py")
    places, energies, forces = module.synthetic(potential, 8)
    assert abs(energies.mean()) < 1e-12
    assert energies.std() == pytest.approx(1)
    torch.testing.assert_close(forces.sum(1), torch.zeros(8, 3, dtype=torch.float64), atol=1e-10, rtol=0)

    class Known(torch.nn.Module):
        """The potential itself, shifted and scaled as the data are."""

        def forward(self, at: Tensor) -> Tensor:
            first, second = torch.triu_indices(4, 4, 1)
            sizes = module.kinds(4, at.dtype)
            apart = (sizes[first] + sizes[second]) / 2

            def energy(of: Tensor) -> Tensor:
                lengths = (of[:, first] - of[:, second]).norm(dim=-1)
                return module.POTENTIALS[potential](lengths, apart).sum(1)

            raw = energy(places)
            return (energy(at) - raw.mean()) / raw.std()

    assert module.loss(Known(), (places, energies, forces)).max() < 1e-20
    assert module.loss(Known(), (places, energies, forces + 1)).min().item() == pytest.approx(1)


def test_unknown_networks_are_one_sentence() -> None:
    with pytest.raises(InputError, match="there are distances, angles"):
        load_task(WORKFLOW / "molecules" / "task.py", {"architecture": "none"})


def test_digits_are_turned_about_their_middle() -> None:
    module = loaded("reaction_ood/task.py")
    images, labels = module.digits()
    torch.testing.assert_close(module.turned(images[:5], torch.zeros(5)), images[:5])
    quarter = module.turned(images[:5], torch.full((5,), 90.0))
    assert any(torch.allclose(quarter, images[:5].rot90(k, (1, 2)), atol=1e-5) for k in (1, 3))
    near, far = (module.task(far=far).data for far in (False, True))
    assert torch.equal(near[1], far[1])
    assert not torch.allclose(near[0], far[0], atol=0.1)
    upright, _ = module.task(level=0.0, training=True).data
    torch.testing.assert_close(upright[: module.TRAINED], images[: module.TRAINED].flatten(1))
    assert labels.bincount().min() > 100


def test_the_field_makes_a_lone_pixel_like_its_neighbours() -> None:
    field = loaded("unet_segmentation/task.py").MeanField(2, rounds=5)
    scores = torch.zeros(1, 2, 9, 9)
    scores[:, 0] = 1.0
    scores[:, :, 4, 4] = torch.tensor([0.0, 0.3])  # alone, and hardly of the other class
    with torch.no_grad():
        assert field(scores)[0, :, 4, 4].argmax() == 0
        field.weights.zero_()
        torch.testing.assert_close(field(scores), scores)


def test_the_papers_times_stand_alone_until_a_gpu_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(WORKFLOW))
    module = loaded("scaling/experiment.py")
    monkeypatch.setattr(module, "HERE", tmp_path)
    alone = {"by": "the paper", "stage": "3-D", "seconds": 927.0}
    assert module.table_7(None).to_dict("records")[-1] == alone
    for device, runs in (("cpu", 0), ("A GPU", 1)):
        (tmp_path / "table7.json").write_text(
            f'{{"device": "{device}", "rows": [{{"stage": "3-D", "run": 0, "seconds": 5.0}}]}}'
        )
        assert len(module.table_7(None)) == 3 + runs


class _Store:
    """A landscape of a grid from −1 to 1 whose minima were followed to these ends."""

    connectivity = "axis"

    def __init__(self, values: np.ndarray, ends: np.ndarray, of: list[int], kinds: list[int]) -> None:
        self._values, self.grid = values, Grid(tuple(Axis(-1.0, 1.0, k) for k in values.shape))
        tree = merge_tree(values)
        nothing = np.empty(0)
        self._answer = Confirmed(
            *(np.array(kinds), ends, np.arange(float(len(ends))), 0 * ends, 1 + 0 * ends, np.sort(tree.minima)),
            *(np.array(of), nothing, nothing, nothing, np.empty((0, 2)), nothing, nothing, tree, len(of), 0, 0),
        )

    def loss(self) -> np.ndarray:
        return self._values

    def whole_answer(self, name: str, asked: dict[str, int]) -> SimpleNamespace:
        assert (name, asked) == ("confirmed", {"minima": 10})
        return SimpleNamespace(arrays=self._answer.to_arrays())


def test_minima_in_three_directions_are_found_again_where_they_lead_to_different_ones_in_four(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(WORKFLOW))
    found_again = loaded("pinn_convection/experiment.py").found_again
    axes = np.meshgrid(*[np.linspace(-1, 1, 5)] * 4, indexing="ij")
    wells = (axes[0] ** 2 - 0.25) ** 2 + sum(each**2 for each in axes[1:])  # at −1/2 and 1/2 of the first axis
    sides = np.array([[-0.5, 0, 0, 0], [0.5, 0, 0, 0]])
    three = _Store(wells[..., 2], sides[:, :3], [0, 1], [0, 0])
    for of, kinds, number in (([0, 1], [0, 0], 2), ([0, 0], [0, 0], 1), ([0, 1], [0, 1], 1)):
        assert found_again(three, _Store(wells, sides, of, kinds), 10) == number
    assert (
        found_again(_Store(wells[..., 2], sides[:, :3], [0, 1], [0, 1]), _Store(wells, sides, [0, 1], [0, 0]), 10) == 1
    )
    assert np.isnan(found_again(three, three, 0))
