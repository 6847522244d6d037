"""What pyproject.toml cannot say: the README as it is shown elsewhere, where it has no files beside it.

Where pyproject.toml names a repository, links and pictures lead there. Where it names none, links are their words and
pictures are left out: an address that nobody serves would be worse.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
TO_A_FILE = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|#)([^)]+)\)")


def readme() -> str:
    repository = tomllib.loads((HERE / "pyproject.toml").read_text())["project"].get("urls", {}).get("Repository")

    def elsewhere(link: re.Match[str]) -> str:
        picture, words, file = link.groups()
        if repository is None:
            return "" if picture else words
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/main/{file})"

    return TO_A_FILE.sub(elsewhere, (HERE / "README.md").read_text())


setup(long_description=readme(), long_description_content_type="text/markdown")
