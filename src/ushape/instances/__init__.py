"""Objects: from the probabilities of a plane to numbered objects, their measurements and their outlines."""

from ushape.instances.edges import outlines, polygons
from ushape.instances.finding import instances, kinds_of, require_applicable
from ushape.instances.geojson import features
from ushape.instances.measurements import measure, merged, sums_of, table_of
from ushape.instances.regions import Numbering, Regions
from ushape.instances.splitting import split

__all__ = [
    "Numbering",
    "Regions",
    "features",
    "instances",
    "kinds_of",
    "measure",
    "merged",
    "outlines",
    "polygons",
    "require_applicable",
    "split",
    "sums_of",
    "table_of",
]
