"""What pyproject.toml cannot say: where the README is shown elsewhere, its links lead to the repository."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def readme() -> str:
    """README.md with absolute links."""
    repository = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    return re.sub(
        r"(!?)\[([^]]*)\]\((?!https?:|#)([^)]+)\)",
        lambda link: f"{link[1]}[{link[2]}]({repository}/{'raw' if link[1] else 'blob'}/main/{link[3]})",
        (HERE / "README.md").read_text(),
    )


setup(long_description=readme(), long_description_content_type="text/markdown")
