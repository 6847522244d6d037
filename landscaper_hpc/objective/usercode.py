"""Loading the user's own Python files (task, train) by path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def user_module(file: Path) -> Iterator[ModuleType]:
    """Execute a Python file as a module of its own; inside, its neighbours can be imported by name.

    Afterwards they are forgotten, so that the file of the same name beside another study is not taken for them.
    """
    spec = importlib.util.spec_from_file_location(f"landscaper_hpc_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    known = set(sys.modules)
    # dataclasses and pickle look a class's module up by name
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(file.parent))
        for name in set(sys.modules) - known - {module.__name__}:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin is not None and Path(origin).parent == file.parent:
                del sys.modules[name]
