"""Which local Python files a task is made of, found by reading them: nothing is run, so the study's id costs nothing.

Found are imports anywhere in a file (also inside functions, relative ones inside packages, `import_module("name")`),
and files that it names as a whole ("model.py", for runpy and the like), of the task's folder and the study's, and what
these import in turn. Names that are made up while a task runs are seen as it is built: `objective.usercode.watched`.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from landscaper_hpc.digests import content_sha256
from landscaper_hpc.files import name_in_utf8, name_on_disk

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})


def code_sha256(file: Path, folders: Sequence[Path] = ()) -> str:
    """SHA-256 of a Python file with the local modules that it imports: of content, wherever it lies.

    Of a file that imports none, that of its bytes.
    """
    own, imported = content_sha256(file), local_imports(file, folders)
    if not imported:
        return own
    parts = [own, *(f"{name}\0{content_sha256(path)}" for name, path in sorted(imported.items()))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def local_imports(file: Path, folders: Sequence[Path] = ()) -> dict[str, Path]:
    """The local files that `file` imports, by their names within the folder they were found in."""
    roots = list(dict.fromkeys(folder.resolve() for folder in (file.parent, *folders)))
    found: dict[str, Path] = {}
    waiting = [(file.resolve(), "")]
    while waiting:
        path, package = waiting.pop()
        for name, other in _named(path, package, roots):
            if other != file.resolve() and name not in found and is_local(other, roots):
                found[name] = other
                parts = Path(name).with_suffix("").parts
                waiting.append((other, ".".join(parts[:-1])))
    return found


def is_local(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a file is the user's own, in one of these folders: no installed package, and nothing of this one."""
    return (
        any(path.is_relative_to(folder) for folder in folders)
        and not {"site-packages", "dist-packages"} & set(path.parts)
        and not any(path.is_relative_to(folder) for folder in (_PACKAGE, *_INSTALLED))
    )


def _named(path: Path, package: str, roots: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Every file that the source of `path`, a module of `package`, may import."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # whoever runs it will say so
    for node in ast.walk(tree):
        for module in _modules(node, package):
            yield from _resolved(module, roots)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
            name = Path(name_on_disk(node.value)).name
            if name_on_disk(node.value) == name and (path.parent / name).is_file():
                yield str(Path(*package.split("."), name)), (path.parent / name).resolve()


def _modules(node: ast.AST, package: str) -> Iterator[str]:
    """The modules, by their dotted names, that a node of the source may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node.level, node.module or "", package)
        yield from ([base] if base else [])
        yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)  # it may be a module
    elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            dots = len(name.value) - len(name.value.lstrip("."))
            yield _absolute(dots, name.value[dots:], package)


def _absolute(level: int, module: str, package: str) -> str:
    parents = package.split(".") if package else []
    base = parents[: len(parents) - level + 1] if level else []
    return ".".join([*base, *([module] if module else [])])


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _resolved(module: str, roots: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """The files that importing `module` executes: those of the packages above it, and its own."""
    parts = name_on_disk(module).split(".")
    for root in roots:
        first = root / parts[0]
        if not (first.is_dir() or first.with_name(f"{parts[0]}.py").is_file()):
            continue
        for depth in range(1, len(parts) + 1):
            place = Path(*parts[:depth])
            for name in (place / "__init__.py", place.with_name(f"{place.name}.py")):
                if (root / name).is_file():
                    yield name_in_utf8(name.as_posix()), (root / name).resolve()
                    break
        return
