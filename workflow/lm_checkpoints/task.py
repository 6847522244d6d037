"""A language model at a step of its training, and the text whose loss is looked at.

Small: one block of a transformer that predicts the next character of the help texts that Python ships with. Full size:
with `data`, a folder of models of Hugging Face's as `save_pretrained` leaves them (MultiBERTs, Pythia), each in
seed_<seed>/step_<step>, and a text.txt.
"""

from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn

from landscaper_hpc import Task
from landscaper_hpc.errors import InputError

ALPHABET = " abcdefghijklmnopqrstuvwxyz.,'()"
LENGTH, BLOCKS = 24, 16  # characters in a block, and blocks whose loss is looked at
COUNTED = -100  # labels of this value count for nothing
TOKENS = 128  # in a block, of Hugging Face's models
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "tokenizer.model", "vocab.json")
MASKED = 0.15  # share of the tokens that a model of masks has to guess


def task(seed: int = 0, step: int = 0, hidden: int = 16, training: bool = False, data: str = "") -> Task:
    """The loss of the end of the text, which was not trained on; with `training` that of all the rest.

    `seed` and `step` say which checkpoint of `data` it is; the small model's are made by train.py.
    """
    if data:
        return _hugging_face(Path(data) / f"seed_{seed}" / f"step_{step}", Path(data) / "text.txt")
    tokens = letters()
    end = len(tokens) - BLOCKS * LENGTH
    seen = blocks(tokens[:end], LENGTH, end) if training else blocks(tokens[end:], LENGTH)
    return Task(model=Characters(hidden), loss=next_token, data=seen)


def letters() -> Tensor:
    """The help texts of the Python that runs, in small letters: numbers of ALPHABET's characters, int64."""
    words = " ".join(" ".join(text for _, text in sorted(topics.items())).lower().split())
    return torch.tensor([ALPHABET.index(each) for each in words if each in ALPHABET])


def blocks(tokens: Tensor, length: int, most: int = BLOCKS) -> Tensor:
    """Whole blocks of tokens, (blocks, length); at most so many."""
    found = tokens[: most * length]
    return found[: len(found) // length * length].view(-1, length)


def next_token(model: nn.Module, tokens: Tensor) -> Tensor:
    """The mean cross-entropy of each token but the first of a block, from those before it: one number a block."""
    logits = model(tokens)
    logits = getattr(logits, "logits", logits)[:, :-1]
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return losses.view(len(tokens), -1).mean(1)


def masked_tokens(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean cross-entropy of the tokens that are masked: one number a block."""
    tokens, labels = batch
    logits = model(tokens).logits
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=COUNTED)
    return losses.view(len(tokens), -1).sum(1) / (labels != COUNTED).sum(1)


def check(data: Path, steps: Sequence[int], seeds: int) -> None:
    """Whether a text and all models are there, each with its weights and a tokenizer, and whether they can be read.
    `InputError` where not."""
    _present(data / "text.txt", "a text, in UTF-8, to look at the loss of")
    for seed in range(seeds):
        for step in steps:
            folder = data / f"seed_{seed}" / f"step_{step}"
            _present(folder / "config.json", "a model of Hugging Face's, as save_pretrained leaves it")
            for what, files in (("weights", WEIGHTS), ("tokenizer", TOKENIZERS)):
                if not any((folder / each).is_file() for each in files):
                    raise InputError(f"data: {folder} has a config.json and no {what}: none of {', '.join(files)}")
    _transformers()


def _present(file: Path, what: str) -> None:
    if not file.is_file():
        raise InputError(f"data: {file} does not exist; put {what} there. Nothing is downloaded here")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise InputError(f"models of Hugging Face's need transformers: pip install transformers ({error})") from error
    return transformers


def _hugging_face(folder: Path, text: Path) -> Task:
    _present(folder / "config.json", "a model of Hugging Face's, as save_pretrained leaves it")
    _present(text, "a text, in UTF-8, to look at the loss of")
    library = _transformers()
    kinds = library.AutoConfig.from_pretrained(folder).architectures or ()
    guesses = any("Masked" in each or "PreTraining" in each for each in kinds)
    kind = library.AutoModelForMaskedLM if guesses else library.AutoModelForCausalLM
    # in float32 whatever it was saved in: the study's precision is made of that
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    told = tokenizer(text.read_text(encoding="utf-8"), return_tensors="pt", add_special_tokens=False)["input_ids"][0]
    length = min(TOKENS, model.config.max_position_embeddings)
    tokens = blocks(told, length)
    if not len(tokens):
        raise InputError(f"data: {text} has {len(told)} tokens, and one block of them is {length}; take a longer text")
    if not guesses:
        return Task(model=model, loss=next_token, data=tokens)
    chosen = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0)) < MASKED
    chosen[:, 1] = True  # at least one in each block
    labels = tokens.masked_fill(~chosen, COUNTED)
    return Task(model=model, loss=masked_tokens, data=(tokens.masked_fill(chosen, tokenizer.mask_token_id), labels))


class Characters(nn.Module):
    """One block of a transformer: (blocks, length) tokens to (blocks, length, characters) logits."""

    def __init__(self, hidden: int, heads: int = 2) -> None:
        super().__init__()
        self.embedding = Embedding(hidden)
        self.attention = Attention(hidden, heads)
        self.wide = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden)
        )
        self.head = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, len(ALPHABET)))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + self.attention(x)
        return self.head(x + self.wide(x))


class Embedding(nn.Module):
    """Of characters and of places."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.letter, self.place = nn.Embedding(len(ALPHABET), hidden), nn.Embedding(LENGTH, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.letter(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))


class Attention(nn.Module):
    """To what came before."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(hidden)
        self.mixed, self.joined = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        parts = self.mixed(self.norm(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        ahead = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(ahead, float("-inf")).softmax(-1) @ value
        return self.joined(mixed.transpose(1, 2).reshape(n, length, -1))
