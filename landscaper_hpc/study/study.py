"""What to study (`Study`, the science): typed, strict, read from YAML.

The study id is the SHA-256 of the canonical science: everything in `Study` that decides a number, with files
standing for their content and not for their place. Where and how a study runs is never part of it. (Longer than most
modules: what a study may say is one schema, and what rules out what is checked where all of it is known.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from landscaper_hpc.digests import canonical_sha256, combined_sha256, content_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import name_on_disk
from landscaper_hpc.grid import Axis, Grid, nested_steps
from landscaper_hpc.registry import CONNECTIVITIES
from landscaper_hpc.study.choices import CHECKPOINT_FORMATS, DIRECTION_KINDS, NORMALIZATIONS, checkpoint_format
from landscaper_hpc.study.presets import expanded
from landscaper_hpc.study.sampling import Sampling
from landscaper_hpc.study.schema import FileName, Strict, read_yaml, validated
from landscaper_hpc.study.scope import Scope
from landscaper_hpc.study.sources import code_sha256

Precision = Literal["float64", "float32", "tf32", "bf16"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.=+-]*$", max_length=100)]

_QUESTIONS = ("confirm", "error_bars", "trajectory", "power_law", "scope", "sampling")
"""Keys that ask for what stands beside merge trees, or in their place."""
_MOST_CONFIRMED = 8  # a box has 3ⁿ faces
_MOST_POINTS = 10**15  # eight petabytes of losses; flat ids would reach a little further


class Checkpoint(Strict):
    """One trained model. `options` are keyword arguments of the task's (and the trainer's) function."""

    name: Name
    file: FileName
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    rename: dict[str, str] = Field({}, description="more of the study's `rename`, for this checkpoint")
    ignore: list[str] = Field([], description="more of the study's `ignore`, for this checkpoint")


class Mixture(Strict):
    """How many of the largest eigenvalues, and how many of the most negative."""

    largest: int = Field(ge=0)
    negative: int = Field(ge=0)


class DirectionsConfig(Strict):
    """The n directions of the landscape."""

    kind: Annotated[str, AfterValidator(DIRECTION_KINDS.valid)] = "hessian"
    n: int = Field(2, ge=1, le=16)
    which: Literal["magnitude", "negative"] | Mixture = Field(
        "magnitude", description="of the Hessian's eigenvalues: largest |λ|, most negative, or some of both ends"
    )
    solver: Literal["lanczos", "pyhessian"] = Field(
        "lanczos",
        description="pyhessian: that package's power iteration, for published landscapes; tolerance and max_iterations "
        "are then its tol and, for each vector, its maxIter",
    )
    normalization: Annotated[str, AfterValidator(NORMALIZATIONS.valid)] = "model"
    seed: int = Field(0, ge=0, lt=2**63)
    tolerance: float = Field(1e-3, gt=0, lt=1, description="largest residual |Hv - λv| / |λ| of an eigenpair")
    max_iterations: int = Field(200, ge=2, description="most Hessian-vector products")
    basis: int | None = Field(
        None,
        ge=2,
        description="vectors as large as the parameters that Lanczos holds at once: fewer take less memory and more "
        "products; default 60 or 4 n, above 16.7 million parameters 2 n + 6",
    )
    basis_precision: Literal["float32", "bf16"] | None = Field(
        None,
        description="what Lanczos holds its vectors in, where that is not the study's precision: bf16 takes half of "
        "float32's memory and leaves residuals of some thousandths of the largest eigenvalue; they are measured by n "
        "more products",
    )
    file: FileName | None = None
    trajectory: list[FileName] = Field([], description="checkpoints of a training run, for their principal components")
    through: list[FileName] = Field(
        [], description="n other checkpoints: two for the plane through them and the study's own; with kind: plane"
    )

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Studies without a plane or a basis are what they were before there were any."""
        found: dict[str, Any] = write(self)
        return {
            key: value for key, value in found.items() if key not in ("through", "basis", "basis_precision") or value
        }

    @model_validator(mode="after")
    def _consistent(self) -> DirectionsConfig:
        if (self.kind == "plane") != bool(self.through):
            raise ValueError("give 'through', a list of other checkpoint files, with kind: plane, and only then")
        if self.through and len(self.through) != self.n:
            raise ValueError(
                f"through {len(self.through)} other checkpoints and the study's own there are {len(self.through)} "
                f"directions; found n: {self.n}"
            )
        if (self.kind == "trajectory") != bool(self.trajectory):
            raise ValueError("give 'trajectory', a list of checkpoint files, with kind: trajectory, and only then")
        if self.kind == "gradient" and self.n != 1:
            raise ValueError(f"there is one gradient: kind: gradient needs n: 1; found {self.n}")
        if (self.kind == "file") != (self.file is not None):
            raise ValueError("give 'file' with kind: file, and only then")
        for key in ("basis", "basis_precision"):
            if getattr(self, key) is not None and (self.kind != "hessian" or self.solver != "lanczos"):
                raise ValueError(f"{key} is that of Lanczos; use it with kind: hessian and solver: lanczos")
        if self.basis is not None and self.basis < self.n + 2:
            raise ValueError(f"basis must be n + 2 or more, {self.n + 2}; found {self.basis}")
        if self.solver == "pyhessian" and (self.kind != "hessian" or self.which != "magnitude"):
            raise ValueError("solver: pyhessian finds the largest |λ|; use it with kind: hessian and which: magnitude")
        if self.which != "magnitude" and self.kind != "hessian":
            raise ValueError(f"which is of the Hessian's eigenvalues; leave it out with kind: {self.kind}")
        if isinstance(self.which, Mixture) and self.which.largest + self.which.negative != self.n:
            raise ValueError(f"which.largest + which.negative must be n, which is {self.n}")
        return self


