"""Every number that is told of a landscape, one row each. All that tell numbers iterate over these rows:

`results.json` and its schema, the table of `run`, `topology`, the page, the table of a sweep, its page and figures,
and docs/quantities.md. So a new number is one function and one row. The functions are called where the merge tree is
made (`measure`); what is told of a study was stored there. (Longer than most modules: it is one list, in the order in
which it is read: mean climb, which settles, before all others.)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.comparison.weight_spectra import PowerLaws
from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.directions.numbers import largest_cosine, largest_eigenvalue
from landscaper_hpc.report import records
from landscaper_hpc.report.quantity import (
    BOUNDS,
    COUNT,
    COUNTS,
    ESTIMATE,
    MATRIX,
    NUMBER,
    NUMBERS,
    SCOPE_SHARE,
    SHAPE,
    SHAPES,
    SHARE,
    TEXT,
    TEXTS,
    Measured,
    Origin,
    Place,
    Quantity,
)
from landscaper_hpc.topology.basins import basin_entropy, basin_width, below_half, passes
from landscaper_hpc.topology.decided import DECIDED, SHALLOW, decided_by, warning
from landscaper_hpc.topology.distances import MOST_PAIRS
from landscaper_hpc.topology.drawing import LEAVES
from landscaper_hpc.topology.error_bars import ErrorBars
from landscaper_hpc.topology.landscaper import smad_landscaper
from landscaper_hpc.topology.metrics import mean_climb, minima_above, minima_on_edge, persistence_statistics, smad
from landscaper_hpc.topology.refinement import TOLERANCE
from landscaper_hpc.topology.sharpness import RADIUS, adaptive_metric, ball_sharpness, box_sharpness
from landscaper_hpc.topology.tree import MergeTree

if TYPE_CHECKING:
    from landscaper_hpc.sampling.lowest import Lowest
    from landscaper_hpc.sampling.scattered import Scattered
    from landscaper_hpc.store.landscape import LandscapeStore

S = TypeVar("S")
T = TypeVar("T")


def shown(place: Place) -> list[Quantity]:
    """The rows that are printed in a place, in their order."""
    return [row for row in ROWS if place in row.places]


def measure(measured: Measured, origins: Iterable[Origin]) -> dict[str, Any]:
    """The values of all rows of these origins, by key: plain numbers, lists, None."""
    return {row.key: _plain(row.of(measured)) for row in ROWS if row.origin in origins}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted keys as dicts within dicts."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        *folders, name = key.split(".")
        at = found
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = value
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _negative(m: Measured) -> int | None:
    eigenvalues = m.hessian("eigenvalues")
    return None if eigenvalues is None else int(np.count_nonzero(eigenvalues < 0))


def _lambda_max(m: Measured) -> float | None:
    return largest_eigenvalue(m.directions.hessian, m.attributes["science"]["directions"]["which"])


def _share_of_range(m: Measured) -> float | None:
    tree, _ = m.tree.scaled()
    low, high = tree.value_range
    return persistence_statistics(tree).max / (high - low) if low < high else None


def _confirmed(m: Measured) -> Confirmed:
    assert m.confirmed is not None
    return m.confirmed


def _metrics(m: Measured) -> list[records.Entry] | None:
    return _of(_labels_and_metrics(m), lambda known: records.metrics(known[1]))


def _metrics_of_basins(m: Measured) -> list[records.Entry] | None:
    return _of(_labels_and_metrics(m), lambda known: records.basins_with_metrics(m.tree, *known))


def _labels_and_metrics(m: Measured) -> tuple[NDArray[Any], LandscapeStore] | None:
    """The tree's labels and the store, where there are both and the task has metrics."""
    return None if m.field is None or m.store is None or not m.store.metrics else (m.field[1], m.store)


def _metrics_of_its_basins(m: Measured) -> list[records.Entry] | None:
    return _of(m.metrics, lambda at: records.basins_of_part(m.tree, at))


def _bars(m: Measured) -> ErrorBars:
    assert m.error_bars is not None
    return m.error_bars


def _places(m: Measured) -> list[records.Entry]:
    assert m.trajectory is not None
    return records.places(*m.trajectory, m.grid)


def _laws(m: Measured) -> PowerLaws:
    assert m.power_laws is not None
    return m.power_laws


def _scattered(m: Measured) -> Scattered:
    assert m.scattered is not None
    return m.scattered


def _lowest(m: Measured) -> Lowest:
    assert m.lowest is not None
    return m.lowest


def _largest(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max(initial=0.0))


def _residual(m: Measured) -> float | None:
    residuals = m.hessian("residuals")
    return None if residuals is None else float(residuals.max())


def _width(m: Measured, share: float | None) -> float | None:
    return None if share is None else basin_width(share, [axis.upper - axis.lower for axis in m.grid.axes])


def _deepest(m: Measured) -> float | None:
    return None if not m.tree.n_minima else float(m.tree.basin_size[0] / m.tree.n_vertices)


def _half(m: Measured) -> float | None:
    return None if m.field is None or not m.tree.n_minima else below_half(m.tree, *m.field)


def _climb_to_deepest(m: Measured) -> float | None:
    """From the grid point nearest to the checkpoint, which may lie higher than the pass."""
    if m.field is None:
        return None
    values, labels = m.field
    here = tuple(int(np.argmin(np.abs(c))) for c in m.coordinates)
    basin = int(np.asarray(labels).reshape(values.shape)[here])
    if basin < 0:
        return None
    level = float(passes(m.tree, m.tree.minima[[basin, 0]])[0, 1])
    return None if np.isnan(level) else max(0.0, level - float(values[here])) if basin else 0.0


def _sharpness(m: Measured, normalizations: Container[str], of: Callable[..., float | None]) -> float | None:
    known = m.attributes["science"]["directions"]["normalization"] in normalizations
    return of(m.field[0], m.coordinates) if known and m.field is not None else None


def _adaptive(m: Measured) -> float | None:
    normalization = m.attributes["science"]["directions"]["normalization"]
    if m.field is None or normalization not in ("filter", "layer"):
        return None
    metric = adaptive_metric(m.directions.vectors, normalization == "filter")
    return ball_sharpness(m.field[0], m.coordinates, metric=metric)


def _of(known: S | None, number: Callable[[S], T]) -> T | None:
    return None if known is None else number(known)


def _as_landscaper(m: Measured, **options: bool) -> float | None:
    return None if m.contour is None else smad_landscaper(m.contour, **options)


def _log_smad(tree: MergeTree) -> float:
    return smad(tree, normalize=False)


def _log_climb(tree: MergeTree) -> float:
    return mean_climb(tree, normalize=False)


_TENTH = f"lowest {100 * SCOPE_SHARE:.0f} % of the points"
_SHALLOW = f"without basins shallower than {100 * SHALLOW:.0f} % of the range"
_LANDSCAPERS = "Landscaper 1.3.1, LossLandscape.smad"
_UNDEFINED = "not defined by Landscaper"
_LANDSCAPER = "Chen et al., Landscaper (2026), eq. 1"
_ELDER = "Edelsbrunner, Letscher, Zomorodian (2002)"
_XIE = "Xie et al., arXiv 2411.09807"
_TREE: Origin = "tree"
_CURVE: Origin = "tree of a study"
_CONTOUR: Origin = "contour"
_OWN: Origin = "landscape"
_CONFIRMED: Origin = "confirmed"
_BARS: Origin = "error_bars"
_RUN: Origin = "trajectory"
_WEIGHTS: Origin = "power_law"
_SCOPE: Origin = "scope"
_SAMPLING: Origin = "sampling"
_MARTIN = "Martin, Peng, Mahoney (2021)"
_WALES = "Wales, Energy Landscapes (2003)"
_ALL: frozenset[Place] = frozenset({"run", "topology", "page", "sweep", "figure"})


