"""What is taken elsewhere and brought from there: one module a format, found through `formats.FORMATS`."""

from landscaper_hpc.exchange.export import export
from landscaper_hpc.exchange.formats import FORMATS
from landscaper_hpc.exchange.graphs import to_networkx
from landscaper_hpc.exchange.importing import import_landscapes
from landscaper_hpc.exchange.tables import minima_table, points_table
from landscaper_hpc.exchange.tracking import log_results

__all__ = ["FORMATS", "export", "import_landscapes", "log_results", "minima_table", "points_table", "to_networkx"]
