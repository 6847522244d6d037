"""Listening to operations of what is compiled."""

from __future__ import annotations

import pytest
import torch

from landscaper_hpc.objective.following import Follower


@pytest.mark.thorough
def test_what_listens_is_not_compiled_with_what_it_listens_to() -> None:
    """The compiler would warn of what it cannot trace, and leave halves of objects behind."""
    x = torch.ones(3)
    with Follower() as follower:
        follower.mark(x, 1)
        assert follower.marks(torch.compile(lambda x: (2 * x).sin(), backend="eager")(x)) == 1
