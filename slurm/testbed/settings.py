"""The cluster's configuration files. Nothing is written outside the state folder."""

from __future__ import annotations

from pathlib import Path

NETWORK = "10.77.0"
CONTROLLER = f"{NETWORK}.1"
GPUS = 4
CPUS = 8
_DATABASE_PORT = 16820


def address(node: int) -> str:
    return f"{NETWORK}.{10 + node}"


def hosts(nodes: int) -> str:
    lines = ["127.0.0.1 localhost", f"{CONTROLLER} controller", *(f"{address(i)} n{i}" for i in range(1, nodes + 1))]
    return "\n".join(lines) + "\n"


def files(state: Path, nodes: int) -> dict[str, str]:
    """File name to text, for the folder that only the cluster's own namespaces see."""
    node_lines = "\n".join(
        f"NodeName=n{i} NodeHostname=n{i} NodeAddr={address(i)} CPUs={CPUS} RealMemory=4000 Gres=gpu:{GPUS} "
        "Feature=gpu State=UNKNOWN"
        for i in range(1, nodes + 1)
    )
    slurm = f"""\
ClusterName=test
SlurmctldHost=controller({CONTROLLER})
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A short credential life: a requeued job waits for it to end.
AuthInfo=socket={state}/munge/socket,cred_expire=10
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/nodes/%n/spool
TmpFS={state}/nodes/%n/tmp
SlurmctldPidFile={state}/controller/slurmctld.pid
SlurmdPidFile={state}/nodes/%n/slurmd.pid
SlurmctldLogFile={state}/log/slurmctld.log
SlurmdLogFile={state}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
MpiDefault=pmi2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
# More CPUs are declared than this machine has.
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
JobRequeue=1
MinJobAge=300
KillWait=5
# Short, so that faults are noticed soon, and yet no fault when this machine has much else to do.
SlurmdTimeout=15
BatchStartTimeout=15
MessageTimeout=10
TCPTimeout=5
ReturnToService=2
MailProg=/bin/true
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoragePass={state}/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
{node_lines}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 OverSubscribe=NO PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefaultTime=10 OverSubscribe=NO PriorityTier=10 PreemptMode=OFF
"""
    slurmdbd = f"""\
AuthType=auth/munge
AuthInfo=socket={state}/munge/socket
DbdHost=controller
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
LogFile={state}/log/slurmdbd.log
PidFile={state}/controller/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={_DATABASE_PORT}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
    mariadb = f"""\
[mariadbd]
user=root
datadir={state}/database
# Not /tmp: a server that starts removes there the temporary tables of all the others.
tmpdir={state}/database.tmp
socket={state}/database.socket
pid-file={state}/controller/mariadbd.pid
bind-address=127.0.0.1
port={_DATABASE_PORT}
skip-name-resolve
skip-log-bin
innodb-buffer-pool-size=64M
innodb-log-file-size=32M
innodb-flush-log-at-trx-commit=0
innodb-lock-wait-timeout=900
init-file={state}/etc/init.sql
"""
    return {
        "slurm.conf": slurm,
        "slurmdbd.conf": slurmdbd,
        "cgroup.conf": "CgroupPlugin=cgroup/v1\n",  # otherwise slurmd may die looking for cgroups
        "gres.conf": f"NodeName=n[1-{nodes}] Name=gpu File={state}/gpus/nvidia[0-{GPUS - 1}]\n",
        "mariadb.cnf": mariadb,
        "init.sql": "CREATE DATABASE IF NOT EXISTS slurm;\n"
        "CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
        "GRANT ALL ON slurm.* TO slurm@'127.0.0.1';\n",
        "hosts": hosts(nodes),
    }
