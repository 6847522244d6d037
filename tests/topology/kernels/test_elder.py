from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology.kernels.elder import elder_rule, first_saddles, inherit


@pytest.mark.parametrize("ties", [2, 5, 1000])
@pytest.mark.parametrize("proper", [12, 8])
def test_the_elder_rule_over_a_forest(ties: int, proper: int) -> None:
    n = 12
    rng = np.random.default_rng(ties)
    saddle = np.sort(rng.integers(0, ties, n - 1))
    child, parent = np.arange(1, n), np.array([rng.integers(0, i) for i in range(1, n)])
    up, died, met = np.full((3, proper), -1, np.int64)
    elder_rule(child, parent, saddle, n, up, died, met)
    # all that meets at one vertex meets at once, and the eldest of it goes on
    component = list(range(n))
    died_at, first_at = [-1] * proper, [-1] * proper
    heir = [-1] * proper
    for at in sorted(set(saddle.tolist())):
        before = list(component)
        for e in np.flatnonzero(saddle == at):
            a, b = sorted((component[child[e]], component[parent[e]]))
            component = [a if c == b else c for c in component]
        for old in sorted(set(before)):
            meets = {x for x in set(before) if component[x] == component[old]}
            eldest = min(meets)
            if len([x for x in meets if x < proper]) > 1 and old < proper:
                first_at[old] = first_at[old] if first_at[old] >= 0 else at
                if old != eldest:
                    died_at[old], heir[old] = at, eldest
    assert up.tolist() == heir
    assert [int(saddle[e]) if e >= 0 else -1 for e in died] == died_at
    assert [int(saddle[e]) if e >= 0 else -1 for e in met] == first_at
    found, values = first_saddles(up, np.array(died_at), np.where(died >= 0, died_at, np.nan), 1.0)
    assert found.tolist() == first_at
    np.testing.assert_array_equal(values, np.where(met >= 0, first_at, np.nan))


def test_what_goes_is_inherited_by_the_nearest_that_stays() -> None:
    parent = np.array([-1, 0, 1, 2, 1, 0])
    heir = np.arange(6)
    inherit(parent, np.array([True, False, False, True, True, False]), heir)
    assert heir.tolist() == [0, 0, 0, 3, 4, 0]
