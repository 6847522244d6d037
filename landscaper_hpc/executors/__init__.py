"""Executors: one Protocol and thin adapters. An executor knows nothing of losses: it maps a function over tasks."""

from landscaper_hpc.executors.local import LocalExecutor, SerialExecutor
from landscaper_hpc.work.executor import Executor, WorkerLost

__all__ = ["Executor", "LocalExecutor", "SerialExecutor", "WorkerLost"]
