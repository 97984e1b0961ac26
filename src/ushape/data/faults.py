"""One fault of a data set: where it is, what is wrong, and what to do about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Fault:
    """One fault of a data set.

    Attributes
    ----------
    severity : {"error", "warning"}
        "error": training on this would be wrong, and is refused. "warning": worth a look.
    file : Path or None
        The file at fault; None if it is the data set as a whole.
    what : str
        What is wrong, with the value found.
    fix : str
        The nearest fix; empty if `what` already says it.
    """

    severity: Literal["error", "warning"]
    file: Path | None
    what: str
    fix: str = ""

    def __str__(self) -> str:
        """One line: file, what, fix."""
        where = f"{self.file}: " if self.file is not None and str(self.file) not in self.what else ""
        return f"{where}{self.what}" + (f"; {self.fix}" if self.fix else "")
