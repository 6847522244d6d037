"""What came out of an experiment: results.json, RESULTS.md, and of all of them the page and picture of the verdicts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.declared import LANDSCAPES, SEED, Experiment, named
from experiments.judged import LEVEL, NOT_REPRODUCED, REPRODUCED, UNDECIDED, judged
from experiments.performed import WORKFLOW, Performed
from landscaper_hpc import strict_json
from landscaper_hpc.files import publish
from landscaper_hpc.report.text import number

COLOURS = {REPRODUCED: "#1b7f5c", NOT_REPRODUCED: "#c2410c", UNDECIDED: "#8a8f98"}


def results(name: str, size: str, experiment: Experiment, performed: Performed) -> dict[str, Any]:
    """What results.json holds."""
    return {
        "study": name,
        "title": experiment.title,
        "size": size,
        "seeds": experiment.sizes[size].seeds,
        "claims": [each.as_json() for each in judged(experiment.claims_at(size), performed.tables, performed.settings)],
        "numbers": _numbers(experiment, performed),
        "remarks": list(experiment.remarks),
    }


def _numbers(experiment: Experiment, performed: Performed) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of what is shown, for each condition and variant."""
    rows = performed.tables.get(LANDSCAPES)
    if rows is None:
        return []
    by = [column for column in rows.columns[: list(rows.columns).index("trace")] if column != SEED]
    by = [column for column in by if rows[column].nunique() > 1]
    found = []
    for levels, each in rows.groupby(by, sort=False) if by else [((), rows)]:
        shown = {key: each[key].astype(float) for key in experiment.show if key in each}
        of = {key: value.item() if hasattr(value, "item") else value for key, value in zip(by, levels, strict=True)}
        means = {key: {"mean": float(v.mean()), "sd": float(v.std()), "n": int(v.count())} for key, v in shown.items()}
        found.append({"of": of, "quantities": means})
    return found


def write(found: Mapping[str, Any], folder: Path, size: str = "small") -> None:
    """results.json and RESULTS.md in a folder, of another size than small results.SIZE.json and RESULTS.SIZE.md."""
    folder.mkdir(parents=True, exist_ok=True)
    of = "" if size == "small" else f".{size}"
    publish(folder / f"results{of}.json", (strict_json.dumps(found, indent=1) + "\n").encode())
    publish(folder / f"RESULTS{of}.md", markdown(found).encode())