class Rise(Strict):
    """A range that is found along the axis: from -r to r, where the loss lies `rise` above the checkpoint's at both."""

    rise: float = Field(gt=0, allow_inf_nan=False)

    def decides(self) -> list[Any]:
        return ["rise", self.rise]


class Quantile(Strict):
    """A range that is found along the axis: from -r to r, where the loss at both reaches the `quantile` of the losses
    of random points `within` so much of the checkpoint along every direction."""

    quantile: float = Field(gt=0, lt=1)
    within: float = Field(gt=0, allow_inf_nan=False)

    def decides(self) -> list[Any]:
        return ["quantile", self.quantile, self.within]


Found = Rise | Quantile


def _above_zero(value: object) -> bool:
    return isinstance(value, float | int) and 0 < value < math.inf


def _bounds(value: float | list[float]) -> tuple[float, float]:
    return (-value, value) if isinstance(value, float | int) else (value[0], value[1])


_BEFORE_IT_IS_FOUND = 0.05


class AxisConfig(Strict):
    """One axis: `range` is r (from -r to r), [lower, upper], {rise: height of the loss at both ends} or {quantile: of
    the losses of random points, within: a range}; an odd `count` puts the checkpoint on the grid."""

    range: float | list[float] | Rise | Quantile = 0.05
    count: int = Field(41, ge=3, le=10**8)

    @field_validator("count")
    @classmethod
    def _odd(cls, count: int) -> int:
        if count % 2 == 0:
            raise ValueError(f"an even count leaves the checkpoint between two points; use {count - 1} or {count + 1}")
        return count

    @field_validator("range", mode="before")
    @classmethod
    def _found_along_the_axis(cls, value: object) -> object:
        if isinstance(value, dict) and not (
            (value.keys() == {"rise"} and _above_zero(value["rise"]))
            or (
                value.keys() == {"quantile", "within"}
                and all(map(_above_zero, value.values()))
                and value["quantile"] < 1
            )
        ):
            raise ValueError(
                "a range that is found along the axis is {rise: height of the loss at its ends, above 0} or {quantile: "
                "between 0 and 1, of the losses of random points, within: so much of the checkpoint}"
            )
        return value

    @field_validator("range")
    @classmethod
    def _not_empty(cls, value: float | list[float] | Found) -> float | list[float] | Found:
        if isinstance(value, Found):
            return value
        if isinstance(value, list) and len(value) != 2:
            raise ValueError("a list must be [lower, upper]")
        lower, upper = _bounds(value)
        if not math.isfinite(upper - lower):
            raise ValueError("the range is wider than numbers go")
        if not lower < upper:
            raise ValueError("the range is empty; give r > 0, or [lower, upper] with lower < upper")
        return value

    @model_validator(mode="after")
    def _of_different_points(self) -> AxisConfig:
        lower, upper = (-1.0, 1.0) if isinstance(self.range, Found) else _bounds(self.range)
        if (upper - lower) / (self.count - 1) <= 2 * math.ulp(max(abs(lower), abs(upper))):
            raise ValueError(f"range: its ends are too close together for {self.count} different points")
        return self

    @property
    def found(self) -> Found | None:
        """What its range is found by along it, where it is."""
        return self.range if isinstance(self.range, Found) else None

    def axis(self, reach: float | None = None) -> Axis:
        """The axis; where its range is found along it, from -`reach` to `reach`, or a guess before that is known."""
        found = (reach or _BEFORE_IT_IS_FOUND) if isinstance(self.range, Found) else self.range
        return Axis(*_bounds(found), self.count)


