"""Objects: from the probabilities of a plane to numbered objects, their measurements and their outlines."""

from ushape.instances.edges import outlines, polygons
from ushape.instances.finding import instances, require_applicable
from ushape.instances.geojson import features
from ushape.instances.measurements import measure

__all__ = ["features", "instances", "measure", "outlines", "polygons", "require_applicable"]
