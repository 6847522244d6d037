"""What `forked_python` starts: it stands for a process that is forked, passes signals on, and ends as that one ends.

`python -I -S forked_rank.py ADDRESS WORDS...`, of which ADDRESS is where `forked` listens, and WORDS are Python's.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

address, *words = sys.argv[1:]
plain = [word for word in words if word not in ("-P", "-u")]
if plain[:1] == ["-m"]:
    script, *words = plain[1:]
elif plain and plain[0].endswith(".py"):
    script, *words = plain
else:
    os.execv(sys.executable, [sys.executable, *words])
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.connect(address)
streams = [0, 1, 2, *(int(os.environ[name]) for name in ("PMI_FD",) if name in os.environ)]
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(each, lambda number, _: channel.send(str(number).encode()))
asked = {"script": script, "words": words, "cwd": str(Path.cwd()), "env": dict(os.environ), "session": True}
socket.send_fds(channel, [json.dumps(asked).encode()], streams)
for launcher in streams[3:]:
    os.close(launcher)
code = int(channel.recv(64))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