AXIS_KEYS = ("range", "count")


class GridConfig(AxisConfig):
    """The same `range` and `count` for every axis, or a list of `axes` with their own."""

    axes: list[AxisConfig] | None = None
    scale: Literal["uniform", "curvature"] = Field(
        "uniform", description="curvature: axis i is longer by sqrt(|λ_1| / |λ_i|), so that every axis sees a like rise"
    )
    refine: int | None = Field(
        None,
        ge=2,
        le=10,
        description="how many nested grids there must be, this one the finest: 3 of count 41 are 11, 21, 41",
    )

    @model_validator(mode="before")
    @classmethod
    def _said_once(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("axes") is not None:
            for key in AXIS_KEYS:
                if key in data:
                    raise ValueError(
                        f"{key} is for grids whose axes are alike, and axes has its own; leave one of the two out, or "
                        f"set axes.0.{key}"
                    )
        return data


class HessianConfig(Strict):
    """What else is asked of the Hessian at the checkpoint; each costs that many Hessian-vector products."""

    trace_products: int = Field(
        0, ge=0, le=10**6, description="for the trace, by XTrace; 0: no trace, 4 or more otherwise"
    )
    density_probes: int = Field(0, ge=0, le=10**6, description="random vectors for the spectral density; 0: no density")
    density_steps: int = Field(40, ge=2, le=10**6, description="Lanczos steps for each of them")

    @field_validator("trace_products")
    @classmethod
    def _enough(cls, products: int) -> int:
        if 0 < products < 4:
            raise ValueError("a trace needs at least 4 products")
        return products

    @model_validator(mode="after")
    def _of_something(self) -> HessianConfig:
        if self.density_steps != 40 and not self.density_probes:
            raise ValueError("density_steps is for density_probes, which is 0; give their number, or leave both out")
        return self


class ConfirmConfig(Strict):
    """Which minima of the grid are followed in the continuous subspace."""

    minima: int = Field(100, ge=1, description="how many of the most persistent, at most")


class ErrorBarsConfig(Strict):
    """Which persistence pairs are looked at once more, by groups of the data."""

    pairs: int = Field(100, ge=1, description="how many of the most persistent, at most")


class DataConfig(Strict):
    """How much of the data the landscape is of."""

    batches: int = Field(ge=2, description="how many batches of the data, drawn once, the same at all points")
    then: Literal["all"] | None = Field(
        None,
        description="with scope: all of the data at the points whose losses decide, so that the lowest part is theirs",
    )

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Landscapes are what they were before there was `then`."""
        return {key: value for key, value in write(self).items() if value is not None}


def _asked(value: Any) -> Any:
    """`true` stands for the defaults."""
    return {} if value is True else None if value is False else value


class Study(Strict):
    """The science: task, checkpoints, directions, grid, connectivity, precision and batch shape."""

    preset: str | None = Field(
        None, exclude=True, description="landscaper: keys as Landscaper 1.3.1 has them; keys beside it win"
    )
    name: Name
    task: FileName
    train: FileName | None = Field(None, description="a file whose train(path, progress, **options) makes a checkpoint")
    checkpoints: list[Checkpoint] = Field(min_length=1)
    directions: DirectionsConfig = DirectionsConfig()
    grid: GridConfig = GridConfig()
    connectivity: Annotated[str, AfterValidator(CONNECTIVITIES.valid)] = "axis"
    precision: Precision = "float64"
    batch: Annotated[int, Field(ge=1, le=10**6)] | Literal["auto"] = "auto"
    frozen: bool = Field(False, description="also move parameters with requires_grad=False")
    only: list[str] = Field([], description="move only these parameters: names, or patterns such as 'layers.3.*'")
    hessian: HessianConfig = HessianConfig()
    confirm: Annotated[ConfirmConfig | None, BeforeValidator(_asked)] = Field(
        None,
        description="follow minima and saddles of the grid to those of the loss, by gradients: true, or how many; "
        "may be added to a finished study",
    )
    error_bars: Annotated[ErrorBarsConfig | None, BeforeValidator(_asked)] = Field(
        None,
        description="how sure pairs, SMAD and mean climb are, from losses of groups of the data at minima and saddles: "
        "true, or how many pairs; may be added to a finished study",
    )
    data: DataConfig | None = Field(
        None,
        description="the loss is the mean over a few batches of the data, and error_bars, which goes with it, looks at "
        "minima and saddles once more on all of them; with scope {batches: 2, then: all}",
    )
    trajectory: list[FileName] = Field(
        [],
        description="checkpoints that slices show where they lie, such as those of a training run; by default those "
        "that the directions are of; may be added to a finished study",
    )
    power_law: bool = Field(
        False,
        description="power-law exponents of the spectra of each checkpoint's weights, by weightwatcher (the extra "
        "power-law); may be added to a finished study",
    )
    scope: Scope | None = Field(
        None,
        description="evaluate only the lowest part of the landscape, from a few percent of the grid: {share: 0.01}, "
        "{points: 200000} or {below: 0.5}; may be raised later, and goes on from what is there",
    )
    sampling: Annotated[Sampling | None, BeforeValidator(_asked)] = Field(
        None,
        description="no grid: scattered points of the box that grid.range spans, up to 16 directions, and minima and "
        "saddles followed from there: true, or {kind: sobol, points: 1024, minima: 100}",
    )
    rename: dict[str, str] = Field(
        {},
        description="tensors of checkpoints, to their names in the model: whole, beginnings such as 'net.', or with *",
    )
    ignore: list[str] = Field(
        [], description="tensors left alone, by pattern: of checkpoints, and of the model where they lack them"
    )

    _folder: Path = Path()

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = expanded(data)
        directions = data.get("directions")
        whole = data.get("scope") is None and data.get("sampling") in (None, False)
        if isinstance(directions, dict) and whole and "trajectory" not in data:
            data = data | {"trajectory": directions.get("through") or directions.get("trajectory") or []}
        if data.get("data") is None or not whole:
            return data
        if data.get("error_bars") is False:
            raise ValueError("data: what few batches change is told by error_bars; leave error_bars: false out")
        return {"error_bars": True} | {key: value for key, value in data.items() if value is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [c.name for c in self.checkpoints]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"checkpoints: the name {twice[0]!r} is used more than once")
        if "zarr.json" in names:  # beside which a landscape of that name would lie
            raise ValueError("checkpoints: zarr.json is the name of a store's own file; choose another")
        if self.grid.axes is not None and len(self.grid.axes) != self.directions.n:
            raise ValueError(f"grid.axes has {len(self.grid.axes)} entries but directions.n is {self.directions.n}")
        if self.grid.scale == "curvature" and self.directions.kind != "hessian":
            raise ValueError("grid.scale: curvature needs eigenvalues; use it with directions.kind: hessian")
        if self.grid.scale == "curvature" and any(found is not None for found in self.found()):
            raise ValueError(
                "grid.scale: curvature scales ranges that are given; leave it out where they are found along the axes"
            )
        if self.confirm is not None and self.directions.n > _MOST_CONFIRMED:
            raise ValueError(
                f"confirm: minima are followed in up to {_MOST_CONFIRMED} directions; found directions.n: "
                f"{self.directions.n}; leave it out"
            )
        shape = tuple(a.count for a in self._axes())
        if self.grid.refine is not None and len(found := nested_steps(shape)) < self.grid.refine:
            unit = 2**self.grid.refine
            fit = {max(2, near) * unit + 1 for k in shape for near in ((k - 1) // unit, -(-(k - 1) // unit))}
            raise ValueError(
                f"grid.refine: {'×'.join(map(str, shape))} points hold {len(found)} nested grids of odd counts of 5 or "
                f"more, not {self.grid.refine}; use counts such as {' or '.join(map(str, sorted(fit)))}"
            )
        points = math.prod(shape)
        if points > _MOST_POINTS:
            raise ValueError(
                f"grid: {points:.3g} points are more than a landscape can have ({_MOST_POINTS:.0e}); "
                "give a smaller count, or fewer directions"
            )
        return self

    @model_validator(mode="after")
    def _whole_or_part(self) -> Study:
        then = None if self.data is None else self.data.then
        whole = {
            "grid.refine": self.grid.refine,
            "error_bars": self.error_bars,
            "trajectory": self.trajectory or None,
            "power_law": self.power_law or None,
        }
        given = [key for key, value in whole.items() if value is not None]
        if self.sampling is not None:
            others = {"confirm": self.confirm, "scope": self.scope, "data": self.data}
            given += [key for key, value in others.items() if value is not None]
            given += ["connectivity"] if self.connectivity != "axis" else []
            if given:
                raise ValueError(
                    f"sampling: {given[0]} needs the grid, in place of which there are scattered points; leave one of "
                    "the two out"
                )
            return self
        if self.scope is None:
            if then is not None:
                raise ValueError("data.then goes with scope; without it all data are evaluated at minima and saddles")
            return self
        if self.data is not None and then is None:
            raise ValueError("data: with scope give {batches: …, then: all}; or leave one of the two out")
        if self.data is not None and (self.scope.points, self.scope.climb) != (None, None):
            raise ValueError("scope: with data give share or below, and leave points and climb out")
        if self.data is not None and self.confirm is not None:
            raise ValueError(
                "confirm: gradients are those of the few batches, and the scope is of all data; leave one of confirm "
                "and data out"
            )
        if given:
            raise ValueError(
                f"scope: {given[0]} needs the whole grid, of which scope evaluates the lowest part; leave one of the "
                "two out"
            )
        self.scope.refuse_few(tuple(a.count for a in self._axes()))
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Results of studies that do not ask for these are what they were before there were such."""
        found: dict[str, Any] = write(self)
        left_out = {"scope", "sampling", "trajectory", "power_law"}
        return {key: value for key, value in found.items() if key not in left_out or value}

    def _axes(self) -> Sequence[AxisConfig]:
        return self.grid.axes or [self.grid] * self.directions.n

    def path(self, file: str) -> Path:
        """A file of the study; relative names start at the folder of the study's YAML."""
        return (self._folder / name_on_disk(file)).resolve()

    def check_files(self) -> None:
        """`InputError` for a file that cannot be read; checkpoints may be missing where `train` is given."""
        run = {f"trajectory.{i}": file for i, file in enumerate(self.trajectory)}
        files = {"task": self.task, "train": self.train, **self._direction_files(), **run}
        checkpoints = {f"checkpoints.{c.name}.file": c.file for c in self.checkpoints}
        for key, file in (files | checkpoints).items():
            can_be_made = key in checkpoints and self.train is not None
            if file is not None and not (can_be_made and not self.path(file).exists()):
                _sha256_for(self.path(file), key)

    def files(self) -> list[Path]:
        """Every file that the study names."""
        names = [
            self.task,
            self.train,
            *self._direction_files().values(),
            *self.trajectory,
            *(c.file for c in self.checkpoints),
        ]
        return [self.path(name) for name in names if name is not None]

    def _direction_files(self) -> dict[str, str]:
        files = {f"directions.trajectory.{i}": f for i, f in enumerate(self.directions.trajectory)}
        files |= {f"directions.through.{i}": f for i, f in enumerate(self.directions.through)}
        return files if self.directions.file is None else {"directions.file": self.directions.file}

    def naming(self, checkpoint: Checkpoint | None = None) -> dict[str, Any]:
        """`rename` and `ignore` for a checkpoint, as far as they are given."""
        rename = self.rename | (checkpoint.rename if checkpoint else {})
        ignore = [*self.ignore, *(checkpoint.ignore if checkpoint else [])]
        return ({"rename": rename} if rename else {}) | ({"ignore": ignore} if ignore else {})

    def found(self) -> list[Found | None]:
        """For each axis what its range is found by along it, where it is."""
        return [a.found for a in self._axes()]

    def make_grid(
        self, eigenvalues: NDArray[np.float64] | None = None, reaches: Sequence[float | None] | None = None
    ) -> Grid:
        """The grid of points.

        Parameters
        ----------
        eigenvalues
            (n,) of the directions; with `scale: curvature`, ranges are proportional to |λ_i|^(-1/2).
        reaches
            (n,) for ranges that are found along the axes: what was found, as alphas.

        Returns
        -------
        Grid
        """
        configs = self._axes()
        axes = [self._axis(a, r) for a, r in zip(configs, reaches or [None] * len(configs), strict=True)]
        if self.grid.scale == "curvature" and eigenvalues is not None:
            stretch = np.sqrt(np.abs(eigenvalues[0] / eigenvalues)).tolist()
            axes = [replace(a, lower=a.lower * s, upper=a.upper * s) for a, s in zip(axes, stretch, strict=True)]
        return Grid(tuple(axes))

    def _axis(self, config: AxisConfig, reach: float | None) -> Axis:
        axis = config.axis(reach)
        if self.directions.normalization != "landscaper":
            return axis
        if axis.lower != -axis.upper:
            raise InputError("grid.range: with directions.normalization: landscaper it is one number, the distance")
        return Axis.of_landscaper(axis.upper, axis.count)

    def science(self, checkpoint: Checkpoint, sha256: str | None = None) -> dict[str, Any]:
        """Everything that decides a number of a checkpoint's landscape.

        Files are the SHA-256 of their bytes, the task's with those of the local modules that it imports. Of its data
        `data_sha256` in the store tells.

        Parameters
        ----------
        checkpoint
            One of the study's.
        sha256
            The checkpoint's where it is known already.

        Returns
        -------
        dict
            Plain values by key.

        Raises
        ------
        InputError
            For a file that cannot be read.
        """
        config = self.model_dump(
            mode="json", include={"connectivity", "precision", "batch", "frozen", "only", "hessian"}
        )
        usual = {"solver"} if self.directions.solver == "lanczos" else set()
        directions = self.directions.model_dump(mode="json", exclude={"file", "trajectory", "through", *usual})
        directions["sha256"] = [_sha256_for(self.path(f), key) for key, f in self._direction_files().items()]
        return config | {
            "task_sha256": self.task_sha256(),
            "checkpoint_sha256": sha256 or _sha256_for(*self._place_of(checkpoint)),
            "options": checkpoint.options,
            "directions": directions,
            "grid": [
                [a.lower, a.upper, a.count] if by is None else [*by.decides(), a.count]
                for a, by in zip(self.make_grid().axes, self.found(), strict=True)
            ],
            "scale": self.grid.scale,
            **({} if self.data is None else {"data": {"batches": self.data.batches}}),
            **self.naming(checkpoint),
        }

    def files_of(self, checkpoint: Checkpoint) -> list[Path]:
        """The files that one of its checkpoints is read from; `InputError` or `OSError` where that is none."""
        return _files_for(*self._place_of(checkpoint))

    def _place_of(self, checkpoint: Checkpoint) -> tuple[Path, str]:
        return self.path(checkpoint.file), f"checkpoints.{checkpoint.name}.file"

    def task_sha256(self) -> str:
        """SHA-256 of the task file with the local modules that it imports."""
        _sha256_for(self.path(self.task), "task")
        return code_sha256(self.path(self.task), [self.path(".")])

    def asked(self) -> dict[str, dict[str, Any]]:
        """What is asked for beside merge trees, or in place of them, by the name that it has in the store; it is no
        part of the study id."""
        return self.asked_in(self.model_dump(mode="json", include=set(_QUESTIONS)))

    @staticmethod
    def asked_in(configuration: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The same of a study's configuration as results hold it."""
        questions = {"confirmed": configuration["confirm"], "error_bars": configuration["error_bars"]}
        if configuration["confirm"] is not None and configuration.get("scope") is not None:
            questions["confirmed"] = configuration["confirm"] | {"scope": _given(configuration["scope"])}
        if files := configuration.get("trajectory"):
            questions["trajectory"] = {"files": files}
        if configuration.get("power_law"):
            questions["power_law"] = {"by": "weightwatcher"}
        for name in ("scope", "sampling"):
            if (part := configuration.get(name)) is not None:
                questions[name] = _given(part)
        return {name: asked for name, asked in questions.items() if asked is not None}

    @property
    def whole(self) -> bool:
        """Whether the whole grid is evaluated."""
        return self.scope is None and self.sampling is None

    def study_id(self) -> str:
        """SHA-256 of the canonical science of all checkpoints, by name.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        return canonical_sha256({c.name: self.science(c) for c in self.checkpoints})

    @classmethod
    def load(cls, file: Path | str, overrides: Sequence[str] = ()) -> Study:
        """Read a study from YAML.

        Parameters
        ----------
        file
            The study's file; names of files in it start at its folder.
        overrides
            `key.path=value`, with values in YAML, such as `grid.count=11`.

        Returns
        -------
        Study

        Raises
        ------
        InputError
            Names the key, what was found and what is valid.
        """
        file = Path(file)
        return cls.of(read_yaml(file), file, overrides)

    @classmethod
    def of(cls, data: dict[str, Any], file: Path, overrides: Sequence[str] = (), folder: Path | None = None) -> Study:
        """A study of what was read from `file`, which stays as it is; names of files in it start at `folder`, by
        default the file's."""
        if "grid.axes" in {each.partition("=")[0] for each in overrides} and isinstance(data.get("grid"), dict):
            # what is said last is in place of what the file says of all axes
            data = data | {"grid": {key: value for key, value in data["grid"].items() if key not in AXIS_KEYS}}
        study = validated(cls, data, str(file), overrides)
        study._folder = file.resolve().parent if folder is None else folder
        return study


def _given(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if value is not None}


def _files_for(path: Path, key: str) -> list[Path]:
    """All that is read of a file or folder."""
    path.stat()
    form = checkpoint_format(path)
    if form is None and path.is_dir():
        raise InputError(
            f"{key}: the folder {path} holds no checkpoint of a known format "
            f"({', '.join(CHECKPOINT_FORMATS.names())}); name the file or the folder of one checkpoint"
        )
    files = [path] if form is None else list(form.files(path))
    for file in files:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise InputError(f"{key}: {file} is neither a file nor a folder of a checkpoint; correct the key")
    return files


def _sha256_for(path: Path, key: str) -> str:
    """The digest of all that is read of a file, with an `InputError` that names the key."""
    try:
        files = _files_for(path, key)
        return content_sha256(path) if files == [path] else combined_sha256(files)
    except OSError as error:
        raise InputError(
            f"{key}: cannot read {error.filename or path} ({error.strerror}); correct the key or put the file there"
        ) from None
