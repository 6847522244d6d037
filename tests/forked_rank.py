"""What `mpiexec` starts of a rank that is forked: it stands for that process, passes signals on, and ends as it ends.

`python -I -S forked_rank.py ADDRESS SCRIPT WORDS...`, of which ADDRESS is where `forked` listens.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.connect(f"\0{sys.argv[1]}")
launcher = int(os.environ["PMI_FD"])
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(each, lambda number, _: channel.send(str(number).encode()))
asked = {"script": sys.argv[2], "words": sys.argv[3:], "cwd": str(Path.cwd()), "env": dict(os.environ), "session": True}
socket.send_fds(channel, [json.dumps(asked).encode()], [0, 1, 2, launcher])
os.close(launcher)
code = int(channel.recv(64))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
