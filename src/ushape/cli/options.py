"""Options that several commands have, with one meaning and one help text."""

from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show a traceback with an error.")]
Device = Annotated[
    str, typer.Option(help="auto (the first CUDA GPU, else the CPU), cpu, cuda, cuda:1 or mps.")
]
Images = Annotated[
    str | None, typer.Option(help="Glob of the images below DATA; pairs by the digits in the names.")
]
Masks = Annotated[str | None, typer.Option(help="Glob of the masks below DATA.")]
Classes = Annotated[
    str | None, typer.Option(help="Masks hold the class indices 0 to N-1, or `objects`: settles ambiguity.")
]
Ignore = Annotated[str | None, typer.Option(metavar="LABEL", help="Label value of pixels that do not count.")]
