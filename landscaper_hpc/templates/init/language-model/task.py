"""What is evaluated: a model, a loss and data. Replace all three by yours.

Here: a small transformer that predicts the next character of a text that Python ships with. With a folder of Hugging
Face's `save_pretrained` in the checkpoint's options it is that model, on a text file of yours; of an adapter (PEFT),
which alone moves then, and of a folder without a tokenizer, `base` is the folder of the model it was made from:

  checkpoints:
    - {name: step_1000, file: out/checkpoint-1000, options: {folder: out/checkpoint-1000, text: held_out.txt}}
    - {name: tuned, file: lora, options: {folder: lora, base: out/checkpoint-1000, text: held_out.txt}}
"""

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from landscaper_hpc import InputError, Task

PADDING = -100  # labels of this value count for nothing
BLOCK, BLOCKS = 32, 24  # tokens in each block, and blocks
TOKENIZERS = "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"


def task(hidden: int = 16, folder: str = "", base: str = "", text: str = "") -> Task:
    """Called with a checkpoint's `options`; its parameters are then loaded into the model."""
    if folder:
        return _hugging_face(folder, base, text)
    characters = sorted(set(TEXT))
    tokens = torch.tensor([characters.index(each) for each in TEXT])
    # shard: where a site says gpus_per_model, several processes hold the model, and gather a layer when it is run
    return Task(model=Characters(len(characters), hidden), loss=loss, data=blocks(tokens), shard="layers.*")


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


def _hugging_face(folder: str, base: str, text: str) -> Task:
    here = Path(__file__).parent
    adapter = here / folder / "adapter_config.json"
    if adapter.exists() and not base:
        base = json.loads(adapter.read_text())["base_model_name_or_path"] or ""
    whole = base if adapter.exists() else folder
    if not whole or not (here / whole / "config.json").exists():
        named = f"no config.json in {here / whole}" if whole else "none is named in its adapter_config.json"
        what = f"is an adapter without its base model ({named})" if adapter.exists() else "has no config.json"
        key = "the base model's folder as base:" if adapter.exists() else "the model's folder as folder:"
        raise InputError(f"{here / folder} {what}; name {key} in the options")
    with_tokenizer = [each for each in (folder, base) if each and any((here / each / f).exists() for f in TOKENIZERS)]
    if not with_tokenizer:
        raise InputError(
            f"{here / folder} has no tokenizer ({', '.join(TOKENIZERS)}); save it there with "
            "tokenizer.save_pretrained(folder), or name a folder that has one as base: in the options"
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(here / whole, attn_implementation="eager")
    kinds = set(model._no_split_modules or ())
    if adapter.exists():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, here / folder, is_trainable=True)
    tokenizer = AutoTokenizer.from_pretrained(here / with_tokenizer[0])
    tokens = tokenizer((here / text).read_text(), return_tensors="pt")["input_ids"][0]
    shard = [name for name, module in model.named_modules() if type(module).__name__ in kinds]
    return Task(model=model, loss=loss, data=blocks(tokens, 4 * BLOCK), shard=shard or None)


class Characters(nn.Module):
    """A transformer of one layer: (blocks, block) tokens to (blocks, block, characters) logits."""

    def __init__(self, characters: int, hidden: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(characters, hidden), nn.Embedding(BLOCK, hidden)
        self.layers = nn.Sequential(Layer(hidden))
        self.norm, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, characters)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        return self.out(self.norm(self.layers(x)))


class Layer(nn.Module):
    """Attention to what came before, and what is computed of each token alone."""

    def __init__(self, hidden: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.mixed, self.joined = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.wide = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))

    def forward(self, x: Tensor) -> Tensor:
        n, length, hidden = x.shape
        parts = self.mixed(self.norms[0](x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        ahead = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(ahead, float("-inf")).softmax(-1) @ value
        x = x + self.joined(mixed.transpose(1, 2).reshape(n, length, hidden))
        return x + self.wide(self.norms[1](x))


def _zen() -> str:
    """The Zen of Python, which `import this` would print."""
    turned = Path(find_spec("this").origin).read_text().split('"""')[1]
    small, large = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return turned.translate(str.maketrans(small + large, small[13:] + small[:13] + large[13:] + large[:13]))


TEXT = _zen()
