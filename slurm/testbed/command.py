"""The command line of the test cluster."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import packages
from cluster import Cluster
from errors import Refused, TestbedError
from processes import inside

STATE = "LANDSCAPER_TESTBED_STATE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when done, 2 when refused with nothing changed, 1 on any other failure."""
    options = _parser().parse_args(arguments)
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return _do(options)
    except Refused as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="testbed", description="A real Slurm cluster on this machine, for tests.")
    default = os.environ.get(STATE) or f"/tmp/landscaper-hpc-testbed-{os.getuid()}"
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(default),
        help=f"folder for everything the cluster writes; removed by `down` (default: ${STATE} or {default})",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("install", help="install Slurm, MUNGE, MariaDB and PMIx with apt; does nothing where they are")
    up = commands.add_parser("up", help="start the cluster and wait until all nodes are idle")
    up.add_argument("--nodes", type=int, default=4, help="how many (default: 4)")
    up.add_argument("--owner", type=int, metavar="PID", help="take the cluster down when this process has ended")
    commands.add_parser("down", help="end every process of the cluster and remove its folder")
    commands.add_parser("status", help="what is up; exit code 3 where there is no cluster").add_argument(
        "--json", action="store_true", help="one JSON object"
    )
    run = commands.add_parser("run", help="run a command as a client of the cluster, or on one of its nodes")
    run.add_argument("--on", type=int, metavar="N", help="run it on node N, beside Slurm, instead of as a client")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD...")
    for name, text in (
        ("crash", "cut the power of node N: its network and all its processes are gone at once"),
        ("start", "bring node N back after `crash`, or its slurmd after `kill-slurmd`"),
        ("kill-slurmd", "kill -9 only slurmd on node N; the jobs there stay alive"),
        ("unplug", "pull the network cable of node N; everything on it stays alive"),
        ("plug", "put the network cable of node N back"),
    ):
        commands.add_parser(name, help=text).add_argument("node", type=int, metavar="N")
    stop = commands.add_parser("stop-controller", help="end slurmctld")
    stop.add_argument("--hard", action="store_true", help="with kill -9 instead of an orderly end")
    commands.add_parser("start-controller", help="start slurmctld again")
    return parser


def _do(options: argparse.Namespace) -> int:
    cluster = Cluster(options.state)
    match options.command:
        case "install":
            packages.install()
        case "up":
            _refuse_inside()
            packages.refuse_where_impossible()
            seconds = cluster.up(options.nodes, options.owner)
            print(f"{options.nodes} nodes idle after {seconds:.1f} s; state in {cluster.state}")
        case "down":
            _refuse_inside()
            ended = cluster.down()
            print(f"down: {ended} processes ended" if ended else "nothing was up")
        case "status":
            status = cluster.status()
            print(json.dumps(status, indent=2) if options.json else cluster.describe(status))
            return 0 if status["up"] else 3
        case "run":
            argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
            if not argv or shutil.which(argv[0]) is None:
                raise Refused(f"run: no such command: {argv[0]}" if argv else "run: name a command")
            cluster.run(argv, options.on)
        case "crash" | "start" | "unplug" | "plug":
            getattr(cluster, options.command)(options.node)
        case "kill-slurmd":
            cluster.kill_slurmd(options.node)
        case "stop-controller":
            cluster.stop_controller(options.hard)
        case "start-controller":
            cluster.start_controller()
    return 0


def _refuse_inside() -> None:
    if inside():
        raise Refused("this process runs inside a test cluster; give this command outside of it")
