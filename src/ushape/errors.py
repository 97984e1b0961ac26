"""Everything that can be wrong with what a user gave us, as one small tree.

::

    UShapeError
    |-- ConfigError       an option or a parameter has a value that cannot work
    |   `-- ConversionError   OpenVINO does not compute a network as PyTorch does (`backends.conversion`)
    |-- ShapeError        an array or an image has a size or a number of axes that cannot work
    |-- ImageFormatError  a file cannot be read as an image
    |-- DataError         a data set is incomplete, ambiguous or contradicts itself
    |-- CheckpointError   a model file is not one, is damaged, or does not fit
    |-- TilingError       a network cannot be run tile by tile as asked
    |-- OutputError       a result cannot be written

A message is one line: what is wrong, the value found, and the nearest fix. The command line prints it to
standard error and exits with status 2; any other exception is a defect of ours (status 1).
"""


class UShapeError(Exception):
    """Root of every error that the user can mend."""


class ConfigError(UShapeError, ValueError):
    """An option or a parameter has a value that cannot work."""


class ShapeError(UShapeError, ValueError):
    """An array or an image has a size or a number of axes that cannot work."""


class ImageFormatError(UShapeError, ValueError):
    """A file cannot be read as an image."""


class DataError(UShapeError, ValueError):
    """A data set is incomplete, ambiguous or contradicts itself."""


class CheckpointError(UShapeError, ValueError):
    """A model file is not one, is damaged, or does not fit what it is used for."""


class TilingError(UShapeError, ValueError):
    """A network cannot be run tile by tile as asked."""


class OutputError(UShapeError, OSError):
    """A result cannot be written: it exists, the folder is read-only, the disk is full."""


def to_install(extra: str) -> str:
    """Say how an extra is installed: in the versions tested together, or pip may fetch another torch."""
    return f"pip install -c constraints.txt 'ushape[{extra}]'"
