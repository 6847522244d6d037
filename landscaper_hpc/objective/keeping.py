"""Whether a loss keeps from one call for the next what it computed from its parameters.

What lies with modules is put back before every call (`writes`). The rest of Python is out of reach: a closure, a
global, a cache, a list that is appended to, a file. The landscape of such a loss would in part be one of the parameters
of its first call. That call is listened to: which tensors that it computed from parameters outlive it, and whether
numbers that depend on them left torch. Where neither is so, nothing can have been kept. Else the task is loaded once
more, called first elsewhere, and at some places in the opposite order: it must give the same values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.first_call import Call, elsewhere, mean_of
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import epsilon

_PLACES = 0.0, 0.4, 1.0
_ROUNDINGS = 1000
_ADVICE = (
    "compute what depends on the parameters in every call, or once in task(), and let the loss keep nothing from call "
    "to call (a global, a closure, a cache, a list, a counter)"
)


def may_keep(objective: Objective) -> bool:
    """Whether the first call of the loss left anything that a later one might use, as far as that was listened to: what
    ranks do together is not."""
    first = objective.first_call
    return first is None or first.left or first.outliving()


def prove_nothing_kept(objective: Objective, other: Objective | None) -> None:
    """`InputError` for a loss whose value depends on where it was called before. `other` is the same, loaded once more,
    whose first call was elsewhere; None where there is no room for it."""
    if objective.first_call is not None:
        _refuse_used_again(objective, objective.first_call)
    if other is None:
        return
    mine, its = _values(objective, _PLACES), _values(other, _PLACES[::-1])
    for by in _PLACES:
        if mine[by] != its[by]:
            raise InputError(
                f"{objective.source}: the loss depends on where it was called before: it is {mine[by]} "
                f"{'away from' if by else 'at'} the checkpoint, and {its[by]} after other calls; {_ADVICE}"
            )


def prove_unchanged(objective: Objective) -> None:
    """`InputError` where the loss gives by now another value than in its very first call, at the same place."""
    first = objective.first_call
    before, of = (objective.began_with, "") if first is None else (first.value, "'s first batch")
    if before is None:
        return
    now = float(objective.loss(objective.parameters)) if first is None else mean_of(objective.called_as_first())
    assert now is not None
    rounding = _ROUNDINGS * epsilon(objective.precision, objective.device)
    if not math.isclose(before, now, rel_tol=rounding) and not (math.isnan(before) and math.isnan(now)):
        raise InputError(
            f"{objective.source}: the loss changes from call to call: that of the checkpoint{of} was {before!r} in the "
            f"first call, and is {now!r} after others; {_ADVICE}"
        )


def _refuse_used_again(objective: Objective, first: Call) -> None:
    """Where a call computes its value from tensors that the first one has left."""
    call = Call()
    call.take_up(first)
    try:
        value = call.listened(lambda: objective.loss({n: p.clone() for n, p in objective.parameters.items()}))
    except InputError:
        raise
    except Exception:  # what cannot be listened to
        return
    if call.marks(value):
        raise InputError(
            f"{objective.source}: the loss uses what an earlier call has computed from other parameters and kept; "
            f"{_ADVICE}"
        )


def _values(objective: Objective, places: Sequence[float]) -> dict[float, str]:
    """The loss, with metrics where there are some, to the last digit, or which error it raises, so far from the
    checkpoint: all in the same memory, as on a grid, where something may be known by its address."""
    found, memory = {}, {name: p.clone() for name, p in objective.parameters.items()}
    for by in places:
        for name, p in elsewhere(objective.parameters, by).items():
            memory[name].copy_(p)
        try:
            found[by] = repr(objective.loss({name: p.detach() for name, p in memory.items()}).detach().tolist())
        except InputError:
            raise
        except Exception as error:
            found[by] = type(error).__name__
    return found
