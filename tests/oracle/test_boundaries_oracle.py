"""Boundary scores against their definitions, MONAI and DeepMind's surface-distance."""

from pathlib import Path

import boundary_reference
import disturbed
import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.metrics.utils import get_mask_edges
from scipy.ndimage import distance_transform_edt

from ushape.metrics import boundaries

pytestmark = [
    # MONAI 1.6 calls its own deprecated argument; surface-distance 0.1 uses old names of SciPy.
    pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Please (use|import) .* `scipy.ndimage` namespace:DeprecationWarning"),
]

Unit = tuple[tuple[float, float], float]

# Sizes of a pixel and tolerances, without ties that rounding could decide: see the last test for such.
UNITS = [((1, 1), 2), ((0.5, 1.25), 1.1), ((0.7, 0.3), 0.95)]

FLOAT32 = 1e-6
"""MONAI rounds distances and scores to float32, whose relative precision is 6e-8."""

FLOAT32_RANK = 1e-4
"""Its percentile also rounds the rank, some thousands, so that the weight of a neighbour is 2e-4 off."""

SIDES = st.integers(1, 8)
PAIRS = st.tuples(SIDES, SIDES).flatmap(lambda shape: st.tuples(*[arrays(np.bool_, shape)] * 2))


@given(PAIRS, st.sampled_from(UNITS))
def test_boundaries_equal_the_definitions(pair: tuple[np.ndarray, np.ndarray], unit: Unit) -> None:
    if not (pair[0].any() and pair[1].any()):
        return  # conventions, not definitions: unit tests
    spacing, tolerance = unit
    ours = boundaries.boundary_distances(*pair, spacing)
    for mine, pieces, percentile in (
        (ours.pixels, boundary_reference.edge_pixels, boundary_reference.interpolated_percentile),
        (ours.contour, boundary_reference.contour, boundary_reference.weighted_percentile),
    ):
        masks = (mask.tolist() for mask in pair)
        expected = boundary_reference.scores(*masks, spacing, tolerance, pieces, percentile)
        overlap = mine.within(tolerance)
        found = (mine.hd95, overlap.nsd, overlap.precision, overlap.recall)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


RealPairs = list[tuple[str, np.ndarray, np.ndarray, Unit]]


@pytest.fixture(scope="module")
def real_pairs(data_dir: Path) -> RealPairs:
    """Name, disturbed and real mask, unit; without those with an empty mask, for which packages say NaN."""
    pairs = [
        (name, pred, true, UNITS[number % len(UNITS)])
        for number, (name, true, pred) in enumerate(disturbed.binary_pairs(data_dir, 240, seed=3))
        if true.any() and pred.any()
    ]
    assert len(pairs) >= 200
    return pairs


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


@pytest.mark.data
def test_hd95_equals_monai_on_real_masks(real_pairs: RealPairs) -> None:
    for name, pred, true, (spacing, _) in real_pairs:
        ours = boundaries.hd95(pred, true, spacing)
        monai = compute_hausdorff_distance(
            one_hot(pred), one_hot(true), include_background=True, percentile=95, spacing=spacing
        )
        assert ours == pytest.approx(monai.item(), rel=FLOAT32_RANK), name
        # The same from MONAI's edges, in float64.
        edges = [np.asarray(edge, bool) for edge in get_mask_edges(pred, true)]
        ways = [
            np.percentile(distance_transform_edt(~other, sampling=spacing)[edge], 95)
            for edge, other in (edges, edges[::-1])
        ]
        assert ours == pytest.approx(max(ways), rel=1e-9, abs=1e-12), name


@pytest.mark.data
def test_nsd_equals_surface_distance_on_real_masks(real_pairs: RealPairs) -> None:
    for name, pred, true, (spacing, tolerance) in real_pairs:
        theirs = surface_distance.compute_surface_distances(true, pred, spacing)
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert boundaries.nsd(pred, true, tolerance, spacing) == pytest.approx(expected, rel=1e-9), name
        # Their other scores, by the same convention.
        ours = boundaries.boundary_distances(pred, true, spacing).contour
        expected = surface_distance.compute_robust_hausdorff(theirs, 95)
        assert ours.hd95 == pytest.approx(expected, rel=1e-9, abs=1e-12), name
        overlap = ours.within(tolerance)
        shares = surface_distance.compute_surface_overlap_at_tolerance(theirs, tolerance)
        assert (overlap.recall, overlap.precision) == pytest.approx(shares, rel=1e-9), name


@pytest.mark.data
@pytest.mark.parametrize(("convention", "subvoxels"), [("pixels", False), ("contour", True)])
def test_nsd_equals_monai_by_either_convention(
    real_pairs: RealPairs, convention: str, subvoxels: bool
) -> None:
    for name, pred, true, (spacing, tolerance) in real_pairs:
        monai = compute_surface_dice(
            one_hot(pred), one_hot(true), [tolerance], True, spacing=spacing, use_subvoxels=subvoxels
        )
        ours = boundaries.nsd(pred, true, tolerance, spacing, convention)
        assert ours == pytest.approx(monai.item(), rel=FLOAT32), name


def test_where_the_packages_differ_from_ours() -> None:
    # Lengths on the very tolerance: for them 3 pixels of 0.1 um are more than 0.3 um.
    pred, true = np.zeros((2, 1, 8), bool)
    pred[0, 3] = true[0, 0] = True
    assert boundaries.nsd(pred, true, 0.3, (0.1, 0.1)) == 1
    theirs = surface_distance.compute_surface_distances(true, pred, (0.1, 0.1))
    assert surface_distance.compute_surface_dice_at_tolerance(theirs, 0.3) == 0.5
    # Two empty masks: NaN for them, perfect for us.
    empty = one_hot(np.zeros((4, 4), bool))
    with pytest.warns(UserWarning, match="class 0 is all 0"):
        assert compute_surface_dice(empty, empty, [1.0], True).isnan()
    assert boundaries.nsd(*np.zeros((2, 4, 4)), 1) == 1
