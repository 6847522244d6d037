"""Data of others that the papers' experiments read at their full size: in their true formats, made small here."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments.performed import plan
from test_paper_studies import WORKFLOW, loaded

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective import load_task
from landscaper_hpc.work import pace

Writer = Callable[[Path], None]


# ---- CIFAR-10 -------------------------------------------------------------------------------------------------------


def cifar_bytes(folder: Path, per_file: int = 12) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The binary version; pixels and labels of its five training files."""
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (6 * per_file, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name, part in zip(names, np.split(rows, 6), strict=True):
        (folder / name).write_bytes(part.tobytes())
    return rows[: 5 * per_file, 1:], rows[: 5 * per_file, 0]


def cifar_pickles(folder: Path, per_file: int = 12) -> None:
    """The Python version of the same images, as Python 2 left it: bytes for keys."""
    cifar_bytes(folder, per_file)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        raw = np.frombuffer((folder / f"{name}.bin").read_bytes(), np.uint8).reshape(-1, 3073)
        content = {b"batch_label": name.encode(), b"labels": raw[:, 0].tolist(), b"data": raw[:, 1:], b"filenames": [i]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        (folder / f"{name}.bin").unlink()


def test_both_studies_of_cifar_read_it_alike() -> None:
    one, two = (WORKFLOW / study / "cifar10.py" for study in ("resnet_skip", "cnn_regimes"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.thorough
@pytest.mark.parametrize("write", [cifar_bytes, cifar_pickles])
@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin", "cifar-10-batches-py"])
def test_cifar_is_read_from_either_version(write: Writer, inside: str, tmp_path: Path) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    expected, told = cifar_bytes(tmp_path)
    for file in tmp_path.glob("*.bin"):
        file.unlink()
    write(tmp_path / inside)
    module = loaded("resnet_skip/cifar10.py")
    module.check(tmp_path)
    images, labels = module.images(tmp_path)
    np.testing.assert_allclose((images.flatten(1).numpy() + 1) * 127.5, expected, atol=1e-4)
    np.testing.assert_array_equal(labels.numpy(), told)
    few, _ = module.images(tmp_path, most=7)
    assert torch.equal(few, images[:7])
    for study, options in (("resnet_skip", {"skip": True}), ("cnn_regimes", {"regime": "well"})):
        problem = load_task(WORKFLOW / study / "task.py", {**options, "data": str(tmp_path), "examples": 7})
        assert torch.equal(problem.data[0], images[:7])
        assert problem.loss(problem.model.eval(), problem.data).shape == (7,)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data_batch_3.bin", b"", "0 bytes, which are no images of 3,073"),
        ("data_batch_3.bin", bytes(3072), "3,072 bytes, which are no images of 3,073"),
        ("data_batch_3.bin", bytes([10]) + bytes(3072), "has labels up to 10, and CIFAR-10 those from 0 to 9"),
        ("data_batch_3", pickle.dumps([1, 2]), "is no batch of CIFAR-10's Python version"),
        ("data_batch_3", b"not a pickle", "is no batch of CIFAR-10's Python version"),
        ("data_batch_3", pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}), "2 images and 1 lab"),
        ("data_batch_3", pickle.dumps(Harmful()), r"asks for (posix|nt|os)\.mkdir"),
    ],
)
def test_a_file_of_cifar_that_is_not_one_is_a_sentence(
    name: str, content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cifar_bytes(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        loaded("cnn_regimes/cifar10.py").check(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_images_are_shifted_and_mirrored() -> None:
    module = loaded("resnet_skip/train.py")
    torch.manual_seed(0)
    image = torch.arange(1.0, 65).reshape(1, 1, 8, 8).expand(200, 1, 8, 8)
    found = module.augmented(image)
    assert found.shape == image.shape
    padded = torch.nn.functional.pad(image[:1], (4, 4, 4, 4))
    ways = [padded[0, :, i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
    ways += [way.flip(2) for way in ways]
    used = [next(i for i, way in enumerate(ways) if torch.equal(each, way)) for each in found]
    assert len(set(used)) > 50
    assert 60 < sum(i >= 81 for i in used) < 140


# ---- QM9 ------------------------------------------------------------------------------------------------------------

METHANE = """gdb_{number}
  -OEChem-03231823243D

  5  4  0     0  0  0  0  0  0999 V2000
   -0.0127    1.0858    {z:.4f} C   0  0  0  0  0  0  0  0  0  0  0  0
    0.0022   -0.0060    0.0020 H   0  0  0  0  0  0  0  0  0  0  0  0
    1.0117    1.4638    0.0003 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5408    1.4475   -0.8766 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5238    1.4379    0.9064 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
M  END
$$$$
"""
COLUMNS = "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom,u298_atom,h298_atom,g298_atom"


def qm9(folder: Path, molecules: int = 9) -> None:
    folder.mkdir(exist_ok=True)
    numbers = range(1, molecules + 1)
    (folder / "gdb9.sdf").write_text("".join(METHANE.format(number=i, z=0.008 * i) for i in numbers))
    rows = [f"gdb_{i}," + ",".join(str(i + k / 100) for k in range(19)) for i in numbers]
    (folder / "gdb9.sdf.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    (folder / "uncharacterized.txt").write_text("Index  SMILES\n-----\n      3  C  C  1.0\n-----\n")


@pytest.mark.parametrize("inside", ["", "raw"])
def test_qm9_is_read_with_units_and_without_what_is_left_out(inside: str, tmp_path: Path) -> None:
    qm9(tmp_path / inside)
    module = loaded("molecules/qm9.py")
    module.check(tmp_path)
    seen, told = (module.of(tmp_path, "gap", training) for training in (True, False))
    found = []
    for (numbers, places, which, wanted), count in ((seen.batches[0], 4), (told.batches[0], 4)):
        assert numbers.tolist() == [6, 1, 1, 1, 1] * count
        assert which.tolist() == [i for i in range(count) for _ in range(5)]
        assert places[1].tolist() == pytest.approx([0.0022, -0.0060, 0.0020])
        gaps = wanted.double() * seen.deviation + seen.mean
        found += [round(z / 0.008) for z in places[::5, 2].tolist()]
        np.testing.assert_allclose(gaps / module.HARTREE, np.array(found[-count:]) + 0.07, rtol=1e-5)
    assert sorted(found) == [1, 2, 4, 5, 6, 7, 8, 9]
    assert float(seen.batches[0][3].mean()) == pytest.approx(0, abs=1e-6)
    assert float(seen.batches[0][3].std()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("gdb9.sdf", lambda text: text[: len(text) // 2], "9; one of them is incomplete"),
        ("gdb9.sdf", lambda text: text.replace(" C ", " Xe "), "is no V2000 record of H, C, N, O and F"),
        ("gdb9.sdf", lambda text: text.replace("  5  4", "  x  4"), "is no V2000 record"),
        ("gdb9.sdf.csv", lambda text: text.replace("gap", "gape"), "has no column gap"),
        ("gdb9.sdf.csv", lambda text: text.replace("4.07", "four"), "line 5: gap is no number"),
        ("gdb9.sdf.csv", None, "has gdb9.sdf and no gdb9.sdf.csv"),
        ("uncharacterized.txt", None, "and no uncharacterized.txt"),
    ],
)
def test_what_is_wrong_with_qm9_is_a_sentence(
    file: str, change: Callable[[str], str] | None, words: str, tmp_path: Path
) -> None:
    qm9(tmp_path)
    if change is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(change((tmp_path / file).read_text()))
    with pytest.raises(InputError, match=words):
        loaded("molecules/qm9.py").check(tmp_path)


def test_of_qm9_there_are_properties_and_networks(tmp_path: Path) -> None:
    qm9(tmp_path)
    for options, words in (
        ({"potential": "morse"}, "of QM9 there are mu, alpha"),
        ({"potential": "gap", "architecture": "none"}, "of QM9 there are distances, angles"),
    ):
        with pytest.raises(InputError, match=words):
            load_task(WORKFLOW / "molecules" / "task.py", {**options, "data": str(tmp_path)})


def test_pairs_of_atoms_meet_where_one_ends_and_the_other_begins() -> None:
    module = loaded("molecules/published.py")
    places = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [0, 0, 0], [0, 1, 0]])
    of = torch.tensor([0, 0, 0, 1, 1])
    near = module.pairs(places, 2.0, of)
    found = {tuple(each) for each in near.T.tolist()}
    assert found == {(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)}
    i, j, *met, kj, ji = module.meetings(near, len(places))
    assert [(b, a) for a, b in zip(i.tolist(), j.tolist(), strict=True)] == [tuple(each) for each in near.T.tolist()]
    assert {tuple(each) for each in torch.stack(met).T.tolist()} == {(2, 1, 0), (0, 1, 2)}  # i, j, k
    assert torch.equal(near[:, ji], torch.stack([met[1], met[0]]))
    assert torch.equal(near[:, kj], torch.stack([met[2], met[1]]))


@pytest.mark.peers
@pytest.mark.parametrize("architecture", ["distances", "angles"])
def test_the_published_networks_have_slopes_and_curvature(architecture: str, tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    qm9(tmp_path)
    options = {"architecture": architecture, "potential": "gap", "data": str(tmp_path)}
    problem = load_task(WORKFLOW / "molecules" / "task.py", options)
    losses = problem.loss(problem.model, problem.data[0])
    assert losses.shape == (4,)
    parameters = [p for p in problem.model.parameters() if p.requires_grad]
    slopes = torch.autograd.grad(losses.mean(), parameters, create_graph=True, allow_unused=True)
    along = sum((slope * 0.1).sum() for slope in slopes if slope is not None)
    twice = torch.autograd.grad(along, parameters, allow_unused=True)
    assert all(torch.isfinite(each).all() for each in twice if each is not None)
    numbers, places, of, _ = problem.data[0]
    turned = places @ torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    torch.testing.assert_close(
        problem.model(numbers, turned, of), problem.model(numbers, places, of), rtol=1e-3, atol=1e-4
    )


# ---- pets -----------------------------------------------------------------------------------------------------------


def pets(folder: Path) -> None:
    from PIL import Image

    for inside in ("images", "annotations/trimaps"):
        (folder / inside).mkdir(parents=True)
    for i, name in enumerate(("cat_1", "dog_2")):
        Image.new("RGB", (20, 30), (255, 0, 51 * i)).save(folder / "images" / f"{name}.jpg", quality=100)
        Image.new("L", (20, 30), 1 + i).save(folder / "annotations" / "trimaps" / f"{name}.png")
    for part in ("trainval", "test"):
        (folder / "annotations" / f"{part}.txt").write_text("cat_1 1 1 1\ndog_2 2 2 1\n")


def test_pets_are_read_from_their_folder(tmp_path: Path) -> None:
    pets(tmp_path)
    loaded("unet_segmentation/pets.py").check(tmp_path, 10)
    options = {"data": str(tmp_path), "side": 8, "width": 1, "crf": 2}
    task = WORKFLOW / "unet_segmentation" / "task.py"
    ((images, labels),) = load_task(task, options).data
    assert images.shape == (2, 3, 8, 8)
    assert images[:, 0].min() > 0.95
    assert [row.unique().tolist() for row in labels] == [[0], [1]]
    problem = load_task(task, {**options, "training": True})
    assert torch.equal(problem.data[0], images)
    assert problem.model(images).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("images/dog_2.jpg", None, "dog_2.jpg does not exist, which annotations/trainval.txt lists"),
        ("annotations/trimaps/cat_1.png", None, "cat_1.png does not exist"),
        ("images/cat_1.jpg", b"<html>", "cat_1.jpg is not there, or no picture"),
        ("annotations/test.txt", b"", "lists no pictures"),
        ("annotations/test.txt", None, "test.txt does not exist"),
    ],
)
def test_what_is_wrong_with_pets_is_a_sentence(file: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    pets(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=words):
        loaded("unet_segmentation/pets.py").check(tmp_path, 10)


# ---- language models ------------------------------------------------------------------------------------------------


def test_what_is_missing_of_language_models_is_a_sentence(tmp_path: Path) -> None:
    module = loaded("lm_checkpoints/task.py")

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            module.check(tmp_path, [0, 10], 1)

    refused("text.txt does not exist")
    (tmp_path / "text.txt").write_text("word " * 300)
    refused(r"seed_0/step_0/config.json does not exist")
    for step in (0, 10):
        folder = tmp_path / "seed_0" / f"step_{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        refused(f"step_{step} has a config.json and no weights")
        (folder / "model.safetensors").write_bytes(b"")
        refused(f"step_{step} has a config.json and no tokenizer")
        (folder / "tokenizer.json").write_text("{}")


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["bert", "gpt_neox"])
def test_models_of_hugging_face_are_looked_at(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "seed_1" / "step_10"
    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word", "other"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    if kind == "bert":
        config = transformers.BertConfig(vocab_size=len(words), **small, max_position_embeddings=16)
        model = transformers.BertForPreTraining(config)
    else:
        config = transformers.GPTNeoXConfig(vocab_size=len(words), **small, max_position_embeddings=16)
        model = transformers.GPTNeoXForCausalLM(config)
    model.half().save_pretrained(folder)
    (tmp_path / "text.txt").write_text("word other word " * 40, encoding="utf-8")
    task = WORKFLOW / "lm_checkpoints" / "task.py"
    problem = load_task(task, {"seed": 1, "step": 10, "data": str(tmp_path)})
    tokens = problem.data[0] if kind == "bert" else problem.data
    assert tokens.shape == (7, 16)
    assert (tokens == words.index("[MASK]")).any() == (kind == "bert")
    assert all(p.dtype == torch.float32 for p in problem.model.parameters())
    losses = problem.loss(problem.model.eval(), problem.data)
    assert losses.shape == (7,)
    assert 0.5 < float(losses.mean()) < 4
    loaded("lm_checkpoints/train.py").train(
        tmp_path / "x.pt", lambda done, total: None, seed=1, step=10, data=str(tmp_path)
    )
    assert torch.load(tmp_path / "x.pt", weights_only=True).keys() == problem.model.state_dict().keys()
    (tmp_path / "text.txt").write_text("word")
    with pytest.raises(InputError, match="has 1 tokens, and one block of them is 16"):
        load_task(task, {"seed": 1, "step": 10, "data": str(tmp_path)})


# ---- what it would cost ---------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_plan_says_what_would_be_trained_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan("lm_checkpoints", "smallest", tmp_path / "out", rate=100.0)
    said = capsys.readouterr().out
    assert "trainings   2 (2 conditions × 1 seeds)" in said
    assert said.count("rate        100 points/s") == 2
    assert "\nonly = *\n" in said
    assert "\nonly = head.*\n" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_a_plan_of_a_slow_loss_says_from_how_many_examples_it_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("SLOW", "_LONG"):
        monkeypatch.setattr(pace, limit, 1e-9)
    plan("lm_checkpoints", "smallest", tmp_path / "out")
    assert capsys.readouterr().out.count("told from 1 of 16 examples: the loss is slow") == 2