def _in(*places: Place) -> frozenset[Place]:
    return frozenset(places)


# fmt: off
_ROWS: tuple[Quantity, ...] = (
    Quantity("topology.mean_climb", "mean climb", "",
        "from the minimum that a point of the grid descends to, up to that basin's first saddle, as a "
        "share of the range of losses: the mean over all points",
        "E_v[f(first_saddle(basin of v)) − f(its minimum)] / (max f − min f) = m · SMAD", f"after {_LANDSCAPER}",
        _TREE, NUMBER, lambda m: mean_climb(m.tree), _ALL),
    Quantity("topology.smad", "SMAD", "",
        "mean height from a minimum to its first saddle, as a share of the range of losses, weighted by "
        "the basin's share of the grid; it falls as the number of minima grows",
        "mean over minima m of (f(first_saddle(m)) − f(m)) / (max f − min f) · |basin(m)| / N", _LANDSCAPER,
        _TREE, NUMBER, lambda m: smad(m.tree), _ALL),
    Quantity("topology.smad_decided_by", "SMAD decided by", "",
        f"{DECIDED}; – where by none of them",
        "as the warning on SMAD", "",
        _TREE, TEXT, lambda m: decided_by(m.tree), _in("sweep")),
    Quantity("topology.smad_warning", "warning on SMAD", "",
        "where it is decided by something other than the landscape",
        "one pair, or minima on the edge, that carry more than half of the sum over minima; or 1/m, where more than "
        f"half of the m minima are shallower than {100 * SHALLOW:.0f} % of the range and without them it is another by "
        "more than a factor of two", "",
        _TREE, TEXT, lambda m: warning(m.tree), _in("run", "topology", "page")),
    Quantity("scope.mean_climb", "mean climb in the scope", "",
        "as a share of the range from the lowest loss to L; a saddle above L counts as L",
        "E_v[min(f(first_saddle(basin of v)), L) − f(its minimum) | f(v) < L] / (L − min f); 0 where m_L = 1",
        f"after {_LANDSCAPER}",
        _SCOPE, NUMBER, lambda m: mean_climb(m.tree), _in("run", "page")),
    Quantity("scope.smad", "SMAD in the scope", "",
        "as a share of the range from the lowest loss to L; a saddle above L counts as L",
        "mean over minima m below L of (min(f(first_saddle(m)), L) − f(m)) / (L − min f) · "
        "|{v in basin(m): f(v) < L}| / N_L; 0 where m_L = 1",
        f"after {_LANDSCAPER}",
        _SCOPE, NUMBER, lambda m: smad(m.tree), _in("run", "page")),
    Quantity("sampling.mean_climb", "mean climb of scattered points", "",
        "of their graph, from a random one of them; how far it depends on their density, that of halves shows",
        "as mean climb", f"after {_LANDSCAPER}",
        _SAMPLING, NUMBER, lambda m: _scattered(m).mean_climb, _in("run", "page")),
    Quantity("sampling.mean_climb_of_halves", "mean climb of halves of them", "",
        "of random halves of the points",
        "2.5 % and 97.5 % of as many as 40", "Politis and Romano (1994)",
        _SAMPLING, BOUNDS, lambda m: _scattered(m).mean_climb_of_halves, _in("run", "page")),
    Quantity("sampling.smad", "SMAD of scattered points", "",
        "of their graph; it falls with the number of minima, which cannot be known at their density",
        "as SMAD", _LANDSCAPER,
        _SAMPLING, NUMBER, lambda m: _scattered(m).smad, _in("run", "page")),
    Quantity("sampling.smad_of_halves", "SMAD of halves of them", "",
        "of random halves of the points",
        "2.5 % and 97.5 % of as many as 40", "Politis and Romano (1994)",
        _SAMPLING, BOUNDS, lambda m: _scattered(m).smad_of_halves, _in("page")),
    Quantity("loss", "loss at the checkpoint", "loss",
        "of the parameters as they were trained",
        "f(θ*)", "",
        _OWN, NUMBER, lambda m: float(m.attributes["checkpoint_loss"]), _in("run", "page", "sweep", "figure")),
    Quantity("grid.shape", "grid", "",
        "points along each direction",
        "k₁ × … × kₙ", "",
        _OWN, SHAPE, lambda m: m.grid.shape, _in("run")),
    Quantity("grid.points", "points", "",
        "of the grid",
        "N = Π kᵢ", "",
        _OWN, COUNT, lambda m: m.grid.size, frozenset(), "points"),
    Quantity("directions.eigenvalues", "Hessian eigenvalues λ", "loss/‖Δθ‖²",
        "curvature of the loss along each direction",
        "Hu = λu", "",
        _OWN, NUMBERS, lambda m: m.hessian("eigenvalues"), _in("run", "page")),
    Quantity("directions.n_negative", "negative eigenvalues", "",
        "directions in which the loss falls away from the checkpoint",
        "#{i: λᵢ < 0}", "",
        _OWN, COUNT, _negative),
    Quantity("directions.residuals", "residuals of the eigenvectors", "",
        "of each direction",
        "‖Hu − λu‖ / |λ|", "",
        _OWN, NUMBERS, lambda m: m.hessian("residuals")),
    Quantity("directions.largest_residual", "largest residual", "",
        "‖Hu − λu‖ / |λ| of the eigenvectors: how exact they are",
        "max ‖Huᵢ − λᵢuᵢ‖ / |λᵢ|", "",
        _OWN, NUMBER, _residual, _in("page")),
    Quantity("directions.gram", "inner products of the directions", "‖Δθ‖²",
        "",
        "⟨uᵢ, uⱼ⟩", "",
        _OWN, MATRIX, lambda m: m.directions.gram),
    Quantity("directions.skew", "largest cosine", "",
        "between two directions; 0: orthogonal",
        "max |⟨uᵢ, uⱼ⟩| / (‖uᵢ‖ ‖uⱼ‖), i ≠ j", "",
        _OWN, NUMBER, lambda m: largest_cosine(m.directions.gram), _in("page")),
    Quantity("directions.explained", "explained by the components", "",
        "the share of the squared distances of the run's checkpoints from this one that each principal component holds",
        "σᵢ² / Σ σ²", "Li et al. (2018), section 7.2",
        _OWN, NUMBERS, lambda m: m.attributes.get("explained"), _in("run", "page")),
    Quantity("hessian.lambda_max", "largest eigenvalue λ_max", "loss/‖Δθ‖²",
        "the largest that is known: of the directions, or else of the spectral density, then a lower bound",
        "max λ", "Yao et al. (2020), PyHessian",
        _OWN, NUMBER, _lambda_max, _in("sweep", "figure"), "lambda_max"),
    Quantity("hessian.trace", "trace of the Hessian", "loss/‖Δθ‖²",
        "estimate and its standard error",
        "Σ λ", "Epperly et al. (2024), XTrace",
        _OWN, ESTIMATE, lambda m: m.hessian("trace"), _in("run", "page")),
    Quantity("hessian.density_nodes", "spectral density, nodes", "loss/‖Δθ‖²",
        "for each probe",
        "Ritz values", "Yao et al. (2020), PyHessian",
        _OWN, MATRIX, lambda m: m.hessian("density_nodes")),
    Quantity("hessian.density_weights", "spectral density, weights", "",
        "for each probe, of its nodes; they add up to 1",
        "squared first components of the Ritz vectors", "Yao et al. (2020), PyHessian",
        _OWN, MATRIX, lambda m: m.hessian("density_weights")),
    Quantity("hessian.mode", "Hessian-vector products by", "",
        "the way that was proved for this loss, with what it needs",
        "forward-over-reverse, reverse-over-reverse or finite differences", "Pearlmutter (1994)",
        _OWN, TEXT, lambda m: m.attributes.get("hessian_mode"), _in("page")),
    Quantity("hessian.agreement", "Hessian against the losses", "",
        "how far u'Hu in a random direction is from a second difference of the losses, relative",
        "|u'Hu − Δ²f| / |Δ²f|", "Ridders (1982)",
        _OWN, NUMBER, lambda m: m.attributes.get("hessian_agreement"), _in("page")),
    Quantity("topology.range", "lowest and highest loss", "loss",
        "of the finite ones",
        "min f, max f", "",
        _TREE, BOUNDS, lambda m: m.tree.value_range, _in("run", "topology", "page")),
    Quantity("topology.n_minima", "minima", "",
        "one for each basin",
        "vertices below all their neighbours in the order (value, id)", "",
        _TREE, COUNT, lambda m: m.tree.n_minima, _ALL),
    Quantity("topology.n_above_noise", "minima above the noise floor", "",
        "that persist for at least the noise floor",
        "#{m: persistence ≥ noise floor}", "",
        _TREE, COUNT, lambda m: minima_above(m.tree, m.noise_floor), _in("run", "topology", "page")),
    Quantity("topology.n_on_edge", "minima on the edge of the grid", "",
        "where the true basin may reach further down outside",
        "#{m: an index is 0 or k − 1}", "",
        _TREE, COUNT, lambda m: minima_on_edge(m.tree), _in("topology", "page")),
    Quantity("topology.n_saddles", "saddles", "",
        "points at which basins meet",
        "vertices at which two or more components meet", "",
        _TREE, COUNT, lambda m: m.tree.n_saddles, _in("run", "topology", "page", "sweep")),
    Quantity("topology.mean_climb_log", "mean climb of the log-loss", "",
        "of ln f, not divided by a range; – where a loss is not above 0",
        "E_v[ln f(first_saddle(basin of v)) − ln f(its minimum)]", f"after {_LANDSCAPER}",
        _TREE, NUMBER, lambda m: _of(m.logarithm, _log_climb), _in("run", "topology", "page", "sweep")),
    Quantity("topology.smad_log", "SMAD of the log-loss", "",
        "of ln f, not divided by a range; – where a loss is not above 0",
        "mean over minima m of (ln f(first_saddle(m)) − ln f(m)) · |basin(m)| / N", f"after {_LANDSCAPER}",
        _TREE, NUMBER, lambda m: _of(m.logarithm, _log_smad), _in("topology", "page")),
    Quantity("topology.simplified.n_minima", f"minima, {_SHALLOW}", "",
        "that are left of them",
        f"#{{m: persistence ≥ {SHALLOW} · (max f − min f)}}", _ELDER,
        _TREE, COUNT, lambda m: m.simplified.n_minima, _in("topology", "page")),
    Quantity("topology.simplified.mean_climb", f"mean climb, {_SHALLOW}", "",
        "which are given to their neighbours",
        f"mean climb of the tree simplified at a persistence of {SHALLOW} · (max f − min f)", "",
        _TREE, NUMBER, lambda m: mean_climb(m.simplified), _in("topology", "page")),
    Quantity("topology.simplified.smad", f"SMAD, {_SHALLOW}", "",
        "which are given to their neighbours",
        f"SMAD of the tree simplified at a persistence of {SHALLOW} · (max f − min f)", "",
        _TREE, NUMBER, lambda m: smad(m.simplified), _in("topology", "page")),
    Quantity("topology.scope.level", f"loss L below which the {_TENTH} lie", "loss",
        "the scope: ties at L are outside",
        f"L: the (⌊{SCOPE_SHARE} N⌋ + 1)-th smallest f", "",
        _CURVE, NUMBER, lambda m: _of(m.scope, lambda t: t.value_range[1]), _in("page")),
    Quantity("topology.scope.points", "points in the scope", "",
        "of the grid",
        "N_L = #{v: f(v) < L}", "",
        _CURVE, COUNT, lambda m: _of(m.scope, lambda t: t.n_vertices)),
    Quantity("topology.scope.n_minima", f"minima in the {_TENTH}", "",
        "the others lie in the walls",
        "m_L = #{m: f(m) < L}", "",
        _CURVE, COUNT, lambda m: _of(m.scope, lambda t: t.n_minima), _in("run", "page")),
    Quantity("topology.scope.mean_climb", f"mean climb in the {_TENTH}", "",
        "as a share of the range from the lowest loss to L; a saddle above L counts as L",
        "E_v[min(f(first_saddle(basin of v)), L) − f(its minimum) | f(v) < L] / (L − min f); 0 where m_L = 1",
        f"after {_LANDSCAPER}",
        _CURVE, NUMBER, lambda m: _of(m.scope, mean_climb), _in("run", "page", "sweep")),
    Quantity("topology.scope.smad", f"SMAD in the {_TENTH}", "",
        "as a share of the range from the lowest loss to L; a saddle above L counts as L",
        "mean over minima m below L of (min(f(first_saddle(m)), L) − f(m)) / (L − min f) · |{v in basin(m): f(v) < L}| "
        "/ N_L; 0 where m_L = 1",
        f"after {_LANDSCAPER}",
        _CURVE, NUMBER, lambda m: _of(m.scope, smad), _in("page")),
    Quantity("topology.scope.mean_climb_log", f"mean climb of the log-loss in the {_TENTH}", "",
        "of ln f, not divided by a range; – where a loss is not above 0",
        "E_v[ln min(f(first_saddle(basin of v)), L) − ln f(its minimum) | f(v) < L]; 0 where m_L = 1",
        f"after {_LANDSCAPER}",
        _CURVE, NUMBER, lambda m: _of(m.scope_logarithm, _log_climb), _in("page")),
    Quantity("topology.scope.smad_log", f"SMAD of the log-loss in the {_TENTH}", "",
        "of ln f, not divided by a range; – where a loss is not above 0",
        "mean over minima m below L of (ln min(f(first_saddle(m)), L) − ln f(m)) · |{v in basin(m): f(v) < L}| / N_L; "
        "0 where m_L = 1", f"after {_LANDSCAPER}",
        _CURVE, NUMBER, lambda m: _of(m.scope_logarithm, _log_smad), _in("page")),
    Quantity("topology.smad_normalized", "SMAD, not weighted", "",
        "every basin counts the same",
        "mean over minima m of (f(first_saddle(m)) − f(m)) / (max f − min f)", _LANDSCAPER,
        _TREE, NUMBER, lambda m: smad(m.tree, weighted=False), _in("topology", "page")),
    Quantity("topology.smad_raw", "SMAD, raw", "loss",
        "not weighted, in units of the loss",
        "mean over minima m of f(first_saddle(m)) − f(m)", _LANDSCAPER,
        _TREE, NUMBER, lambda m: smad(m.tree, normalize=False, weighted=False), _in("topology", "page")),
    Quantity("topology.n_maxima", "maxima", "",
        "one for each hill",
        "vertices above all their neighbours in the order (value, id)", "",
        _CONTOUR, COUNT, lambda m: None if m.contour is None else len(m.contour.maxima), _in("topology", "page")),
    Quantity("topology.smad_landscaper", "SMAD as Landscaper 1.3.1 computes it", "",
        "from arcs of the contour tree: another scale than SMAD, large where there is a lone minimum; equal to "
        "Landscaper's where the connectivity is axis and all axes have one length and one range",
        "mean over Landscaper's pairs (m, s) of |f(s) − f(m)| / (max f − min f) · |basin(m)| / N", _LANDSCAPERS,
        _CONTOUR, NUMBER, _as_landscaper, _in("topology", "page"), undefined=_UNDEFINED),
    Quantity("topology.smad_landscaper_normalized", "SMAD as Landscaper 1.3.1, not weighted", "",
        "every pair counts the same",
        "mean over Landscaper's pairs (m, s) of |f(s) − f(m)| / (max f − min f)", _LANDSCAPERS,
        _CONTOUR, NUMBER, lambda m: _as_landscaper(m, weighted=False), _in("topology"), undefined=_UNDEFINED),
    Quantity("topology.smad_landscaper_raw", "SMAD as Landscaper 1.3.1, raw", "loss",
        "not weighted, in units of the loss",
        "mean over Landscaper's pairs (m, s) of |f(s) − f(m)|", _LANDSCAPERS,
        _CONTOUR, NUMBER, lambda m: _as_landscaper(m, normalize=False, weighted=False), _in("topology"),
        undefined=_UNDEFINED),
    Quantity("topology.basin_entropy", "basin entropy", "",
        "0: all points descend to one minimum; large: they are spread over many",
        "−Σ p ln p, p = |basin| / Σ |basin|", "Shannon (1948), of basin volumes as in Menck et al. (2013)",
        _TREE, NUMBER, lambda m: basin_entropy(m.tree), _in("topology", "page")),
    Quantity("topology.deepest_share", "share of the deepest basin", "",
        "of all points of the grid",
        "|basin(argmin f)| / N", "Menck et al. (2013), basin stability",
        _TREE, SHARE, _deepest, _in("topology", "page")),
    Quantity("basins.deepest_width", "width of the deepest basin", "coordinates",
        "the side of a cube of its volume; to about a step of the grid, and as far as the grid goes",
        "(|basin| / N · Π rangeᵢ)^(1/n)", "",
        _CURVE, NUMBER, lambda m: _width(m, _deepest(m)), _in("page")),
    Quantity("basins.deepest_half_width", "its width at half of its climb", "coordinates",
        "the same of the points below half the way up to its first saddle, or to the highest loss",
        "(|{v in basin: f(v) ≤ (f(m) + f(first_saddle(m))) / 2}| / N · Π rangeᵢ)^(1/n)", "",
        _CURVE, NUMBER, lambda m: _width(m, _half(m)), _in("page")),
    Quantity("basins.climb_to_deepest", "climb from the checkpoint to the deepest minimum", "loss",
        "the lowest pass on a way there, above the loss at the checkpoint; 0 where it lies in that basin",
        "max(0, min over ways of max f − f(θ*))", _WALES,
        _CURVE, NUMBER, _climb_to_deepest, _in("page")),
    Quantity("sharpness.box", f"ε-sharpness within {RADIUS}", "%",
        "how much higher the loss gets in a box around the checkpoint, of 1 + its loss; the largest on the grid, so a "
        "lower bound; where coordinates are relative distances",
        f"100 (max f − f(θ*)) / (1 + f(θ*)) over |αᵢ| ≤ {RADIUS}", "Keskar et al. (2017), metric 2.1",
        _CURVE, NUMBER, lambda m: _sharpness(m, ("model",), box_sharpness), _in("page")),
    Quantity("sharpness.ball", f"sharpness within a distance of {RADIUS}", "loss",
        "how much higher the loss gets within that relative distance; the largest on the grid, so a lower bound",
        f"max f − f(θ*) over ‖Δθ‖ ≤ {RADIUS} ‖θ*‖", "Foret et al. (2021), SAM, eq. 1",
        _CURVE, NUMBER, lambda m: _sharpness(m, ("model",), ball_sharpness), _in("page")),
    Quantity("sharpness.adaptive", f"adaptive sharpness within {RADIUS}", "loss",
        "the same where every filter or tensor moves by a share of its own length: scaling it changes nothing",
        f"max f − f(θ*) over √(mean over filters or tensors b of ‖Δθ_b‖² / ‖θ*_b‖²) ≤ {RADIUS}, where directions are "
        "normalised by filter or layer", "Kwon et al. (2021), ASAM, eq. 3",
        _CURVE, NUMBER, _adaptive, _in("page")),
    Quantity("topology.persistence.pairs", "finite persistence pairs", "",
        "basins that a deeper one takes in, at a finite loss",
        "#{(birth, death) finite}", _ELDER,
        _TREE, COUNT, lambda m: m.persistence.pairs, _in("run", "topology")),
    Quantity("topology.persistence.max", "largest persistence", "loss",
        "the deepest basin but one: how far it lies below the point where a deeper one takes it in",
        "max (death − birth)", _ELDER,
        _TREE, NUMBER, lambda m: m.persistence.max, _ALL),
    Quantity("topology.persistence.share", "largest persistence, as a share", "",
        "of the range of losses",
        "max (death − birth) / (max f − min f)", _ELDER,
        _TREE, SHARE, _share_of_range),
    Quantity("topology.persistence.mean", "mean persistence", "loss",
        "how deep basins are on average",
        "Σ (death − birth) / pairs", _ELDER,
        _TREE, NUMBER, lambda m: m.persistence.mean, _in("topology", "page", "sweep", "figure")),
    Quantity("topology.persistence.total", "total persistence", "loss",
        "of all basins together",
        "Σ (death − birth)", _ELDER,
        _TREE, NUMBER, lambda m: m.persistence.total, _in("topology", "page")),
    Quantity("topology.persistence.entropy", "persistence entropy", "",
        "0: one basin has all of the persistence; large: spread over many",
        "−Σ p ln p, p = (death − birth) / total", _XIE,
        _TREE, NUMBER, lambda m: m.persistence.entropy, _in("topology", "page")),
    Quantity("topology.persistence.distance_to_diagonal", "mean distance to the diagonal", "loss",
        "of the points (birth, death)",
        "mean persistence / √2", _XIE,
        _TREE, NUMBER, lambda m: m.persistence.distance_to_diagonal),
    Quantity("topology.persistence.infinite_pairs", "pairs that are not finite", "",
        "left out of the statistics",
        "#{(birth, death) not finite}", "",
        _TREE, COUNT, lambda m: m.persistence.infinite_pairs),
    Quantity("topology.persistence.range", "persistence range", "loss",
        "the largest persistence, that of the deepest basin (the range of losses) among them, less the smallest",
        "max − min of all persistences; Landscaper's is the larger one of those of sublevel and superlevel sets",
        "after Landscaper 1.3.1",
        _TREE, NUMBER, lambda m: m.persistence.persistence_range),
    Quantity("topology.noise_floor", "noise floor", "loss",
        "distance between neighbouring numbers at the largest loss, in the precision of the evaluation: "
        "differences of about that size are rounding errors",
        "spacing of numbers at max |f|", "",
        _TREE, NUMBER, lambda m: m.noise_floor, _in("run", "topology", "page")),
    Quantity("topology.n_nonfinite", "losses not finite", "",
        "NaN, +∞ and −∞: kept as they came",
        "NaN + posinf + neginf", "",
        _TREE, COUNT, lambda m: sum(m.tree.nonfinite.values()), _in("run", "topology", "page", "sweep")),
    Quantity("topology.nonfinite.nan", "NaN", "",
        "losses that are no number",
        "", "",
        _TREE, COUNT, lambda m: m.tree.nonfinite["nan"], frozenset(), "nan"),
    Quantity("topology.nonfinite.posinf", "+∞", "",
        "infinite losses",
        "", "",
        _TREE, COUNT, lambda m: m.tree.nonfinite["posinf"], frozenset(), "posinf"),
    Quantity("topology.nonfinite.neginf", "−∞", "",
        "losses that are minus infinity",
        "", "",
        _TREE, COUNT, lambda m: m.tree.nonfinite["neginf"], frozenset(), "neginf"),
    Quantity("topology.refinement.shapes", "nested grids", "",
        "every second, every fourth, … point along each axis; the coarsest first",
        "kᵢ → (kᵢ + 1) / 2, as long as it is odd and at least 5", "",
        _CURVE, SHAPES, lambda m: _of(m.refinement, lambda r: r.shapes)),
    Quantity("topology.refinement.mean_climb", "mean climb of the nested grids", "",
        "",
        "", "",
        _CURVE, NUMBERS, lambda m: _of(m.refinement, lambda r: r.mean_climb)),
    Quantity("topology.refinement.smad", "SMAD of the nested grids", "",
        "",
        "", "",
        _CURVE, NUMBERS, lambda m: _of(m.refinement, lambda r: r.smad)),
    Quantity("topology.refinement.smad_decided_by", "SMAD of the nested grids decided by", "",
        f"{DECIDED}; null where by none of them",
        "as the warning on SMAD", "",
        _CURVE, TEXTS, lambda m: _of(m.refinement, lambda r: r.smad_decided_by)),
    Quantity("topology.refinement.n_minima", "minima of the nested grids", "",
        "",
        "", "",
        _CURVE, COUNTS, lambda m: _of(m.refinement, lambda r: r.n_minima)),
    Quantity("topology.refinement.mean_climb_log", "mean climb of the log-loss of the nested grids", "",
        "",
        "", "",
        _CURVE, NUMBERS, lambda m: _of(m.refinement, lambda r: r.mean_climb_log)),
    Quantity("topology.refinement.scope_n_minima", "minima of the nested grids in the scope", "",
        "below the same loss L on all of them",
        "", "",
        _CURVE, COUNTS, lambda m: _of(m.refinement, lambda r: r.scope_n_minima)),
    Quantity("topology.refinement.scope_mean_climb", "mean climb of the nested grids in the scope", "",
        "below the same loss L on all of them",
        "", "",
        _CURVE, NUMBERS, lambda m: _of(m.refinement, lambda r: r.scope_mean_climb)),
    Quantity("topology.refinement.bottleneck", "bottleneck distance from each nested grid to the next", "",
        "as a share of the range of losses",
        f"d_B of their persistence diagrams / (max f − min f); of the {MOST_PAIRS:,} most persistent pairs",
        "Cohen-Steiner, Edelsbrunner, Harer (2007)",
        _CURVE, NUMBERS, lambda m: _of(m.refinement, lambda r: r.bottleneck)),
    Quantity("topology.refinement.verdict", "under refinement", "",
        "settled: the last two changes of minima, mean climb and diagram are small; not tested: fewer than three grids",
        f"|a − b| ≤ {TOLERANCE} max(|a|, |b|) for minima and mean climb, d_B ≤ {TOLERANCE} (max f − min f), twice", "",
        _CURVE, TEXT, lambda m: _of(m.refinement, lambda r: r.verdict), _in("run", "page")),
    Quantity("topology.refinement.scope_verdict", f"under refinement, in the {_TENTH}", "",
        "the same of minima and mean climb in the scope",
        f"|a − b| ≤ {TOLERANCE} max(|a|, |b|) for minima and mean climb below L, twice", "",
        _CURVE, TEXT, lambda m: _of(m.refinement, lambda r: r.scope_verdict), _in("run", "page")),
    Quantity("topology.curve.thresholds", "persistence thresholds", "loss",
        "basins shallower than each are given to their neighbours",
        "0 and 32 steps from the smallest to the largest persistence", "",
        _CURVE, NUMBERS, lambda m: m.curve.thresholds),
    Quantity("topology.curve.mean_climb", "mean climb over the thresholds", "",
        "what is left of it at each threshold",
        "", "",
        _CURVE, NUMBERS, lambda m: m.curve.mean_climb),
    Quantity("topology.curve.smad", "SMAD over the thresholds", "",
        "what it is at each threshold",
        "", "",
        _CURVE, NUMBERS, lambda m: m.curve.smad),
    Quantity("topology.curve.n_minima", "minima over the thresholds", "",
        "that are left at each threshold",
        "", "",
        _CURVE, COUNTS, lambda m: m.curve.n_minima),
    Quantity("metrics.values", "metrics of the task", "",
        "over the whole grid",
        "", "",
        _CURVE, records.METRICS, _metrics, _in("page")),
    Quantity("metrics.basins", "metrics in the basins of the loss", "",
        f"the means over each, of the {LEAVES} most persistent; of all in the tables of `export`",
        "mean over v in basin(m)", "",
        _CURVE, records.BASINS, _metrics_of_basins, _in("page")),
    Quantity("confirmed.followed", "minima followed", "",
        "of the grid, the most persistent, down in the continuous subspace",
        "", "",
        _CONFIRMED, COUNT, lambda m: len(_confirmed(m).grid_minima), _in("page"), "minima_followed"),
    Quantity("confirmed.interior", "confirmed minima", "",
        "minima of the loss that those of the grid lead to: the gradient is zero and all eigenvalues are positive",
        "#{ends: ∇f = 0, λ > 0}", _WALES,
        _CONFIRMED, COUNT, lambda m: _confirmed(m).count("interior"), _in("run", "page", "sweep", "figure"),
        "confirmed_minima"),
    Quantity("confirmed.edge", "confirmed at the edge of the box", "",
        "points of the box's faces that those of the grid lead to, where the loss falls only outwards",
        "#{ends on a face}", "Conn, Gould, Toint (2000)",
        _CONFIRMED, COUNT, lambda m: _confirmed(m).count("edge"), _in("run", "page", "sweep"), "confirmed_edge"),
    Quantity("confirmed.kink", "confirmed on kinks", "",
        "where no direction leads down and the gradient jumps, as in ReLU networks",
        "0 ∈ conv ∂f", "Burke, Lewis, Overton (2005)",
        _CONFIRMED, COUNT, lambda m: _confirmed(m).count("kink"), _in("page"), "confirmed_kinks"),
    Quantity("confirmed.unresolved", "not resolved", "",
        "ends that are flat to rounding, saddles, or where the loss did not go down as its gradient said",
        "", "",
        _CONFIRMED, COUNT, lambda m: _confirmed(m).count("flat", "saddle", "unresolved"), _in("page"),
        "confirmed_unresolved"),
    Quantity("confirmed.beyond", "found beyond saddles", "",
        "confirmed minima that the grid does not show",
        "", "",
        _CONFIRMED, COUNT, lambda m: _confirmed(m).beyond, _in("page"), "confirmed_beyond"),
    Quantity("confirmed.saddles", "confirmed saddles", "",
        "passes between confirmed minima with one negative eigenvalue",
        "#{∇f = 0, λ₁ < 0 < λ₂}", _WALES,
        _CONFIRMED, COUNT, lambda m: _confirmed(m).n_saddles, _in("run", "page"), "confirmed_saddles"),
    Quantity("confirmed.passes", "passes without a saddle", "",
        "between ends where none was confirmed: as high as the grid's saddle, or as values along the straight way if "
        "those are lower; why is told of each",
        "", "",
        _CONFIRMED, COUNT, lambda m: int((_confirmed(m).saddles < 0).sum()), _in("page"), "confirmed_passes"),
    Quantity("confirmed.mean_climb", "mean climb, confirmed", "",
        "of the confirmed tree: basins are those of the grid, given to the minima that their own lead to",
        "as mean climb", f"after {_LANDSCAPER}",
        _CONFIRMED, NUMBER, lambda m: mean_climb(_confirmed(m).tree), _in("run", "page", "sweep", "figure")),
    Quantity("confirmed.smad", "SMAD, confirmed", "",
        "of the confirmed tree",
        "as SMAD", _LANDSCAPER,
        _CONFIRMED, NUMBER, lambda m: smad(_confirmed(m).tree), _in("run", "page", "sweep")),
    Quantity("confirmed.persistence", "largest persistence, confirmed", "loss",
        "of the confirmed tree",
        "max (death − birth)", _ELDER,
        _CONFIRMED, NUMBER, lambda m: persistence_statistics(_confirmed(m).tree).max, _in("run", "page", "sweep")),
    Quantity("confirmed.total_persistence", "total persistence, confirmed", "loss",
        "of the confirmed tree",
        "Σ (death − birth)", _ELDER,
        _CONFIRMED, NUMBER, lambda m: persistence_statistics(_confirmed(m).tree).total, _in("page")),
    Quantity("confirmed.gradients", "gradients spent", "",
        "on following minima and saddles, Hessian-vector products among them",
        "", "",
        _CONFIRMED, COUNT, lambda m: _confirmed(m).gradients_spent + _confirmed(m).products_spent, _in("page"),
        "confirmed_gradients"),
    Quantity("confirmed.sentence", "in words", "",
        "what the minima of the grid are",
        "", "",
        _CONFIRMED, TEXT, lambda m: _confirmed(m).sentence()),
    Quantity("confirmed.ends", "confirmed minima, one by one", "",
        "and the other ends; the most persistent first",
        "", _WALES,
        _CONFIRMED, records.ENDS, lambda m: records.ends(_confirmed(m), m.grid), _in("page")),
    Quantity("confirmed.joins", "passes between them, one by one", "",
        "the lowest first",
        "", _WALES,
        _CONFIRMED, records.JOINS, lambda m: records.joins(_confirmed(m)), _in("page")),
    Quantity("error_bars.pairs", "minima looked at again", "",
        "the most persistent, by groups of the data",
        "", "",
        _BARS, COUNT, lambda m: len(_bars(m).minima), frozenset(), "minima_looked_at"),
    Quantity("error_bars.stand", "minima that stand", "",
        "of those looked at: higher than rounding, and than what another choice of data would do to them",
        "#{m: p < 0.05 after Holm's correction, death − birth > rounding}",
        "Holm (1979); Aitken (1936), weighted means",
        _BARS, COUNT, lambda m: int(_bars(m).stands.sum()), _in("run", "page", "sweep", "figure"), "minima_that_stand"),
    Quantity("error_bars.mean_climb", "mean climb, 95 % interval", "",
        "from other choices of data, with pairs, basins and range held fixed",
        "quantiles Φ(∓√(g / (g − 1)) t), with t that of 97.5 % for g groups, of resampled groups of the data",
        "Efron and Tibshirani (1993); Hesterberg (2015), expanded percentiles",
        _BARS, BOUNDS, lambda m: _bars(m).mean_climb[1:], _in("run", "page")),
    Quantity("error_bars.smad", "SMAD, 95 % interval", "",
        "as that of the mean climb",
        "quantiles Φ(∓√(g / (g − 1)) t), with t that of 97.5 % for g groups, of resampled groups of the data",
        "Efron and Tibshirani (1993); Hesterberg (2015), expanded percentiles",
        _BARS, BOUNDS, lambda m: _bars(m).smad[1:], _in("run", "page")),
    Quantity("error_bars.standard_error", "largest standard error of a height", "loss",
        "of saddles above minima, paired: over the same groups of data",
        "max over pairs of √(Σ w (d − mean)² / ((g − 1) Σ w)), of g groups with weights w", "Aitken (1936)",
        _BARS, NUMBER, lambda m: _largest(_bars(m).standard_error), _in("page")),
    Quantity("error_bars.rounding", "largest rounding of a height", "loss",
        "measured at minima and saddles: against float64, or against sums in another order",
        "max over pairs of |height − its more exact value|", "",
        _BARS, NUMBER, lambda m: _largest(_bars(m).rounding), _in("page")),
    Quantity("error_bars.heights", "heights of minima, one by one", "",
        "of those looked at; the most persistent first",
        "", "Holm (1979); Aitken (1936), weighted means",
        _BARS, records.HEIGHTS, lambda m: records.heights(_bars(m), m.tree), _in("page")),
    Quantity("error_bars.units", "parts of the data", "",
        "examples that the loss tells apart, or else batches",
        "", "",
        _BARS, COUNT, lambda m: _bars(m).units, frozenset(), "data_units"),
    Quantity("error_bars.sentence", "how sure minima are, in words", "",
        "",
        "", "",
        _BARS, TEXT, lambda m: _bars(m).sentence()),
    Quantity("error_bars.all_data.batches", "batches of the data", "",
        "of how many the landscape is, and how many there are; this and the next: only with `data: {batches: …}`",
        "", "",
        _BARS, COUNTS, lambda m: _of(m.change, lambda c: c.batches), _in("page")),
    Quantity("error_bars.all_data.other_pairs", "pairs that all data make others", "",
        "of those looked at: the saddle is no higher than the minimum, or this below the one that takes it in",
        "#{pairs (m, s) of m and p = parent(m): not f(p) ≤ f(m) < f(s) for f over all data}", "",
        _BARS, COUNT, lambda m: _of(m.change, lambda c: c.other_pairs), _in("page"), "other_pairs"),
    Quantity("error_bars.all_data.stood", "minima that stand by the few batches alone", "",
        "minima that stand are those by all data",
        "as minima that stand", "",
        _BARS, COUNT, lambda m: _of(m.change, lambda c: c.stood), _in("page"), "minima_that_stood"),
    Quantity("error_bars.all_data.other_verdicts", "minima that all data judge otherwise", "",
        "that stand by the one and not by the other",
        "", "",
        _BARS, COUNT, lambda m: _of(m.change, lambda c: c.other_verdicts), _in("page"), "other_verdicts"),
    Quantity("error_bars.all_data.height", "largest change of a height", "loss",
        "of a saddle above its minimum, from the few batches to all data",
        "max over pairs of |height over all data − height|", "",
        _BARS, NUMBER, lambda m: _of(m.change, lambda c: c.height), _in("page"), "height_change"),
    Quantity("error_bars.all_data.mean_climb", "mean climb by all data", "",
        "with pairs, basins and range of the few batches",
        "as mean climb", f"after {_LANDSCAPER}",
        _BARS, NUMBER, lambda m: _of(m.change, lambda c: c.mean_climb[1]), _in("run", "page")),
    Quantity("error_bars.all_data.smad", "SMAD by all data", "",
        "with pairs, basins and range of the few batches",
        "as SMAD", _LANDSCAPER,
        _BARS, NUMBER, lambda m: _of(m.change, lambda c: c.smad[1]), _in("run", "page")),
    Quantity("error_bars.all_data.sentence", "what all data change, in words", "",
        "",
        "", "",
        _BARS, TEXT, lambda m: _of(m.change, lambda c: c.sentence())),
    Quantity("trajectory.least_share", "least share of a checkpoint in the directions", "",
        "of its squared distance: how much of the trajectory's moves slices show, at least",
        "min ‖P(θₖ − θ*)‖² / ‖θₖ − θ*‖², P the projection", "Li et al. (2018), section 7",
        _RUN, SHARE, lambda m: min(place["share"] for place in _places(m)), _in("run", "page")),
    Quantity("trajectory.checkpoints", "checkpoints of the trajectory, one by one", "",
        "in its order",
        "α = G⁻¹ ⟨uᵢ, θ − θ*⟩", "Li et al. (2018), section 7",
        _RUN, records.PLACES, _places, _in("page")),
    Quantity("power_law.alpha", "mean power-law exponent of the layers", "",
        "between 2 and 6 for layers that are well trained, as the source has it",
        "mean over layers of α, ρ(λ) ~ λ^−α the tail of the eigenvalues of WᵀW; by weightwatcher", _MARTIN,
        _WEIGHTS, NUMBER, lambda m: _of(_laws(m).mean, itemgetter(0)), _in("run", "page", "sweep"), "power_law_alpha"),
    Quantity("power_law.alpha_error", "standard error of the mean exponent", "",
        "of the layers' fits alone",
        "√Σ σ² / layers, σ = (α − 1)/√(eigenvalues of the tail)", _MARTIN,
        _WEIGHTS, NUMBER, lambda m: _of(_laws(m).mean, itemgetter(1)), _in("run", "page"),
        "power_law_alpha_error"),
    Quantity("power_law.weighted", "weighted power-law exponent α̂", "",
        "lower for models that generalise better, among models of one kind",
        "mean over layers of α log₁₀ λ_max", _MARTIN,
        _WEIGHTS, NUMBER, lambda m: _of(_laws(m).weighted, itemgetter(0)), _in("run", "page", "sweep"),
        "power_law_weighted"),
    Quantity("power_law.weighted_error", "standard error of α̂", "",
        "of the layers' fits alone",
        "√Σ (σ log₁₀ λ_max)² / layers", _MARTIN,
        _WEIGHTS, NUMBER, lambda m: _of(_laws(m).weighted, itemgetter(1)), _in("run", "page"),
        "power_law_weighted_error"),
    Quantity("power_law.layers", "power-law exponents, layer by layer", "",
        "of layers with 8 eigenvalues or more",
        "", _MARTIN,
        _WEIGHTS, records.EXPONENTS, lambda m: records.exponents(_laws(m)), _in("page")),
    Quantity("scope.level", "level L", "loss",
        "the scope is what lies below it; all that follows is of what was met there, and exact",
        "{v: f(v) < L}", "",
        _SCOPE, NUMBER, lambda m: _lowest(m).level, _in("run", "page"), "scope_level"),
    Quantity("scope.evaluated", "points evaluated", "",
        "of the grid, to find what lies below the level",
        "", "",
        _SCOPE, COUNT, lambda m: sum(_lowest(m).evaluated.values()), _in("run", "page")),
    Quantity("scope.share_evaluated", "points evaluated, as a share", "",
        "of the grid's",
        "evaluated / N", "",
        _SCOPE, SHARE, lambda m: sum(_lowest(m).evaluated.values()) / m.grid.size, _in("run", "page")),
    Quantity("scope.lattice", "points of the lattice", "",
        "with which the search begins",
        "", "",
        _SCOPE, COUNT, lambda m: _lowest(m).evaluated["lattice"]),
    Quantity("scope.descents", "points of descents", "",
        "from the lattice's minima, and from the checkpoint",
        "", "",
        _SCOPE, COUNT, lambda m: _lowest(m).evaluated["descents"]),
    Quantity("scope.flood", "points of the flood", "",
        "neighbours of points below the level",
        "", "",
        _SCOPE, COUNT, lambda m: _lowest(m).evaluated["flood"]),
    Quantity("scope.random", "points of random descents", "",
        "by which what was not met is bounded",
        "", "",
        _SCOPE, COUNT, lambda m: _lowest(m).evaluated["random descents"]),
    Quantity("scope.points_below", "points below the level", "",
        "that were met",
        "N_L = #{v met: f(v) < L}", "",
        _SCOPE, COUNT, lambda m: m.tree.n_vertices, _in("run", "page")),
    Quantity("scope.lowest", "lowest loss", "loss",
        "of what was met",
        "min f", "",
        _SCOPE, NUMBER, lambda m: m.tree.value_range[0], _in("run", "page")),
    Quantity("scope.n_minima", "minima in the scope", "",
        "that were met",
        "m_L = #{m met: f(m) < L}", "",
        _SCOPE, COUNT, lambda m: m.tree.n_minima, _in("run", "page")),
    Quantity("scope.components", "components below the level", "",
        "that were met, each complete; where its deepest basin ends, at or above the level, is not known",
        "of {v: f(v) < L}", "",
        _SCOPE, COUNT, lambda m: int(np.count_nonzero(m.tree.parent < 0)), _in("run", "page")),
    Quantity("scope.pairs", "persistence pairs below the level", "",
        "basins that a deeper one takes in, below the level",
        "#{(birth, death): death < L}", _ELDER,
        _SCOPE, COUNT, lambda m: int(np.count_nonzero(m.tree.parent >= 0)), _in("run", "page")),
    Quantity("scope.largest_persistence", "largest persistence below the level", "loss",
        "of these pairs",
        "max (death − birth), death < L", _ELDER,
        _SCOPE, NUMBER, lambda m: m.persistence.max, _in("run", "page")),
    Quantity("scope.random_descents", "random descents", "",
        "from points drawn uniformly from the grid, after the search",
        "n", "",
        _SCOPE, COUNT, lambda m: _lowest(m).descents, _in("page")),
    Quantity("scope.ended_elsewhere", "random descents that ended elsewhere", "",
        "in minima below the level that had not been met; they are met now",
        "k", "",
        _SCOPE, COUNT, lambda m: _lowest(m).missed, _in("page")),
    Quantity("scope.unmet_at_most", "share of the grid that descends elsewhere, at most", "",
        "to minima below the level that had not been met before the random descents; with a probability of 0.95",
        "p with P(X ≤ k) = 0.05, X binomial (n, p)", "Clopper and Pearson (1934)",
        _SCOPE, SHARE, lambda m: _lowest(m).unmet, _in("run", "page")),
    Quantity("scope.next_tenth", "evaluations for the next tenth", "",
        "about how many more would bring a tenth more points below the level",
        "(N_L + (n − 1)/n · #{v: f(v) ≥ L, with a neighbour below L}) / 10", "",
        _SCOPE, COUNT, lambda m: _lowest(m).next_tenth, _in("page")),
    Quantity("scope.sentence", "the lowest part, in words", "",
        "",
        "", "",
        _SCOPE, TEXT, lambda m: _lowest(m).sentence(m.grid.size)),
    Quantity("scope.whole_grid.mean_climb", "mean climb of the whole grid, estimated", "loss",
        "from random points, not divided by a range; with `climb` only, as the next ones",
        "mean over v drawn uniformly of f(first_saddle(basin of v)) − f(its minimum)", f"after {_LANDSCAPER}",
        _SCOPE, NUMBER, lambda m: _of(m.climb, lambda c: c.mean), _in("run", "page")),
    Quantity("scope.whole_grid.interval", "its 95 % interval", "loss",
        "as far as a mean of so many is normally distributed",
        "mean ± 1.96 s / √n", "",
        _SCOPE, BOUNDS, lambda m: _of(m.climb, lambda c: c.interval), _in("run", "page")),
    Quantity("scope.whole_grid.bernstein", "its interval that needs no normal distribution", "loss",
        "where no climb is higher than the range of the values that were met",
        "empirical Bernstein bound", "Maurer and Pontil (2009), theorem 4",
        _SCOPE, BOUNDS, lambda m: _of(m.climb, lambda c: c.bernstein), _in("page")),
    Quantity("scope.whole_grid.starts", "random points of the estimate", "",
        "",
        "n", "",
        _SCOPE, COUNT, lambda m: _of(m.climb, lambda c: c.starts), _in("page")),
    Quantity("scope.whole_grid.minima", "minima that these descend to", "",
        "",
        "", "",
        _SCOPE, COUNT, lambda m: _of(m.climb, lambda c: c.minima), _in("page")),
    Quantity("scope.whole_grid.evaluated", "points evaluated for the estimate", "",
        "those of the scope that it met again among them",
        "", "",
        _SCOPE, COUNT, lambda m: _of(m.climb, lambda c: c.evaluated), _in("page")),
    Quantity("scope.all_data.points", "points evaluated on all data", "",
        "whose losses decide, the others on few batches; this and the next: only with `data: {…, then: all}`",
        "", "",
        _SCOPE, COUNT, lambda m: _of(m.of_all_data, lambda o: len(o.ids)), _in("run", "page")),
    Quantity("scope.all_data.error", "error of the other losses", "loss",
        "of few batches, corrected by what all data say around them",
        "2 √(mean of the squared errors at what the last round evaluated)", "",
        _SCOPE, NUMBER, lambda m: _of(m.of_all_data, lambda o: o.error), _in("page")),
    Quantity("scope.all_data.sure", "persistence pairs above this error", "",
        "their persistence is more than twice the error",
        "#{(birth, death): death − birth > 2 error}",
        "Cohen-Steiner, Edelsbrunner, Harer, Stability of persistence diagrams (2007)",
        _SCOPE, COUNT, lambda m: _of(m.of_all_data, lambda o: o.sure), _in("page")),
    Quantity("scope.all_data.sentence", "what all data were evaluated at, in words", "",
        "",
        "", "",
        _SCOPE, TEXT, lambda m: _of(m.of_all_data, lambda o: o.sentence())),
    Quantity("scope.metrics.values", "metrics of the task in the scope", "",
        "over the points below the level that were met; what they are above it is not told",
        "", "",
        _SCOPE, records.METRICS_OF_SCOPE, lambda m: _of(m.metrics, records.metrics_of_scope), _in("page")),
    Quantity("scope.metrics.basins", "metrics in the basins of the loss, below the level", "",
        f"the means over the part of each that lies below the level, of the {LEAVES} most persistent",
        "mean over v in basin(m), f(v) < L", "",
        _SCOPE, records.BASINS_OF_SCOPE, _metrics_of_its_basins, _in("page")),
    Quantity("sampling.points", "scattered points", "",
        "evaluated in the box, in place of a grid",
        "m", "",
        _SAMPLING, COUNT, lambda m: m.tree.n_vertices, _in("run", "page")),
    Quantity("sampling.range", "range of their losses", "loss",
        "lowest and highest finite loss",
        "[min f, max f]", "",
        _SAMPLING, BOUNDS, lambda m: m.tree.value_range, _in("run", "page")),
    Quantity("sampling.n_minima", "minima of their graph", "",
        "points that are lower than all others that they are joined to; how many there are in the box cannot be known",
        "mutual 4n-nearest-neighbour graph", "Geniesse et al., arXiv 2411.12136",
        _SAMPLING, COUNT, lambda m: m.tree.n_minima, _in("run", "page")),
    Quantity("sampling.n_minima_of_halves", "minima of halves of them", "",
        "of random halves of the points",
        "2.5 % and 97.5 % of as many as 40", "Politis and Romano (1994)",
        _SAMPLING, BOUNDS, lambda m: _scattered(m).minima_of_halves, _in("page")),
    Quantity("sampling.components", "pieces of their graph", "",
        "between which nothing is known",
        "", "",
        _SAMPLING, COUNT, lambda m: _scattered(m).components, _in("page")),
    Quantity("sampling.spacing", "distance of neighbours", "",
        "as a share of the box's side: narrower basins may be missed, or seen as several",
        "median distance of a point from its nearest neighbour", "",
        _SAMPLING, SHARE, lambda m: _scattered(m).spacing, _in("run", "page")),
    Quantity("sampling.largest_persistence", "largest persistence of their graph", "loss",
        "of basins that a deeper one takes in",
        "max (death − birth)", _ELDER,
        _SAMPLING, NUMBER, lambda m: m.persistence.max, _in("page")),
    Quantity("sampling.sentence", "the scattered points, in words", "",
        "and what cannot be known at their density",
        "", "",
        _SAMPLING, TEXT, lambda m: _scattered(m).sentence()),
    Quantity("sampling.metrics.values", "metrics of the task at the points", "",
        "over the scattered points",
        "", "",
        _SAMPLING, records.METRICS_OF_POINTS, lambda m: _of(m.metrics, records.metrics_of_points), _in("page"),
        "sampling_metrics"),
    Quantity("sampling.metrics.basins", "metrics in the basins of their graph", "",
        f"the means over each, of the {LEAVES} most persistent",
        "mean over v in basin(m)", "",
        _SAMPLING, records.BASINS_OF_POINTS, _metrics_of_its_basins, _in("page"), "sampling_basins"),
    Quantity("sampling.network.interior", "minima of the loss", "",
        "that points, random starts, valleys and saddles lead to; this and what follows: unless `minima: 0`",
        "#{ends: ∇f = 0, λ > 0}", _WALES,
        _SAMPLING, COUNT, lambda m: _of(m.network, lambda n: int((n.found.kinds == 0).sum())), _in("run", "page")),
    Quantity("sampling.network.others", "other ends", "",
        "at the edge of the box most of them",
        "", "",
        _SAMPLING, COUNT, lambda m: _of(m.network, lambda n: int((n.found.kinds != 0).sum())), _in("run", "page")),
    Quantity("sampling.network.passes", "passes between them", "",
        "no lower than the true ones: a lower way that nobody looked for may exist",
        "", _WALES,
        _SAMPLING, COUNT, lambda m: _of(m.network, lambda n: len(n.found.joins)), _in("run", "page")),
    Quantity("sampling.network.saddles", "passes with a confirmed saddle", "",
        "the gradient is zero and one eigenvalue is negative",
        "", _WALES,
        _SAMPLING, COUNT, lambda m: _of(m.network, lambda n: n.found.n_saddles), _in("page")),
    Quantity("sampling.network.persistence", "largest persistence of the network", "loss",
        "of its tree",
        "max (death − birth)", _ELDER,
        _SAMPLING, NUMBER, lambda m: _of(m.network, lambda n: persistence_statistics(n.found.tree).max),
        _in("run", "page")),
    Quantity("sampling.network.random_descents", "random descents of the network", "",
        "in batches, until one finds nothing new",
        "", "",
        _SAMPLING, COUNT, lambda m: _of(m.network, lambda n: n.descents), _in("page")),
    Quantity("sampling.network.ended_elsewhere", "of the last batch ended elsewhere", "",
        "where nothing had led before; they are met now",
        "k", "",
        _SAMPLING, COUNT, lambda m: _of(m.network, lambda n: n.missed), _in("page")),
    Quantity("sampling.network.unmet_at_most", "share of the box that leads elsewhere, at most", "",
        "to what had not been met before the last batch; with a probability of 0.95",
        "p with P(X ≤ k) = 0.05 / 4, X binomial (50, p)", "Clopper and Pearson (1934)",
        _SAMPLING, SHARE, lambda m: _of(m.network, lambda n: n.unmet), _in("run", "page")),
    Quantity("sampling.network.gradients", "gradients of the network", "",
        "spent on following minima and saddles, Hessian-vector products among them",
        "", "",
        _SAMPLING, COUNT, lambda m: _of(m.network, lambda n: n.found.gradients_spent + n.found.products_spent),
        _in("run", "page")),
    Quantity("sampling.network.sentence", "the network, in words", "",
        "",
        "", "",
        _SAMPLING, TEXT, lambda m: _of(m.network, lambda n: n.sentence())),
    Quantity("sampling.network.ends", "minima of the network, one by one", "",
        "and the other ends; the most persistent first",
        "", _WALES,
        _SAMPLING, records.ENDS, lambda m: _of(m.network, lambda n: records.ends(n.found, m.grid)), _in("page")),
    Quantity("sampling.network.joins", "passes of the network, one by one", "",
        "the lowest first",
        "", _WALES,
        _SAMPLING, records.JOINS, lambda m: _of(m.network, lambda n: records.joins(n.found)), _in("page")),
)
# fmt: on

_OF_THE_GRID = ("topology.basin_entropy", "topology.deepest_share", "basins.", "sharpness.")


def _error(row: Quantity) -> Quantity:
    """How far a number may be off for the grid's sake."""

    def of(m: Measured) -> float | None:
        fine, coarse = row.of(m), None if m.coarser is None else row.of(m.coarser)
        return None if fine is None or coarse is None else abs(fine - coarse)

    return Quantity(
        f"errors.{row.column}",
        f"{row.label}: its error by the grid",
        row.unit,
        "how far it is from the same of every second point along each axis; – where grids are not nested",
        "|a(k) − a((k + 1) / 2)|",
        "",
        _CURVE,
        row.kind,
        of,
    )


ERRORS = {row.key: _error(row) for row in _ROWS if row.key.startswith(_OF_THE_GRID)}
"""By the key of a number, that which tells its error."""
ROWS: tuple[Quantity, ...] = (*_ROWS, *ERRORS.values())
