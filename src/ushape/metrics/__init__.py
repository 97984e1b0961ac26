"""Scores of class masks, boundaries, membranes, objects and of the Cell Tracking Challenge, with all counts.

`pixels` scores class masks, `calibration` what probabilities are worth, `boundaries` outlines of masks, `em`
and `warping` membranes as ISBI 2012 did, `objects` objects one by one, `ctc` frames as the Cell Tracking
Challenge does. NumPy in, frozen records out.
"""

from ushape.metrics.boundaries import (
    Boundaries,
    BoundaryDistances,
    BoundaryOverlap,
    boundary_distances,
    boundary_f1,
    hd95,
    nsd,
)
from ushape.metrics.calibration import CALIBRATION_BINS, Calibration, calibration_error, total_calibration
from ushape.metrics.ctc import Det, Seg, det, seg, total_det, total_seg
from ushape.metrics.em import (
    THRESHOLDS,
    PixelError,
    RandError,
    VScore,
    pixel_error,
    rand_error,
    v_info,
    v_rand,
    v_scores,
)
from ushape.metrics.objects import (
    IOU_THRESHOLDS,
    Jaccard,
    Matching,
    Panoptic,
    aji,
    average_precision,
    match,
    matchings,
    panoptic,
    total,
    total_aji,
    total_panoptic,
)
from ushape.metrics.partitions import Agreement, FScore, label_components, rand_scores, thin_borders
from ushape.metrics.pixels import accuracy, confusion, dice, iou
from ushape.metrics.warping import (
    WARPING_THRESHOLDS,
    Mismatch,
    Mismatches,
    WarpedTruth,
    WarpingError,
    warp_truth,
    warping_error,
)

__all__ = [
    "CALIBRATION_BINS",
    "IOU_THRESHOLDS",
    "THRESHOLDS",
    "WARPING_THRESHOLDS",
    "Agreement",
    "Boundaries",
    "BoundaryDistances",
    "BoundaryOverlap",
    "Calibration",
    "Det",
    "FScore",
    "Jaccard",
    "Matching",
    "Mismatch",
    "Mismatches",
    "Panoptic",
    "PixelError",
    "RandError",
    "Seg",
    "VScore",
    "WarpedTruth",
    "WarpingError",
    "accuracy",
    "aji",
    "average_precision",
    "boundary_distances",
    "boundary_f1",
    "calibration_error",
    "confusion",
    "det",
    "dice",
    "hd95",
    "iou",
    "label_components",
    "match",
    "matchings",
    "nsd",
    "panoptic",
    "pixel_error",
    "rand_error",
    "rand_scores",
    "seg",
    "thin_borders",
    "total",
    "total_aji",
    "total_calibration",
    "total_det",
    "total_panoptic",
    "total_seg",
    "v_info",
    "v_rand",
    "v_scores",
    "warp_truth",
    "warping_error",
]
