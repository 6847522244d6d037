"""What a page calls a study's directions."""

from __future__ import annotations

from typing import Any

import pytest

from landscaper_hpc.directions.numbers import described


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({}, ""),
        ({"only": [], "frozen": False}, ""),
        ({"only": [], "frozen": True}, "; parameters that require no gradient move, too"),
        ({"only": ["fc.*", "conv1.weight"], "frozen": False}, "; only the parameters fc.*, conv1.weight move"),
        ({"only": ["fc.*"], "frozen": True}, "; only the parameters fc.* move, also where they require no gradient"),
        ({"only": list("abcdefgh"), "frozen": False}, "; only the parameters a, b, c, d, e, f and 2 more move"),
    ],
)
def test_says_which_parameters_move(configuration: dict[str, Any], words: str) -> None:
    assert described({"kind": "random"}, configuration) == f"random{words}"
    assert described({"kind": "hessian", "which": "magnitude"}, configuration).endswith(f"largest |λ|{words}")
    pyhessian = {"kind": "hessian", "which": "magnitude", "solver": "pyhessian"}
    assert described(pyhessian, configuration).endswith(f"largest |λ|, by PyHessian's power iteration{words}")
