"""`results.json`: every number of a study, and nothing that changes from one run to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from landscaper_hpc.config import Study
from landscaper_hpc.store import LandscapeStore

SCHEMA = 1


def results(study: Study, study_id: str, stores: Sequence[LandscapeStore]) -> dict[str, Any]:
    """The content of `results.json`: plain JSON values; a value that is not finite is a string."""
    found = {
        "schema": SCHEMA,
        "study": study.name,
        "study_id": study_id,
        "landscapes": [_landscape(study, store) for store in stores],
        "provenance": {
            **stores[0].attributes["provenance"],
            "seed": study.directions.seed,
            "configuration": study.model_dump(mode="json"),
        },
    }
    return _plain(found)  # type: ignore[no-any-return]


def _landscape(study: Study, store: LandscapeStore) -> dict[str, Any]:
    import numpy as np

    from landscaper_hpc.metrics import minima_above, noise_floor, summary

    science, stored, tree = store.attributes["science"], store.directions(), store.tree()
    noise = noise_floor(np.float64 if study.precision == "float64" else np.float32, tree.value_range)
    return {
        "name": store.name,
        "options": science["options"],
        "checkpoint_sha256": science["checkpoint_sha256"],
        "task_sha256": science["task_sha256"],
        "loss": store.attributes["checkpoint_loss"],
        "directions": {
            "kind": study.directions.kind,
            "n": study.directions.n,
            "normalization": study.directions.normalization,
            "eigenvalues": _list(stored.hessian.get("eigenvalues")),
            "residuals": _list(stored.hessian.get("residuals")),
            "iterations": store.attributes["iterations"],
            "gram": stored.gram.tolist(),
        },
        "grid": {
            "shape": list(store.grid.shape),
            "ranges": [[axis.lower, axis.upper] for axis in store.grid.axes],
            "points": store.grid.size,
        },
        "hessian": {key: _list(stored.hessian.get(key)) for key in ("trace", "density_nodes", "density_weights")},
        "evaluation": {
            "precision": study.precision,
            "batch": store.attributes["batch"],
            "mode": store.attributes["mode"],
        },
        "connectivity": study.connectivity,
        "topology": {**summary(tree), "noise_floor": noise, "n_above_noise": minima_above(tree, noise)},
    }


def _list(values: NDArray[Any] | None) -> list[Any] | None:
    return None if values is None else values.tolist()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
