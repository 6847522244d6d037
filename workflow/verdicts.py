"""docs/verdicts.md and .png, and each study's RESULTS.md, from its results.json: python workflow/verdicts.py"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from experiments.performed import WORKFLOW
from experiments.written import collected, page, picture, write

DOCS = Path(__file__).parents[1] / "docs"

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = collected()
    for each in found:
        write(each, WORKFLOW / each["study"], each["size"])
    (DOCS / "verdicts.md").write_text(page(found), encoding="utf-8")
    (DOCS / "verdicts.png").write_bytes(picture(found))
