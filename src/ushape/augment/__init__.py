"""What happens to an image before the network sees it, when it is trained: random tiles from few images."""

from ushape.augment.deformation import Deformation
from ushape.augment.draws import generator
from ushape.augment.grey_values import GreyValues, GreyVariation, vary_grey_values
from ushape.augment.tile import random_tile

__all__ = ["Deformation", "GreyValues", "GreyVariation", "generator", "random_tile", "vary_grey_values"]
