"""Makes landscaper_persistence.json: the persistences that Landscaper 1.3.1 finds in the oracles' fields.

Run by the peers' Python: `.venv-landscaper/bin/python tests/data/make_landscaper_persistence.py`.
"""

import json
from pathlib import Path

import numpy as np
from landscaper.landscape import LossLandscape

found = {}
for path in sorted(Path(__file__).parent.glob("oracle_*.npz")):
    field = np.load(path)["f"]
    landscape = LossLandscape(field, [np.linspace(-1, 1, k) for k in field.shape])
    found[path.stem] = {
        "persistence_range": float(landscape.persistence_range()),
        "persistences": [float(p) for p in landscape.get_ms_complex().persistences],
    }
Path(__file__).with_name("landscaper_persistence.json").write_text(json.dumps(found, indent=1) + "\n")
