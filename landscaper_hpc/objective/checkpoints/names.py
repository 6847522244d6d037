"""Names in checkpoints: what wrappers add to them is taken off, and a study says how the others are meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError, list_some

# What wrappers put before every name, and what they keep beside the names that have it.
_PREFIXES: dict[str, frozenset[str]] = {
    "module.": frozenset({"n_averaged"}),  # DataParallel, DeepSpeed; torch.optim.swa_utils.AveragedModel
    "_orig_mod.": frozenset(),  # torch.compile
    "_forward_module.": frozenset(),  # Lightning Fabric, and Lightning with DeepSpeed
    "_fsdp_wrapped_module.": frozenset(),
    "_checkpoint_wrapped_module.": frozenset(),
    "model.": frozenset(),  # Lightning
    "app.": frozenset(),  # torch's recipe for distributed checkpoints
    "ema.": frozenset({"decay", "num_updates"}),
    "ema_model.": frozenset({"initted", "step"}),
    "base_model.": frozenset(),
}
# These stand inside names too, where a part of a model is wrapped.
_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class Naming:
    """What a study says of names: `rename` from how they are in the checkpoint to how they are in the model, `ignore`
    patterns of names on either side that are left alone.

    A name to be renamed is a whole name; one that ends in `.` is how names begin; one with a `*` has anything there,
    which goes where the new name has its `*`. The longest that fits counts.
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    ignore: Sequence[str] = ()

    @property
    def containers(self) -> list[str]:
        """The mappings in a checkpoint that the old names may mean."""
        return list(dict.fromkeys(old.partition(".")[0] for old in self.rename if "." in old))

    def ignores(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.ignore)

    def applied(self, entries: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """Entries under their new names. InputError for a rule that fits none, and for two of one new name."""
        result: dict[str, Any] = {}
        unused = set(self.rename)
        for name, value in entries.items():
            if self.ignores(name):
                continue
            rules = [old for old in self.rename if _renamed(name, old, self.rename[old]) is not None]
            unused.difference_update(rules)
            old = max(rules, key=len, default=None)
            new = name if old is None else _renamed(name, old, self.rename[old])
            if new in result:
                raise InputError(f"rename: {new} would be the name of two tensors of checkpoint {path}")
            result[str(new)] = value
        if unused:
            raise InputError(
                f"rename: no tensor of checkpoint {path} is called {sorted(unused)[0]}; there are "
                f"{list_some(list(entries))}"
            )
        return result

    def advice(self, target: Sequence[str], given: Sequence[str]) -> str:
        """What to write in a study, where the model's names are all there but for a beginning."""
        if not target:
            return ""
        last = max(target, key=len)
        for name in given:
            before = name.removesuffix(last)
            if name != before and before.endswith(".") and all(before + each in set(given) for each in target):
                rest = [each for each in given if not each.startswith(before)]
                ignore = f", and ignore: ['{rest[0].partition('.')[0]}*']" if rest else ""
                return f"; perhaps rename: {{'{before}': ''}}{ignore} in the study is meant"
        return "; names are matched by rename: and ignore: in the study"


PLAIN = Naming()


def unwrapped(
    entries: Mapping[str, Any], target: Collection[str], inside: Collection[str] = frozenset()
) -> dict[str, Any]:
    """The entries under the names that fit the model best, wrappers' prefixes stripped one after the other; the model's
    names may have more `inside`."""
    known = {_inner(name, inside): name for name in target}

    def hits(names: Mapping[str, Any]) -> int:
        return sum(_inner(name) in known for name in names)

    best = current = dict(entries)
    while hits(best) < len(target):
        prefix = next((p for p, beside in _PREFIXES.items() if _wraps(p, beside, current)), None)
        if prefix is None:
            break
        current = {name.removeprefix(prefix): value for name, value in current.items() if name.startswith(prefix)}
        if hits(current) > hits(best):
            best = current
    return {known.get(_inner(name), name): value for name, value in best.items()}


def _wraps(prefix: str, beside: frozenset[str], entries: Mapping[str, Any]) -> bool:
    inside = sum(name.startswith(prefix) for name in entries)
    return inside > 0 and all(name.startswith(prefix) or name in beside for name in entries)


def _inner(name: str, more: Collection[str] = ()) -> str:
    """A name without what wrappers put inside it."""
    return ".".join(part for part in name.split(".") if part not in _INSIDE and part not in more)


def _renamed(name: str, old: str, new: str) -> str | None:
    """The new name; None where `old` does not fit."""
    if old.endswith("."):
        return new + name.removeprefix(old) if name.startswith(old) else None
    if "*" in old:
        found = re.fullmatch("(.*)".join(map(re.escape, old.split("*", 1))), name)
        return new.replace("*", found[1]) if found else None
    return new if name == old else None
