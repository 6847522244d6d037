"""What is evaluated: a model, a loss and data. Replace all three by yours.

Here: a small transformer that predicts the next character of a text that Python ships with. With a folder of Hugging
Face's `save_pretrained` in the checkpoint's options it is that model, on a text file of yours:

  checkpoints:
    - {name: step_1000, file: out/checkpoint-1000, options: {folder: out/checkpoint-1000, text: held_out.txt}}
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from landscaper_hpc import Task

PADDING = -100  # labels of this value count for nothing
BLOCK, BLOCKS = 32, 24  # tokens in each block, and blocks


def task(hidden: int = 16, folder: str = "", text: str = "") -> Task:
    """Called with a checkpoint's `options`; its parameters are then loaded into the model."""
    if folder:
        return _hugging_face(Path(__file__).parent / folder, Path(__file__).parent / text)
    characters = sorted(set(TEXT))
    tokens = torch.tensor([characters.index(each) for each in TEXT])
    return Task(model=Characters(len(characters), hidden), loss=loss, data=blocks(tokens))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The cross-entropy of each token that is predicted, in the precision that the study asks for.

    The loss of Hugging Face's models themselves is not used: it turns logits to float32, whatever the precision.
    """
    tokens, labels = batch
    logits = model(tokens)
    logits = getattr(logits, "logits", logits)[:, :-1]  # the last token has no next one
    counted = labels[:, 1:] != PADDING
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="none")
    return losses.sum() / counted.sum()  # padded ones are 0


def blocks(tokens: Tensor, block: int = BLOCK, most: int = BLOCKS) -> tuple[Tensor, Tensor]:
    """Tokens in blocks of the same length, and as labels the same with padding marked; both (blocks, block)."""
    tokens = tokens[: most * block]
    short = -len(tokens) % block
    labels = nn.functional.pad(tokens, (0, short), value=PADDING).view(-1, block)
    return nn.functional.pad(tokens, (0, short)).view(-1, block), labels


def _hugging_face(folder: Path, text: Path) -> Task:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    tokens = AutoTokenizer.from_pretrained(folder)(text.read_text(), return_tensors="pt")["input_ids"][0]
    return Task(model=model, loss=loss, data=blocks(tokens, 4 * BLOCK))


class Characters(nn.Module):
    """One block of a transformer: (blocks, block) tokens to (blocks, block, characters) logits."""

    def __init__(self, characters: int, hidden: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.place = nn.Embedding(characters, hidden), nn.Embedding(BLOCK, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.mixed, self.joined = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.wide = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))
        self.out = nn.Linear(hidden, characters)

    def forward(self, tokens: Tensor) -> Tensor:
        n, length = tokens.shape
        x = self.embed(tokens) + self.place(torch.arange(length, device=tokens.device))
        parts = self.mixed(self.norms[0](x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        ahead = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        mixed = scores.masked_fill(ahead, float("-inf")).softmax(-1) @ value
        x = x + self.joined(mixed.transpose(1, 2).reshape(n, length, -1))
        return self.out(self.norms[2](x + self.wide(self.norms[1](x))))


def _zen() -> str:
    """The Zen of Python, which `import this` would print."""
    turned = Path(find_spec("this").origin).read_text().split('"""')[1]
    small, large = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return turned.translate(str.maketrans(small + large, small[13:] + small[:13] + large[13:] + large[:13]))


TEXT = _zen()
