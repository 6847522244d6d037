"""The store: one Zarr v3 group per checkpoint, readable with `xarray.open_zarr(path, group=name)`.

    <study>/study.zarr/<name>/loss                    float64, one chunk per shard
                              alpha_0 … alpha_{n-1}   coordinates of the axes
                              done/sha256             one SHA-256 per shard, written after the shard's data
                              directions/<parameter>  shape (n, *parameter shape)
                              hessian/eigenvalues, residuals, and trace and density where asked for
                              topology/<connectivity>.<direction>/…    a merge tree, its numbers, its drawing
                              confirmed/… error_bars/…    what else a study asks for (`layout.ANSWERS`)
                              accepted/<hash>         versions and devices that were accepted beside the first ones

The promise: tasks run at least once, are deterministic and idempotent, and take effect exactly once. One shard is one
chunk with one writer, written whole and published atomically. A chunk that is missing is an error when it is read.
Everything else that decides a number is written by the client before any shard, and sealed: the group's attributes and
the metadata of what is in it, which hold the arrays' own hashes, are under one SHA-256 that is checked on opening.
`docs/store_format.md` describes the format. (Longer than most modules: all of it is the one object that owns a group.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import notebook
from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import folder_aside, remove_partials
from landscaper_hpc.grid import Axis, Grid, Shard
from landscaper_hpc.store import answers, environment, layout, trees, zarr_files
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.layout import StoredDirections
from landscaper_hpc.store.shards import ShardedLosses
from landscaper_hpc.store.zarr_files import Damaged

if TYPE_CHECKING:
    import xarray as xr

    from landscaper_hpc.topology import MergeTree


class LandscapeStore(ShardedLosses):
    """One landscape: the losses of one checkpoint on its grid, and what was made from them."""

    def __init__(self, path: Path, name: str) -> None:
        """Open an existing landscape; `InputError` where there is none, or where its metadata were altered."""
        self.path = path
        self.name = name
        self.folder = path / name
        try:
            # two small files, and no zarr: campaigns open thousands of landscapes
            document = zarr_files.read_document(self.folder)
            flat = document["attributes"]
            layout.refuse_format(self.folder, flat.get("format", 1 if "study_id" in flat else None))
            nodes = zarr_files.consolidated(document) or {}
            attributes = zarr_files.nested_attributes(flat)
            metrics: list[str] = attributes.get(layout.METRICS, [])
            self._sealed = {key: node for key, node in nodes.items() if layout.decides(key, metrics)}
            whole = flat["sha256"] == layout.seal(flat, self._sealed)
            whole = whole and zarr_files.read_document(self.folder / layout.LOSS) == self._sealed[layout.LOSS]
        except FileNotFoundError:
            if self.folder.is_dir() and (self.folder / zarr_files.NODE).exists():
                raise self._altered() from None
            raise InputError(f"{self.folder}: there is no landscape; `landscaper-hpc run` makes it") from None
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.folder}: the metadata cannot be read ({error}); restore or remove this folder"
            ) from None
        if not whole:
            raise self._altered()
        self.attributes: dict[str, Any] = attributes
        self.study_id: str = self.attributes["study_id"]
        grid = Grid(tuple(Axis(*axis) for axis in self.attributes["grid"]))
        shape = self._sealed[layout.LOSS]["chunk_grid"]["configuration"]["chunk_shape"]
        super().__init__(self.folder, grid, shape)
        self.metrics = {name: ShardedLosses(self.folder, grid, shape, name) for name in metrics}

    def _altered(self) -> InputError:
        return InputError(
            f"{self.folder}: the metadata were altered after they were written; restore its {zarr_files.NODE} files, "
            "or remove this folder and run the study again"
        )

    # ---- create -------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        name: str,
        science: Mapping[str, Any],
        grid: Grid,
        shard_shape: Sequence[int],
        directions: StoredDirections,
        attributes: Mapping[str, Any],
    ) -> LandscapeStore:
        """Make a landscape without losses. It appears whole, directions included, or not at all.

        `science` is `Study.science(checkpoint)`; `attributes` are recorded beside it and must be free of dates.
        """
        layout.make_root(path)
        with folder_aside(path / name) as aside:
            own = {
                "title": f"loss landscape of {name}",
                "study_id": canonical_sha256(science),
                "science": science,
                "grid": list(map(astuple, grid.axes)),
                **attributes,
            }
            units = layout.UNITS.get(science.get("directions", {}).get("normalization", "unit"), "1")
            layout.build(aside, grid, shard_shape, directions, own, units)
        made = cls(path, name)
        made.refuse_other(science)  # where another client was quicker
        return made

    def refuse_other(self, science: Mapping[str, Any]) -> None:
        """`InputError` unless this landscape is of exactly this science; names the keys that differ."""
        layout.root_attributes(self.path)
        if self.study_id == canonical_sha256(science):
            return
        held = self.attributes["science"]
        differing = sorted(k for k in {*held, *science} if held.get(k) != science.get(k))
        raise InputError(
            f"{self.folder}: holds a landscape of another study ({', '.join(differing)} differ); "
            "choose another folder with --out, or remove this one"
        )

    # ---- checks -------------------------------------------------------------------------------------------------

    def write_outputs(self, shard: Shard, values: NDArray[np.float64]) -> None:
        """Publish a whole shard of losses (size,), or of losses and metrics (size, outputs): the losses last, and with
        them the shard is there."""
        columns = values.reshape(shard.size, -1).T
        for array, column in zip((*self.metrics.values(), self), (*columns[1:], columns[0]), strict=True):
            ShardedLosses.write(array, shard, column)

    def variable_named(self, name: str) -> ShardedLosses:
        """The losses by their name, or a metric of the task; `InputError` where there is none of this name."""
        if name == layout.LOSS:
            return self
        if name not in self.metrics:
            raise InputError(
                f"{self.folder}: there is no metric {name!r}; there are {', '.join(self.metrics) or 'none'}"
            )
        return self.metrics[name]

    @property
    def outputs(self) -> int:
        """How many numbers there are of each point: the loss, and the task's metrics."""
        return 1 + len(self.metrics)

    def metric(self, name: str) -> NDArray[np.float64]:
        """All values of a metric of the task.

        Returns
        -------
        Float64, in the shape of the grid, in the metric's own unit.

        Raises
        ------
        InputError
            Where there is no such metric, where only a part of the landscape is evaluated (`lowest_metrics`), and where
            a shard of it is not as it was written.
        """
        found = self.variable_named(name)
        self.refuse_lowest()
        return found.loss()

    def verify(self) -> list[Shard]:
        """Hash every done shard; those that are missing, torn or altered become pending again.

        Only the client calls this, while no shard is being written.

        Returns
        -------
        Those shards.

        Raises
        ------
        InputError
            Where the coordinates, the directions, the spectrum or an array's metadata are damaged.
        """
        for key in self._sealed:
            if not key.startswith("alpha_") and not zarr_files.is_same(self.folder / key, self._sealed[key]):
                raise self._altered()
            if key.startswith(("alpha_", f"{layout.DIRECTIONS}/", f"{layout.HESSIAN}/")):
                self._load(key)
        damaged = self.drop_damaged()
        for array in self.metrics.values():
            array.drop_damaged()
            lost = [shard for shard in array.pending() if self.is_done(shard)]
            for shard in lost:
                self.undo(shard)
            damaged += lost
        return damaged

    def tidy(self) -> None:
        """Remove what killed writers left aside. Only the client calls this, when nothing is pending."""
        topology = self.folder / layout.TOPOLOGY
        arrays = (self, *self.metrics.values())
        written = [
            place for array in arrays for place in (array.losses, self.folder.joinpath(*layout.done(array.variable)))
        ]
        for folder in (self.path, self.folder, *written, topology):
            remove_partials(folder)

    # ---- directions and topology ----------------------------------------------------------------------------------

    def directions(self) -> StoredDirections:
        """What `create` was given.

        Returns
        -------
        StoredDirections
            `vectors` by parameter name, (n, *parameter shape), `gram` (n, n), and `hessian`: arrays by name, such as
            eigenvalues (n,).

        Raises
        ------
        InputError
            Where it is damaged.
        """
        hessian = {}
        for key in self._sealed:
            group, _, array = key.partition("/")
            if array and group == layout.HESSIAN:
                hessian[array] = self._load(key)
        return StoredDirections(dict(self.direction_vectors()), self.gram(), hessian)

    def direction_vectors(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """The `vectors` of `directions` one after the other, with the parameter's name: all may not fit beside a copy.

        `InputError` where one is damaged.
        """
        for key, document in self._sealed.items():
            group, _, array = key.partition("/")
            if array and group == layout.DIRECTIONS:
                yield document["attributes"]["parameter"], self._load(key)

    def gram(self) -> NDArray[np.float64]:
        """Inner products of the directions, (n, n)."""
        found = zarr_files.nested_attributes(self._sealed[layout.DIRECTIONS]["attributes"])["gram"]
        return np.array(found, dtype=np.float64)

    def write_tree(
        self,
        tree: MergeTree,
        numbers: Mapping[str, Any] | None = None,
        drawing: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Store a merge tree of these losses, without labels, under its connectivity and direction; with it, all at
        once, the `numbers` that were made of it (plain values by key) and the arrays of its `drawing`.

        `InputError` for a tree of other losses, and for one that differs from the sound one that is there: what a tree
        is follows from the losses. One that is damaged, or of losses that were here before, is replaced.
        """
        losses = self.losses_sha256()
        if tuple(tree.shape) != self.grid.shape or not np.array_equal(self.at(tree.minima), tree.values):
            raise InputError(f"{self.folder}: the merge tree was made from other losses; it cannot be stored here")
        folder = self._tree_folder(tree.connectivity, tree.direction)
        there = self._sound(tree.connectivity, tree.direction)
        if there is not None and not trees.same(there.tree, tree):
            raise InputError(
                f"{folder}: holds the merge tree of these losses, and another one was to take its place; keep trees of "
                "your own (simplified ones, say) outside of the study"
            )
        if there is None or (numbers is not None and not trees.same_numbers(there.numbers, numbers)):
            trees.make_group(folder.parent)
            if folder.exists():
                self.consolidate(leave_out=folder.name)  # readers go by what is listed
            with folder_aside(folder, replace=True) as aside:
                trees.build(aside, tree, losses, numbers or {}, drawing or {})
        self.consolidate()

    @property
    def connectivity(self) -> str:
        """The study's connectivity."""
        return str(self.attributes["science"]["connectivity"])

    @property
    def precision(self) -> str:
        """What its losses were computed in: the study's precision, or the coarser one that its loss rounds to."""
        return str(self.attributes.get("narrowed") or self.attributes["science"]["precision"])

    def has_tree(self, connectivity: str | None = None, direction: str = "sublevel") -> bool:
        """Whether there is a tree, of the study's connectivity where none is given. Looks, and does not read."""
        return (self._tree_folder(connectivity, direction) / zarr_files.NODE).exists()

    def has_sound_tree(self, connectivity: str | None = None, direction: str = "sublevel") -> bool:
        """Whether there is a tree that is whole, and of these losses. Reads it."""
        return self._sound(connectivity, direction) is not None

    def tree(self, connectivity: str | None = None, direction: str = "sublevel") -> MergeTree:
        """A merge tree, without labels.

        Parameters
        ----------
        connectivity
            The study's where none is given.
        direction
            "sublevel" or "superlevel".

        Returns
        -------
        MergeTree

        Raises
        ------
        InputError
            Where it is missing, damaged, or was made from other losses.
        """
        return self._stored(connectivity, direction).tree

    def numbers(self) -> dict[str, Any]:
        """The numbers that were stored with the study's merge tree, by key; none where it was stored without."""
        return self._stored(None, "sublevel").numbers

    def drawing(self) -> dict[str, NDArray[Any]]:
        """The arrays that were stored with the study's merge tree as its drawing."""
        return self._stored(None, "sublevel").drawing

    def _sound(self, connectivity: str | None, direction: str) -> trees.Stored | None:
        try:
            return trees.read(self._tree_folder(connectivity, direction), self.losses_sha256())
        except (FileNotFoundError, Damaged):
            return None

    def _stored(self, connectivity: str | None, direction: str) -> trees.Stored:
        folder = self._tree_folder(connectivity, direction)
        self.refuse_lowest()
        try:
            return trees.read(folder, self.losses_sha256())
        except FileNotFoundError:
            raise InputError(
                f"{self.folder}: there is no merge tree {folder.name}; `landscaper-hpc run` makes the study's"
            ) from None
        except Damaged as damaged:
            raise InputError(f"{folder}: {damaged}; remove this folder and run the study again") from None

    def _tree_folder(self, connectivity: str | None, direction: str) -> Path:
        return self.folder / layout.TOPOLOGY / trees.tree_name(connectivity or self.connectivity, direction)

    def write_answer(self, name: str, asked: Mapping[str, Any], answer: answers.Answer) -> None:
        """Store what a study asked for beside the tree (`layout.ANSWERS`); it takes the place of what was asked for
        otherwise."""
        folder = self.folder / name
        if folder.exists():
            self.consolidate(leave_out=name)  # readers go by what is listed
        answers.write(folder, answer, layout.ANSWERS[name], self._about(name, asked))
        self.consolidate()

    def drop_answer(self, name: str) -> None:
        """Remove an answer that is damaged."""
        self.consolidate(leave_out=name)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def answer(self, name: str, asked: Mapping[str, Any]) -> answers.Answer | None:
        """What was stored for this question and these losses, where it is whole."""
        return answers.read(self.folder / name, self._about(name, asked))

    def whole_answer(self, name: str, asked: Mapping[str, Any]) -> answers.Answer:
        """The same; `InputError` where it is not whole."""
        found = self.answer(name, asked)
        if found is None:
            raise InputError(f"{self.folder / name}: is missing or damaged; run the study again")
        return found

    def has_answer(self, name: str, asked: Mapping[str, Any]) -> bool:
        """Whether there is an answer to this question. Looks, and does not read."""
        beside = self._with_metrics() if name in layout.IN_PLACE else {}
        return answers.is_about(self.folder / name, {"asked": dict(asked), **beside})

    def _about(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        if name in layout.IN_PLACE:  # it holds its losses itself
            return {"landscape_sha256": self.attributes["sha256"], "asked": dict(asked), **self._with_metrics()}
        if layout.SCOPE in asked:  # it is of that, which is there before
            return {"scope_sha256": answers.sha256(self.folder / layout.SCOPE), "asked": dict(asked)}
        return {"losses_sha256": self.losses_sha256(), "asked": dict(asked)}

    def _with_metrics(self) -> dict[str, Any]:
        """What an answer that holds its losses itself says of metrics beside them."""
        return {layout.METRICS: list(self.metrics)} if self.metrics else {}

    def lowest_points(self, all_data: bool = False) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The points that were evaluated for its lowest part, by flat ids that grow, and their losses; none where there
        is no such part, or none that is whole. Of a landscape of few data, those on all of them."""
        about = {"landscape_sha256": self.attributes["sha256"]}
        found = answers.read(self.folder / layout.SCOPE, about)
        names = ("all_data_points", "all_data_losses") if all_data else ("points", "losses")
        if found is None or names[0] not in found.arrays:
            return np.empty(0, np.int64), np.empty(0)
        return found.arrays[names[0]], found.arrays[names[1]]

    def lowest_values(self, all_data: bool = False) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The same points with all values (m, outputs): losses, and the task's metrics, which are not of all data."""
        ids, losses = self.lowest_points(all_data)
        metrics = {} if all_data else self.lowest_metrics()
        if not all_data and len(metrics) < len(self.metrics):
            return np.empty(0, np.int64), np.empty((0, self.outputs))
        return ids, np.stack([losses, *metrics.values()], axis=1)

    def lowest_metrics(self) -> dict[str, NDArray[np.float64]]:
        """The metrics of the task at the points that `lowest_points` gives, by name, in their order; none where the
        task has none, and where there is no such part that is whole."""
        return self._metrics_in(layout.SCOPE)

    def scattered_metrics(self) -> dict[str, NDArray[np.float64]]:
        """The same at the points that `scattered_points` gives."""
        return {} if self.n_done() else self._metrics_in(layout.SAMPLING)

    def _metrics_in(self, name: str) -> dict[str, NDArray[np.float64]]:
        if not self.metrics:
            return {}
        found = answers.read(
            self.folder / name, {"landscape_sha256": self.attributes["sha256"], **self._with_metrics()}
        )
        return {} if found is None else {metric: found.arrays[layout.at_points(metric)] for metric in self.metrics}

    def scattered_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The coordinates (m, n) of scattered points that were evaluated in place of the grid, and their losses; None
        where there are none that are whole."""
        if self.n_done():
            return None
        found = answers.read(self.folder / layout.SAMPLING, {"landscape_sha256": self.attributes["sha256"]})
        return None if found is None else (found.arrays["points"], found.arrays["losses"])

    def refuse_lowest(self) -> None:
        """`InputError` where only its lowest part, or scattered points, are evaluated."""
        parts = {layout.SCOPE: "its lowest part is", layout.SAMPLING: "scattered points of it are"}
        for name, part in parts.items():
            if not self.n_done() and (self.folder / name).exists():
                raise InputError(
                    f"{self.folder}: only {part} evaluated, with a merge tree of its own (the group {name}); run the "
                    f"study without {name} for all of it"
                )

    def numbers_of(self, name: str) -> dict[str, Any] | None:
        """The numbers of what was asked for beside the tree, where it is whole. Reads one small file."""
        return answers.numbers(self.folder / name)

    def scope_numbers(self) -> dict[str, Any] | None:
        """The numbers of its lowest part, where there is one. Reads one small file."""
        place = self.folder / layout.SCOPE
        found = answers.numbers(place)
        if found is None and place.exists():
            raise InputError(f"{place}: is missing or damaged; run the study again")
        return found

    def to_datatree(self) -> xr.DataTree:
        """All of it, opened by xarray: losses with their coordinates, directions, spectrum, merge trees.

        Returns
        -------
        xarray.DataTree
            Values are read when they are asked for.
        """
        import xarray as xr

        return xr.open_datatree(self.path, engine="zarr", group=self.name)

    # ---- what it was computed with --------------------------------------------------------------------------------

    def accepted(self) -> list[dict[str, Any]]:
        """Environments (as `provenance` records them) that were accepted beside the one it was begun with."""
        return environment.accepted(self.folder / layout.ACCEPTED)

    def admit(self, provenance: Mapping[str, Any], accept: bool) -> None:
        """`InputError` unless it was begun with these versions and this device, or they were accepted.

        With `accept` they are, which is recorded. Several processes may do this at once.
        """
        folder, begun = self.folder / layout.ACCEPTED, self.attributes["provenance"]
        if accept:
            environment.accept(folder, begun, provenance)
        else:
            environment.refuse_mixture(self.folder, [begun, *self.accepted()], provenance)

    # ---- in a notebook ---------------------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """What is there, as far as it is; reads one slice of the losses."""
        axes = self.grid.axes
        rows: list[tuple[str, object]] = [
            ("grid", " × ".join(f"{k:,}" for k in self.grid.shape)),
            ("ranges", " × ".join(f"[{axis.lower:.4g}, {axis.upper:.4g}]" for axis in axes)),
            ("connectivity", self.connectivity),
        ]
        picture = ""
        try:
            if self.n_done() < self.n_shards():
                rows.append(("evaluated", f"{self.n_done():,} of {self.n_shards():,} shards"))
            else:
                picture = self._picture()
            if self.has_tree():
                numbers = self.numbers()
                names = {"range": "range of losses", "n_minima": "minima", "mean_climb": "mean climb", "smad": "SMAD"}
                for key, said in names.items():
                    value = numbers.get(f"topology.{key}")
                    if value is not None:
                        rows.append((said, " to ".join(map(notebook.number, value)) if key == "range" else value))
        except InputError as error:
            rows.append(("damaged", str(error)))
        return notebook.card(f"landscape {self.name}", rows, picture)

    def _picture(self) -> str:
        """The losses over the first two axes, or the only one, through the point nearest to the checkpoint."""
        coordinates = self.grid.coordinates()
        middle = [int(np.argmin(np.abs(axis))) for axis in coordinates[2:]]
        shown = self.read((*(slice(0, k) for k in self.grid.shape[:2]), *(slice(i, i + 1) for i in middle)))
        shown = shown.reshape(self.grid.shape[:2])
        return notebook.line(coordinates[0], shown) if shown.ndim == 1 else notebook.heat_map(shown)

    # ---- names ----------------------------------------------------------------------------------------------------

    def consolidate(self, leave_out: str = "") -> None:
        """List everything that is there in the groups' metadata, where readers look first; `leave_out` is a tree, or
        an answer."""
        try:
            layout.consolidate(self.folder, self._sealed, leave_out)
            if zarr_files.consolidated(zarr_files.read_document(self.path)) is not None:
                layout.consolidate_root(self.path, f"{self.name}/{layout.TOPOLOGY}/{leave_out}")
        except Damaged as damaged:
            raise InputError(f"{damaged}; remove the folder that it is in and run the study again") from None

    def _load(self, key: str) -> NDArray[Any]:
        try:
            return zarr_files.load(self.folder / key, self._sealed[key])
        except Damaged as damaged:
            raise InputError(f"{self.folder}: {damaged}; remove this folder and run the study again") from None


def open_landscape(path: str | Path, name: str | None = None) -> LandscapeStore:
    """Open a landscape of a study.

    Parameters
    ----------
    path
        The study's folder, its `study.zarr`, or one group in that.
    name
        Of the checkpoint; may be left out where there is only one.

    Returns
    -------
    LandscapeStore

    Raises
    ------
    InputError
        Where there is none of this name, and where its metadata are damaged.
    """
    path = Path(path)
    try:
        if StudyFolder(path).store.is_dir():
            path = StudyFolder(path).store
        if (path / layout.LOSS).is_dir():
            return LandscapeStore(path.parent, path.name)
        names = landscape_names(path)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            if not names:
                raise InputError(f"{path}: holds no landscape; `landscaper-hpc run` makes some")
            raise InputError(
                f"{path}: holds the landscapes {', '.join(names)}; "
                + (f"there is no {name!r}" if name else "name one of them")
            )
        return LandscapeStore(path, name)
    except OSError as error:
        zarr_files.refuse_denied(error)
        raise


def landscape_names(path: Path) -> list[str]:
    """Names of the landscapes in a `study.zarr`, sorted; `InputError` where that may not be looked at."""
    try:
        inside = [p for p in path.iterdir() if not p.name.startswith(".") and p.is_dir()]
        return sorted(p.name for p in inside if (p / layout.LOSS).exists() or (p / zarr_files.NODE).exists())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:  # `glob` would see nothing, as if nothing were there
        zarr_files.refuse_denied(error)
        raise
