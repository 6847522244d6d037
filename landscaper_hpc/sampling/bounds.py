"""What a sample says of a share, whatever that is."""

from __future__ import annotations

_CONFIDENCE = 0.95


def at_most(found: int, drawn: int, tries: int = 1) -> float:
    """The upper end of the one-sided interval for a share of which so many of a sample are, with a probability of 0.95;
    also of the luckiest of so many samples.

    Clopper and Pearson, *The use of confidence or fiducial limits illustrated in the case of the binomial* (1934).
    """
    from scipy.stats import beta

    if found == drawn:
        return 1.0
    return float(beta.ppf(1 - (1 - _CONFIDENCE) / tries, found + 1, drawn - found))
