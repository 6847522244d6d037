"""What can be found out about a Slurm site before anything is submitted: `landscaper-hpc doctor --site`."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from landscaper_hpc.executors import scripts
from landscaper_hpc.study.site import Site
from landscaper_hpc.work.campaign import Campaign

Finding = tuple[str, bool | None, str]
"""What was looked at; whether it works (None: could not be found out, or is not needed); what was found."""

_WAIT_FOR_NODE = 90

_RANK = """
import sys
from pathlib import Path
from landscaper_hpc.parallel.comm import world
comm = world()
(Path(sys.argv[1]) / f"{comm.rank} of {comm.size}").touch()
comm.gather(0)
"""


Look = tuple[str, Callable[[], Iterable[Finding]]]
"""What is looked at, and what looks."""


def looks(site: Site) -> Iterator[Look]:
    """At a site with `executor: slurm`. Starts two ranks for a moment, where there is a free node."""
    yield "Slurm", lambda: _commands(site)
    if shutil.which("scontrol") is None or shutil.which("sbatch") is None:
        return
    yield "controller", lambda: [_controller()]
    yield "arrays", lambda: [_arrays(site)]
    yield "partition", lambda: [_partition(site)]
    yield "nodes", lambda: [usable_nodes(site)]
    yield "account", lambda: [_account(site)]
    yield "qos", lambda: [_association("qos", site.slurm.qos, "qos", None, "name")]
    yield "constraint", lambda: [_constraint(site)]
    yield "submission", lambda: [_submission(site)]
    yield "launcher", lambda: [_launcher(site)]
    yield "MPI", lambda: [_mpi(site)]


def _controller() -> Finding:
    answered, text = ask("scontrol", "ping")
    return "controller", answered and "UP" in text, text or "does not answer"


def _account(site: Site) -> Finding:
    return _association("account", site.slurm.account, "assoc", f"user={getpass.getuser()}", "account")


def _mpi(site: Site) -> Finding:
    if usable_nodes(site)[1] is False:
        return "MPI", None, "not tried: no node of the partition can be used"
    try:
        return _ranks(site)
    except OSError as error:
        return "MPI", None, f"not tried: {error}"


def folder_of(site: Site) -> Path:
    """The folder for studies, or the nearest one above it that is there."""
    folder = site.runs().absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _commands(site: Site) -> Iterator[Finding]:
    for command in ("sbatch", "srun", "squeue", "scancel", "scontrol"):
        place = shutil.which(command)
        yield command, place is not None, place or "not on the PATH: is this a login node of the cluster?"
    answered, text = ask("sacct", "--noheader", "--allocations", "--format=JobID")
    yield "sacct", answered or None, "answers" if answered else f"no accounts ({text}): how jobs ended stays unknown"
    if site.container is not None:
        program = scripts.contained(site.container, [], gpu=False)[0]
        place = shutil.which(program)
        image = Path(site.container.image)
        missing = image.is_absolute() and not image.exists()
        found = f"{place or f'{program} is not on the PATH here'}, image {image}"
        yield "container", None if place is None else not missing, found + (" is not there" if missing else "")
    if site.stripe is not None:
        place = shutil.which("lfs")
        yield "lfs", True if place else None, place or "not here: no Lustre, stripe hints are ignored"


def _arrays(site: Site) -> Finding:
    largest = scripts.max_array_size()
    wanted = site.slurm.limits.max_array
    if wanted is not None and wanted > largest:
        return "arrays", False, f"slurm.limits.max_array is {wanted}, but MaxArraySize here is {largest}"
    sizes = scripts.room(site).arrays(site.slurm.nodes * site.slurm.tasks, others=3)
    return "arrays", True, f"of up to {largest} tasks each; for {site.slurm.nodes} nodes {len(sizes)}: {sizes[:5]}"


def _partition(site: Site) -> Finding:
    name = site.slurm.partition
    if name is None:
        return "partition", None, "none given: the default one"
    answered, text = ask("scontrol", "--oneliner", "show", "partition", name)
    if not answered:
        return "partition", False, f"{name}: {text}"
    fields = dict(word.split("=", 1) for word in text.split() if "=" in word)
    longest = _seconds(fields.get("MaxTime", ""))
    if longest is not None and site.slurm.seconds > longest:
        return "partition", False, f"{name} allows {fields['MaxTime']}, slurm.walltime is {site.slurm.walltime}"
    state = fields.get("State", "unknown")
    return (
        "partition",
        state == "UP",
        f"{name} is {state}, {fields.get('TotalNodes')} nodes, at most {fields['MaxTime']}",
    )


def usable_nodes(site: Site) -> Finding:
    """The nodes of the partition that cannot be used, and why."""
    where = [] if site.slurm.partition is None else [f"--partition={site.slurm.partition}"]
    answered, text = ask("sinfo", "--noheader", "--Node", *where, "--format=%N|%T|%a|%E")
    if not answered:
        return "nodes", None, f"sinfo does not tell: {text}"
    rows = {name: more for name, _, more in (line.partition("|") for line in text.splitlines())}
    out = {}
    for name, more in rows.items():
        state, available, reason = more.split("|", 2)
        if available.strip() != "up" or re.match(r"(drain|down|fail|inval|maint|unknown)|.*\*$", state):
            why = state if available.strip() == "up" else f"{state}, its partition is {available.strip()}"
            out[name] = why + (f" ({reason.strip()})" if reason.strip() not in ("", "none") else "")
    if not out:
        return "nodes", True, f"all {len(rows)} can be used"
    told = ", ".join(f"{name} {why}" for name, why in list(out.items())[:5]) + (", …" if len(out) > 5 else "")
    return "nodes", False if len(out) == len(rows) else None, f"{len(out)} of {len(rows)} cannot be used: {told}"


def _association(key: str, value: str | None, table: str, where: str | None, column: str) -> Finding:
    """Whether the accounting database knows an account or a qos."""
    if value is None:
        return key, None, "none given: your default"
    condition = [] if where is None else ["where", where]
    answered, text = ask("sacctmgr", "--noheader", "--parsable2", "show", table, *condition, f"format={column}")
    known = sorted(set(text.split()))
    if not answered or not known:
        return key, None, f"{value}: sacctmgr does not tell"
    return key, value in known, f"{value} is known" if value in known else f"{value} is not among {', '.join(known)}"


def _constraint(site: Site) -> Finding:
    wanted = site.slurm.constraint
    if wanted is None:
        return "constraint", None, "none given"
    answered, text = ask("sinfo", "--noheader", "--format=%f")
    known = set(re.split(r"[,\s]+", text))
    missing = [word for word in re.findall(r"[\w.-]+", re.sub(r"\*\d+", "", wanted)) if word not in known]
    if not answered:
        return "constraint", None, f"{wanted}: sinfo does not tell"
    return "constraint", not missing, f"no node has {', '.join(missing)}" if missing else f"nodes have {wanted}"


def _submission(site: Site) -> Finding:
    """Whether sbatch takes a job as it will be submitted: account, limits and resources together."""
    campaign = Campaign(folder_of(site) / "doctor", ())
    try:
        text = scripts.script(campaign, site, "evaluate")
    except ModuleNotFoundError as error:
        return "jobs", False, f"{error.name} is not installed: pip install 'landscaper-hpc[slurm]'"
    answered, said = ask("sbatch", "--test-only", text=text)
    return "jobs", answered, said.removeprefix("sbatch: ")


def _launcher(site: Site) -> Finding:
    _, text = ask("srun", "--mpi=list")
    known = re.findall(r"^\s+(\w+)$", text, re.MULTILINE) or re.findall(r"\w+", text)
    wanted = site.slurm.launcher.mpi
    return "srun --mpi", wanted in known, f"{wanted}; here: {', '.join(w for w in known if w not in ('srun', 'MPI'))}"


def _ranks(site: Site) -> Finding:
    """Two ranks by the site's launcher, in its environment: they must be of one world, and see the studies' folder."""
    slurm = site.slurm
    with tempfile.TemporaryDirectory(dir=folder_of(site), prefix=".doctor") as scratch:
        campaign = Campaign(Path(scratch), ())
        options = [f"--{key}={value}" for key, value in _given(site).items()]
        words = [
            *("srun", f"--immediate={_WAIT_FOR_NODE}", "--time=3", "--ntasks=2", f"--mpi={slurm.launcher.mpi}"),
            *(f"--nodes={min(2, slurm.topology_nodes)}", "--kill-on-bad-exit=1", *options, *slurm.launcher.args),
        ]
        command = f"{shlex.join(words)} {scripts.python(campaign, site)} -c {shlex.quote(_RANK)} {shlex.quote(scratch)}"
        lines = [*scripts.setup(site), f"exec {command}"]
        _, text = ask("bash", "-c", "\n".join(lines), seconds=_WAIT_FOR_NODE + 180)
        ranks = sorted(path.name for path in Path(scratch).iterdir())
    if ranks == ["0 of 2", "1 of 2"]:
        return "MPI", True, "two ranks found each other, and wrote to the folder of the studies"
    if "nodes are busy" in text or "mmediate" in text:
        return "MPI", None, f"not tried: no node was free within {_WAIT_FOR_NODE} s"
    return "MPI", False, f"two ranks were started, but: {text or 'they left nothing in the folder of the studies'}"


def _given(site: Site) -> dict[str, str]:
    slurm = site.slurm
    given = {
        "account": slurm.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "reservation": slurm.reservation,
        "gpus-per-node": str(slurm.gpus_per_node) if slurm.gpus_per_node else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _seconds(limit: str) -> int | None:
    """A time of Slurm's, `[days-]hours:minutes:seconds`; None where there is no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def ask(*command: str, text: str | None = None, seconds: float = 60) -> tuple[bool, str]:
    """Whether a command succeeded, and the last line of what it said (all of its output where it succeeded)."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError:
        return False, f"{command[0]} is not on the PATH"
    except subprocess.TimeoutExpired:
        return False, f"no answer within {seconds:.0f} s"
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        ours = [line for line in said.splitlines() if "landscaper-hpc" in line or "Error: " in line]
        return False, (ours or said.splitlines() or [f"exit code {done.returncode}"])[-1].strip()
    return True, said
