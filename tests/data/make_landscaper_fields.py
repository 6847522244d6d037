"""Makes landscaper_fields.npz and .json: what Landscaper 1.3.1 says of further fields: noise, waves, bowls, integers,
rounded and cut-off fields with ties and plateaus, differences near single precision; 2-D to 4-D, unequal axes.

Run by the peers' Python: `.venv-landscaper/bin/python tests/data/make_landscaper_fields.py`. Landscaper numbers the
points of unequal axes in the order of `numpy.meshgrid`, which is not that of the values; here it gets the right ones.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from landscaper.landscape import LossLandscape
from landscaper.tda import saddle_minima_pairs

warnings.simplefilter("ignore")
rng = np.random.default_rng(77)


def waves(shape, count):
    grid = np.meshgrid(*[np.linspace(-1, 1, k) for k in shape], indexing="ij")
    field = np.zeros(shape)
    for _ in range(count):
        w = rng.normal(0, 3, len(shape))
        field += rng.random() * np.cos(sum(a * b for a, b in zip(w, grid, strict=True)) + rng.random() * 6)
    return field


def bowl(shape, center, power):
    grid = np.meshgrid(*[np.linspace(-1, 1, k) for k in shape], indexing="ij")
    steep = rng.uniform(0.5, 2, len(shape))
    field = sum((x - c) ** 2 * s for x, c, s in zip(grid, center, steep, strict=True))
    return np.exp(2 * field) if power else field


def one(i):
    n = int(rng.integers(2, 5))
    shape = tuple(int(k) for k in rng.integers(2 if n > 2 else 3, {2: 11, 3: 6, 4: 5}[n], n))
    if i % 3 == 0:
        shape = (shape[0],) * n
    kind = ("noise", "waves", "integers", "rounded", "cut", "offset", "capped", "bowl")[i % 8]
    if kind == "noise":
        field = rng.random(shape)
    elif kind == "waves":
        field = waves(shape, 5)
    elif kind == "integers":
        field = rng.integers(0, int(rng.choice([4, 10, 30, 100])), shape).astype(float)
    elif kind == "rounded":
        field = np.round(waves(shape, 4), 1)
    elif kind == "cut":
        field = np.maximum(waves(shape, 4), -0.5)
    elif kind == "offset":
        field = waves(shape, 4) * 1e-5 + 100
    elif kind == "capped":
        field = np.minimum(waves(shape, 4), 0.5)
        field.flat[rng.integers(field.size)] = 3
    else:
        field = bowl(shape, rng.uniform(-0.5, 0.5, n) * (i % 16 < 8), i % 16 < 8)
    return f"{kind}_{i}", field


def number(landscape, **options):
    """None where Landscaper raises, or where it gives NaN."""
    try:
        found = float(landscape.smad(**options))
    except (KeyError, IndexError):
        return None
    return found if found == found else None


def told(field):
    landscape = LossLandscape(field, [np.linspace(-1, 1, k) for k in field.shape])
    grid = np.meshgrid(*landscape.ranges, indexing="ij")
    landscape.coords = np.stack([x.reshape(-1) for x in grid], 1)
    found = {
        "smad": number(landscape, normalize=True, weighted=True),
        "norm": number(landscape, normalize=True),
        "plain": number(landscape),
    }
    try:
        tree = landscape.get_contour_tree()
    except (KeyError, IndexError):
        return {**found, "pairs": [], "ct_edges": []}
    pairs = saddle_minima_pairs(tree, landscape.get_topological_indices(tree))
    return {
        **found,
        "pairs": [[int(a), int(b)] for a, b in pairs],
        "ct_edges": [[int(a), int(b)] for a, b in tree.edges],
    }


fields = dict(map(one, range(160)))
here = Path(__file__).parent
np.savez_compressed(here / "landscaper_fields.npz", **fields)
(here / "landscaper_fields.json").write_text(json.dumps({name: told(f) for name, f in fields.items()}) + "\n")
