"""`results.json`: every number of a study, and nothing that changes from one run to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.study.study import Study

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


# products in these precisions keep 10 and 7 of the 23 bits behind the point of a float32 number
_COARSER = {"tf32": 2**13, "bf16": 2**16}


def rounding(precision: str, value_range: tuple[float, float]) -> float:
    """The rounding error of a loss in this precision, at the largest magnitude in `value_range`."""
    import numpy as np

    from landscaper_hpc.topology.metrics import noise_floor

    stored = np.float64 if precision == "float64" else np.float32
    return noise_floor(stored, value_range) * _COARSER.get(precision, 1)


def _landscape(study: Study, store: LandscapeStore) -> dict[str, Any]:
    from landscaper_hpc.topology.metrics import minima_above, summary

    science, stored, tree = store.attributes["science"], store.directions(), store.tree()
    noise = rounding(study.precision, tree.value_range)
    return {
        "name": store.name,
        "options": science["options"],
        "checkpoint_sha256": science["checkpoint_sha256"],
        "task_sha256": science["task_sha256"],
        **{key: store.attributes.get("identity", {}).get(key) for key in ("data_sha256", "not_covered")},
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
