"""Power-law exponents of the spectra of a model's weights, by the package weightwatcher (extra `power-law`).

Source: Martin, Peng, Mahoney, *Predicting trends in the quality of state-of-the-art neural networks without access to
training or testing data* (2021), section 2.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError, list_some

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PowerLaws:
    """Of each layer whose spectrum is long enough, in the order of the model.

    Attributes
    ----------
    layers
        Their names.
    alpha
        Shape (L,): the exponents of the tails of the layers' eigenvalue densities of WᵀW, ρ(λ) ~ λ^−α.
    error
        Shape (L,): their standard errors as maximum-likelihood fits have them, (α − 1) / √(eigenvalues of the tail).
    largest
        Shape (L,): the layers' largest eigenvalues of WᵀW.
    """

    layers: list[str]
    alpha: NDArray[np.float64]
    error: NDArray[np.float64]
    largest: NDArray[np.float64]

    @property
    def mean(self) -> tuple[float, float] | None:
        """The mean exponent and its standard error by those of the fits; None without a layer."""
        return self._mean(np.ones(len(self.layers)))

    @property
    def weighted(self) -> tuple[float, float] | None:
        """α̂ = mean over layers of α log₁₀ λ_max, with its error: an exponent that is comparable between sizes."""
        return self._mean(np.log10(self.largest))

    def _mean(self, weights: NDArray[np.float64]) -> tuple[float, float] | None:
        if not self.layers:
            return None
        each = weights / len(weights)
        return float(each @ self.alpha), math.hypot(*(each * self.error))


def power_laws(model: nn.Module) -> PowerLaws:
    """The exponents of a model's layers: of those with 8 eigenvalues or more, as weightwatcher has it, and a fit.

    Parameters
    ----------
    model
        Whole on this process; not changed.

    Raises
    ------
    InputError
        Where weightwatcher is not installed, or weights are not finite, or complex.
    """
    import torch

    refuse_without_package()
    bad = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        raise InputError(f"power_law: {list_some(bad)} holds NaN or infinite numbers, whose spectrum is none")
    if halves := [name for name, p in model.named_parameters() if p.is_complex()]:
        raise InputError(
            f"power_law: {list_some(halves)} holds complex numbers, of which weightwatcher takes the real part; leave "
            "power_law out"
        )
    before, root = logging.root.manager.disable, logging.getLogger()
    handlers, level = [*root.handlers], root.level
    logging.disable(logging.CRITICAL)  # a model without a layer that is large enough is an error to it
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            import weightwatcher

            # the exact decomposition, which a GPU does not change
            found: Any = weightwatcher.WeightWatcher(model=model).analyze(svd_method="accurate")
    finally:
        logging.disable(before)
        root.handlers[:] = handlers  # it adds one of its own, which would tell the terminal what is for the log
        root.setLevel(level)
    if "alpha" not in found:
        return PowerLaws([], *np.empty((3, 0)))
    found = found[(found["status"] == "success") & np.isfinite(found["alpha"])]
    columns = (found[name].to_numpy(np.float64) for name in ("alpha", "sigma", "lambda_max"))
    return PowerLaws([str(name) for name in found["longname"]], *columns)


def refuse_without_package() -> None:
    """`InputError` where weightwatcher is not installed; does not load it, which takes seconds."""
    if find_spec("weightwatcher") is None:
        raise InputError(
            "power_law: needs weightwatcher, which is not installed; pip install 'landscaper-hpc[power-law]'"
        )
