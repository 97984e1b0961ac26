"""Data sets: layouts, pairs, what the values of masks mean, and the data doctor."""

from ushape.data.check import CheckReport, ClassRow, Histogram, check
from ushape.data.coding import MaskCoding
from ushape.data.faults import Fault
from ushape.data.layouts import find_pairs
from ushape.data.masks import infer_coding
from ushape.data.pairs import Dataset, Pair, Source
from ushape.data.samples import Sample, load_samples, open_dataset, open_folds, split
from ushape.data.table import render

__all__ = [
    "CheckReport",
    "ClassRow",
    "Dataset",
    "Fault",
    "Histogram",
    "MaskCoding",
    "Pair",
    "Sample",
    "Source",
    "check",
    "find_pairs",
    "infer_coding",
    "load_samples",
    "open_dataset",
    "open_folds",
    "render",
    "split",
]
