"""Odd words for commands: what is typed, and the sentence that answers it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from landscaper_hpc.cli import app

SAID = [
    (["sweep", "s.yaml", "--checkpoint", "a.pt", "--checkpoint", "b.pt"], "'--checkpoint': it is given more than once"),
    (["run", "s.yaml", "--out", "a", "--out=b"], "'--out': it is given more than once, and has one value; keep one"),
    (["run", "s.yaml", "--device", "cpu", "--device", "cpu"], "'--device': it is given more than once"),
    (["similarity", "s.yaml", "--examples", "2"], "'--examples'"),
    (["connect", "s.yaml", "a", "b", "--points", "2"], "'--points'"),
    (["connect", "s.yaml", "a", "a"], "both ends are the checkpoint 'a'"),
    (["similarity", "s.yaml", "--figure", "x.pdf"], "give a name that ends in .svg or .png"),
    (["export", "none", "--to", "csv", "--to", "h5"], "none: holds no landscape"),  # --to may be given twice
]


@pytest.mark.parametrize(("words", "told"), SAID, ids=[" ".join(words) for words, _ in SAID])
def test_odd_words_are_answered(words: list[str], told: str) -> None:
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 2, ended.output
    assert told in " ".join(ended.output.split())


def test_the_next_command_is_one_that_a_shell_takes(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["init", str(tmp_path / "mine and é")])
    assert ended.output.splitlines()[-1] == f"next: landscaper-hpc run '{tmp_path / 'mine and é' / 'study.yaml'}'"
