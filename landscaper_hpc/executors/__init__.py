"""Executors, registered by name (`landscaper_hpc.registry.EXECUTORS`): mappers and launchers, thin and without any
knowledge of losses."""

from landscaper_hpc.errors import WorkerLost
from landscaper_hpc.executors.local import LocalMapper, SerialMapper
from landscaper_hpc.work.executor import Mapper

__all__ = ["LocalMapper", "Mapper", "SerialMapper", "WorkerLost"]
