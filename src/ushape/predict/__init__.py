"""A trained network applied: to one image or stack in Python, or to files."""

from ushape.predict.files import FileResult, predict_files
from ushape.predict.segmenter import Segmentation, Segmenter

__all__ = ["FileResult", "Segmentation", "Segmenter", "predict_files"]
