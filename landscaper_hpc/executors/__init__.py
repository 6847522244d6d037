"""Executors: one Protocol and thin adapters. An executor knows nothing of losses: it maps a function over tasks."""

from landscaper_hpc.executors.local import LocalMapper, SerialMapper
from landscaper_hpc.work.executor import Mapper, WorkerLost

__all__ = ["LocalMapper", "Mapper", "SerialMapper", "WorkerLost"]
