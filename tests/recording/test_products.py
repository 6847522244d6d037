"""Products of many matrices have the same bits in every place of the batch, wherever that lies in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from landscaper_hpc.recording import products
from landscaper_hpc.recording.record import record

torch.set_num_threads(1)
PLACES = 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(23, 5, 5), (24, 8, 8), (7, 3, 5), (11, 13, 9), (9, 1, 3), (1, 7, 1), (31, 17, 2)]
)
def test_equal_matrices_have_equal_products(rows: int, inner: int, columns: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, w, b = (torch.randn(shape, dtype=dtype) for shape in ((rows, inner), (inner, columns), (columns,)))

    def function(given: dict[str, Tensor]) -> Tensor:
        return torch.addmm(given["b"], given["x"], given["w"])

    equal = {"x": x, "w": w, "b": b}
    stacked = {name: value.expand(PLACES, *value.shape).clone() for name, value in equal.items()}
    recorded = record(vmap(function), stacked)
    plain = recorded(stacked)
    assert products.align(recorded, stacked) == ""
    found = recorded(stacked)
    assert all(torch.equal(found[0], each) for each in found)
    torch.testing.assert_close(found, plain, rtol=1e-5 if dtype == torch.float32 else 1e-14, atol=1e-6)


def test_what_is_filled_up_is_the_same_product() -> None:
    left, right, bias = torch.randn(4, 23, 5), torch.randn(4, 5, 3), torch.randn(4, 1, 3)
    strides = (69, 1, 23)
    for op, operands in ((torch.bmm, (left, right)), (torch.baddbmm, (bias, left, right))):
        torch.testing.assert_close(products.aligned(op, strides, *operands), op(*operands))
