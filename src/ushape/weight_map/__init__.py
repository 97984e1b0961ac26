"""What a tile is trained towards: classes with a gap between touching objects, and the weight of each pixel.

::

    objects   1 1 1 2 2 2 0 0 0 3 3      ids, as resampled
    gap       1 1 0 0 2 2 0 0 0 3 3      touching pixels of two objects become background
    classes   1 1 0 0 1 1 0 0 0 1 1
    weights   w_c of the class, and on background the border term of the two nearest objects

Planes and volumes; label images and binary masks. Source: Ronneberger 2015, section 3 and eq. 2; as an option
the form that its authors published later (Falk 2019).
"""

from ushape.weight_map.balance import class_balance
from ushape.weight_map.border import border_weights, tail_px
from ushape.weight_map.falk import falk_tail_px, falk_weights
from ushape.weight_map.gaps import cut_gap
from ushape.weight_map.tile_targets import targets

__all__ = [
    "border_weights",
    "class_balance",
    "cut_gap",
    "falk_tail_px",
    "falk_weights",
    "tail_px",
    "targets",
]
