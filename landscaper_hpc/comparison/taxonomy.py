"""In which phase of loss landscapes a model is: Yang et al., *Taxonomizing local versus global structure in neural
network loss landscapes* (2021)."""

from __future__ import annotations

from dataclasses import dataclass

from landscaper_hpc.errors import InputError


@dataclass(frozen=True)
class Thresholds:
    """Where this package draws the lines that the paper draws by eye; state them with the phase.

    Attributes
    ----------
    loss
        The training loss up to which a model fits its data.
    sharpness
        The largest eigenvalue of the Hessian up to which a landscape is locally flat, in units of loss/‖Δθ‖².
    connectivity
        The mode connectivity down to which two models are well connected; it is 0 without, negative with a barrier.
    similarity
        The linear CKA from which on two models are alike.
    """

    loss: float = 0.1
    sharpness: float = 100.0
    connectivity: float = -0.05
    similarity: float = 0.9


@dataclass(frozen=True)
class Phase:
    """A phase and what decided it, in words: `name` is I, II, III, IV-A or IV-B."""

    name: str
    sentence: str


def phase(
    loss: float,
    lambda_max: float,
    connectivity: float,
    similarity: float,
    thresholds: Thresholds = Thresholds(),
) -> Phase:
    """The phase of a model by what is known of it and of a second one that was trained alike.

    Parameters
    ----------
    loss
        On the training data.
    lambda_max
        The largest eigenvalue of the Hessian, in units of loss/‖Δθ‖².
    connectivity
        −(the highest loss on a low path between the two − the mean loss of the two), or 0 where that is below.
    similarity
        Linear CKA of the two, from 0 to 1.
    thresholds
        Where the lines are.

    Returns
    -------
    Phase
        I and II: poorly connected and not fitted, sharp or flat locally; III: fitted, and poorly connected; IV:
        well connected, with unlike (A) or like (B) representations.

    Raises
    ------
    InputError
        For a similarity that is none.
    """
    if not 0 <= similarity <= 1 + 1e-9:
        raise InputError(f"similarity is {similarity}; linear CKA is from 0 to 1")
    t = thresholds
    connected, fitted, flat = connectivity >= t.connectivity, loss <= t.loss, lambda_max <= t.sharpness
    if connected:
        name = "IV-B" if similarity >= t.similarity else "IV-A"
    else:
        name = "III" if fitted else "II" if flat else "I"
    words = [
        f"{'well' if connected else 'poorly'} connected ({connectivity:.3g}, from {t.connectivity:.3g} on)",
        f"{'flat' if flat else 'sharp'} locally (largest eigenvalue {lambda_max:.3g}, up to {t.sharpness:.3g})",
        f"the loss is {'low' if fitted else 'high'} ({loss:.3g}, up to {t.loss:.3g})",
        f"representations are {'alike' if similarity >= t.similarity else 'unlike'} ({similarity:.3g}, from "
        f"{t.similarity:.3g} on)",
    ]
    return Phase(name, f"phase {name}: {', '.join(words)}")
