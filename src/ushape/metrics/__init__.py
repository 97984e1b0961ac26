"""Scores of class masks (`pixels`), membranes (`em`) and objects (`objects`), each with its counts."""

from ushape.metrics.em import THRESHOLDS, PixelError, VScore, pixel_error, v_info, v_rand, v_scores
from ushape.metrics.objects import Matching, average_precision, match, total
from ushape.metrics.partitions import Agreement, FScore, label_components, rand_scores, thin_borders
from ushape.metrics.pixels import accuracy, confusion, dice, iou

__all__ = [
    "THRESHOLDS",
    "Agreement",
    "FScore",
    "Matching",
    "PixelError",
    "VScore",
    "accuracy",
    "average_precision",
    "confusion",
    "dice",
    "iou",
    "label_components",
    "match",
    "pixel_error",
    "rand_scores",
    "thin_borders",
    "total",
    "v_info",
    "v_rand",
    "v_scores",
]
