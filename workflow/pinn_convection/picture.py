"""The picture of the two landscapes: python workflow/pinn_convection/picture.py <study folder> <picture.png>"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from landscaper_hpc import merge_tree, open_landscape
from landscaper_hpc.report.figures import plot_merge_tree, plot_profile, png, style
from landscaper_hpc.topology.profile import landscape_profile

PANELS = {"beta_1": "β = 1: learned", "beta_30": "β = 30: failed"}


def picture(study: Path) -> bytes:
    """Profiles above, merge trees below, one column per checkpoint, all on one scale of losses; a PNG."""
    losses = {name: open_landscape(study, name).loss() for name in PANELS}
    trees = {name: merge_tree(field, labels=True) for name, field in losses.items()}
    limits = min(t.value_range[0] for t in trees.values()), max(t.value_range[1] for t in trees.values())
    with style():
        figure = Figure(figsize=(9, 6), layout="constrained")
        for (above, below), (name, title) in zip(figure.subplots(2, 2).T, PANELS.items(), strict=True):
            tree = trees[name]
            plot_profile(landscape_profile(losses[name], tree), above, limits=limits)
            above.set_title(title, fontsize=13)
            plot_merge_tree(tree, below, limits=limits)
        return png(figure, dpi=160)


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(picture(Path(sys.argv[1])))
