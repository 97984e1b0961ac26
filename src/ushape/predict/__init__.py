"""A trained network applied: to one image or stack in Python, or to files."""

from ushape.predict.certificate import Certificate, certify
from ushape.predict.files import FileResult, predict_files
from ushape.predict.segmentation import Segmentation
from ushape.predict.segmenter import Segmenter

__all__ = ["Certificate", "FileResult", "Segmentation", "Segmenter", "certify", "predict_files"]
