"""Numbers that summarise directions, and what is known of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def largest_cosine(gram: NDArray[np.float64]) -> float:
    """The largest |cosine| between two of the directions whose inner products `gram` (n, n) holds; 0 for only one."""
    length = np.sqrt(np.diag(gram))
    cosine = np.abs(gram / np.outer(length, length))
    np.fill_diagonal(cosine, 0)
    return float(cosine.max())


def largest_eigenvalue(hessian: Mapping[str, NDArray[np.float64]], which: str | Mapping[str, int]) -> float | None:
    """The largest eigenvalue that is known: of the directions, or else the largest node of the spectral density, which
    it is no smaller than. None where neither tells. `which` is that of the study's directions."""
    eigenvalues, nodes = hessian.get("eigenvalues"), hessian.get("density_nodes")
    if eigenvalues is not None:
        upper = which != "negative" and which != {"largest": 0, "negative": len(eigenvalues)}
        # of those of largest magnitude a positive one is the largest of all
        if upper and (largest := float(eigenvalues.max())) > 0:
            return largest
    return None if nodes is None else float(nodes.max())


def which_eigenvectors(which: str | Mapping[str, int]) -> str:
    """What the directions are whose eigenvalues are `which` of a study, in words."""
    if which == "magnitude":
        return "the Hessian's eigenvectors of largest |λ|"
    if which == "negative":
        return "the Hessian's eigenvectors of lowest λ (the most negative curvature)"
    assert isinstance(which, Mapping)
    parts = [
        f"{which[key]} of {words} λ" for key, words in (("largest", "largest"), ("negative", "lowest")) if which[key]
    ]
    return f"eigenvectors of the Hessian: {' and '.join(parts)}"


_NAMED = 6


def described(directions: Mapping[str, Any], configuration: Mapping[str, Any]) -> str:
    """What a study's directions are, and which parameters move along them where these are not all that the model's
    training moved, in words; both arguments as in `results.json`."""
    return _kind(directions) + _moving(configuration.get("only") or (), bool(configuration.get("frozen")))


def _moving(only: Sequence[str], frozen: bool) -> str:
    if not only:
        return "; parameters that require no gradient move, too" if frozen else ""
    rest = f" and {len(only) - _NAMED} more" if len(only) > _NAMED else ""
    kept = ", also where they require no gradient" if frozen else ""
    return f"; only the parameters {', '.join(only[:_NAMED])}{rest} move{kept}"


def _kind(directions: Mapping[str, Any]) -> str:
    kind = directions["kind"]
    if kind == "hessian":
        by = ", by PyHessian's power iteration" if directions.get("solver") == "pyhessian" else ""
        return which_eigenvectors(directions["which"]) + by
    return {
        "random": "random",
        "gradient": "the gradient",
        "trajectory": "principal components of a training run",
        "plane": "through other checkpoints",
        "file": "from a file",
        "imported": "unknown, as the losses were imported",
    }[kind]