def markdown(found: Mapping[str, Any]) -> str:
    """RESULTS.md."""
    lines = [
        f"# {found['title']}: what came out",
        "",
        f"Made by `python workflow/run.py {found['study']} --size {found['size']}`: {found['seeds']} seeds of each "
        "condition. p-values are exact, or of 99,999 random arrangements, after all "
        f"{max((claim['tests'] for claim in found['claims']), default=0)} tests of this page (Holm 1979). *Reproduced* "
        f"and *not reproduced* (the opposite) need p < {LEVEL} and at least half the effect on every nested grid "
        "and for confirmed minima. All else is undecided at this size.",
        "",
        "| claim | the paper's numbers | tested here | numbers here: mean ± sd (lowest to highest), runs "
        "| effect (95 %) | p | elsewhere | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in found["claims"]:
        where = f" ({named(claim['where'])})" if claim["where"] else ""
        here = "; ".join(_said(each) for each in claim["numbers"]) or f"{claim['n'][0]} points"
        elsewhere = "; ".join(f"{_signed(each['effect'])} {each['where']}" for each in claim["elsewhere"])
        cells = [
            f"{claim['sentence']} ({claim['source']})",
            claim["paper"],
            f"{claim['quantity']} {claim['test']}{where}",
            here + (f"; {claim['left_out']} left out, not finite" if claim["left_out"] else ""),
            _effect(claim),
            number(claim["p_of_all"]),
            elsewhere or "not of a grid",
            f"**{claim['verdict']}**: {claim['why']}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if found["numbers"]:
        lines += ["", "## Numbers of the landscapes", "", "Mean ± standard deviation over seeds.", ""]
        shown = list(found["numbers"][0]["quantities"])
        lines += ["| condition | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
        for row in found["numbers"]:
            cells = [f"{number(v['mean'])} ± {number(v['sd'])}" for v in row["quantities"].values()]
            lines.append(f"| {named(row['of'])} | " + " | ".join(cells) + " |")
    lines += ["", *(line for remark in found["remarks"] for line in (remark, ""))]
    return "\n".join(lines).rstrip("\n") + "\n"


def _effect(claim: Mapping[str, Any]) -> str:
    low, high = map(_signed, claim["interval"])
    claimed = "above" if claim["expected"] > 0 else "below"
    return f"{claim['measure']} {_signed(claim['effect'])} ({low} to {high}), claimed {claimed} 0"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _said(each: Mapping[str, Any]) -> str:
    mean, sd, low, high = (number(each[key]) for key in ("mean", "sd", "low", "high"))
    return f"{each['of']}: {mean} ± {sd} ({low} to {high}), {each['n']}"


# ---- all of them ----------------------------------------------------------------------------------------------------


def collected(folder: Path = WORKFLOW) -> list[dict[str, Any]]:
    """The results of every study that has been run, by name, the small size first."""
    files = [*folder.glob("*/results.json"), *folder.glob("*/results.*.json")]
    found = [strict_json.loads(file.read_bytes()) for file in files]
    return sorted(found, key=lambda each: (each["study"], each["size"] != "small", each["size"]))


def page(all_: Sequence[Mapping[str, Any]]) -> str:
    """docs/verdicts.md."""
    lines = [
        "# What the papers' experiments give here",
        "",
        "Each experiment of the papers is a study in `workflow/`, which trains its networks, makes their landscapes, "
        "and tests what the paper says. " + " ".join(_counted(all_)) + " Small networks on small data are not the "
        "papers': a claim that is undecided here, or the opposite, may hold there.",
        "",
        "![One row for each claim: effect size with its interval, coloured by verdict](verdicts.png)",
        "",
        "The effect is Cliff's δ between two groups of runs, or Spearman's ρ; in the picture it is to the right "
        "where it is as claimed. "
        "*Reproduced* needs p < 0.05 after all claims of its study, and at least half the effect on every nested grid "
        "and for confirmed minima; *not reproduced* the same of the opposite. Made by `python workflow/verdicts.py` "
        "from each study's results.json.",
        "",
    ]
    for found in all_:
        lines += [
            f"## {found['title']}" + ("" if found["size"] == "small" else f": size {found['size']}"),
            "",
            f"`python workflow/run.py {found['study']} --size {found['size']}`, {found['seeds']} seeds; all numbers in "
            f"`workflow/{found['study']}/RESULTS{'' if found['size'] == 'small' else '.' + found['size']}.md`.",
            "",
            "| claim | the paper's numbers | effect here (95 %) | p | verdict |",
            "|---|---|---|---|---|",
        ]
        for claim in found["claims"]:
            cells = [
                f"{claim['sentence']} ({claim['source']})",
                claim["paper"],
                f"{_effect(claim)}: {claim['quantity']} {claim['test']}",
                number(claim["p_of_all"]),
                f"**{claim['verdict']}**: {claim['why']}",
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _counted(all_: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence of each size: how many claims have which verdict."""
    said = []
    for size in dict.fromkeys(found["size"] for found in all_):
        claims = [claim for found in all_ if found["size"] == size for claim in found["claims"]]
        counts = {word: sum(claim["verdict"] == word for claim in claims) for word in COLOURS}
        takes = ", which takes minutes on two cores" if size == "small" else ""
        each = ", ".join(f"{n} are *{word}*" for word, n in counts.items())
        said.append(f"At the {size} size{takes}, {each}, of {len(claims)} claims.")
    return said


def picture(all_: Sequence[Mapping[str, Any]]) -> bytes:
    """docs/verdicts.png: a row for each claim, its effect positive where it is as claimed, coloured by verdict."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from landscaper_hpc.report.figures import png, style

    studies = [found["study"] + ("" if found["size"] == "small" else f", {found['size']}") for found in all_]
    rows = [(name, claim) for name, found in zip(studies, all_, strict=True) for claim in found["claims"]]
    with style():
        figure = Figure(figsize=(10, 1.2 + 0.36 * max(1, len(rows))), layout="constrained")
        axes = figure.subplots()
        axes.grid(False)
        axes.axvline(0, color="#cccccc", lw=1, zorder=0)
        for y, (_, claim) in enumerate(rows):
            sign, colour = claim["expected"], COLOURS[claim["verdict"]]
            effect, low, high = (sign * value for value in (claim["effect"], *claim["interval"]))
            axes.plot([low, high], [y, y], color=colour, lw=2, solid_capstyle="round")
            axes.plot([0 if math.isnan(effect) else effect], [y], "o" if effect == effect else "x", color=colour, ms=6)
        labels = ["\n".join(textwrap.wrap(claim["sentence"], 70)) for _, claim in rows]
        names = [study if y == 0 or rows[y - 1][0] != study else "" for y, (study, _) in enumerate(rows)]
        axes.set_yticks(range(len(rows)), labels, fontsize=8)
        for y, name in enumerate(names):
            if name:
                axes.axhline(y - 0.5, color="#999999", lw=0.8, zorder=0)
                axes.text(1.07, y, name, fontsize=8, va="center", color="#555555")
        axes.set(xlim=(-1.05, 1.05), ylim=(max(1, len(rows)) - 0.5, -0.5))
        axes.set_xlabel("← the opposite     effect size, 95 % interval     as claimed →", fontsize=9)
        axes.legend(
            [Line2D([], [], color=colour, marker="o") for colour in COLOURS.values()],
            COLOURS,
            ncols=3,
            fontsize=8,
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            frameon=False,
        )
        return png(figure, dpi=150)
