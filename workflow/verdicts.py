"""docs/verdicts.md and docs/verdicts.png, from what every study's results.json says: python workflow/verdicts.py"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from experiments.written import collected, page, picture

DOCS = Path(__file__).parents[1] / "docs"

if __name__ == "__main__":
    found = collected()
    (DOCS / "verdicts.md").write_text(page(found), encoding="utf-8")
    (DOCS / "verdicts.png").write_bytes(picture(found))
