"""Executors: one Protocol and thin adapters. An executor knows nothing of losses: it maps a function over tasks."""

from landscaper_hpc.executors.base import Executor, WorkerLost
from landscaper_hpc.executors.local import LocalExecutor, SerialExecutor

__all__ = ["Executor", "LocalExecutor", "SerialExecutor", "WorkerLost"]
