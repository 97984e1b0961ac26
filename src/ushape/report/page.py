"""One HTML file that can be sent by mail: text, tables, curves and pictures, and nothing fetched.

A report is put together from pieces, each a string of class `Html`; plain strings are text and are escaped::

    write_report(
        path,
        "Nuclei",
        [section("Scores", "What was measured.", table(["image", "Dice"], [["a", 0.91]]))],
    )
"""

import base64
import io as memory
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ushape import __version__, io
from ushape.errors import ShapeError

Array = np.ndarray[Any, Any]
Numbers = Sequence[float]

_LINES = ("#2f7ed8", "#e07b00", "#1a9a6c", "#b3479b", "#8a6d3b", "#6b6ecf")  # readable on white and on black
_DASHES = ("-", "--", ":", "-.")


class Html(str):
    """A finished piece of a page, as opposed to text that still has to be escaped."""

    __slots__ = ()


def text(*paragraphs: str) -> Html:
    """Paragraphs of plain text."""
    return Html("\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs))


def commands(*lines: str) -> Html:
    """Lines to be typed into a terminal."""
    return Html(f"<pre><code>{escape(chr(10).join(lines))}</code></pre>")


def key_numbers(numbers: Mapping[str, object]) -> Html:
    """A few numbers in large type: what each is -> its value."""
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_shown(value))}</dd></div>"
        for name, value in numbers.items()
    )
    return Html(f'<dl class="numbers">{tiles}</dl>')


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str = "") -> Html:
    """A table; numbers stand to the right, floats have three decimals, None is a dash.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences
        Each as long as the header; the first cell names the row.
    caption : str

    Returns
    -------
    Html

    Raises
    ------
    ShapeError
        If a row is longer or shorter than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ShapeError(f"a row of {len(row)} cells under a header of {len(header)}: {list(row)}")
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    top = "".join(f'<th scope="col"{_side(n)}>{escape(h)}</th>' for h, n in zip(header, numeric, strict=True))
    body = "\n".join(_row(row, numeric) for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    inner = f"{title}<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody>"
    return Html(f'<div class="scroll"><table>{inner}</table></div>')


def picture_row(pictures: Mapping[str, Array], *, caption: str = "") -> Html:
    """Pictures side by side, each over its title.

    Parameters
    ----------
    pictures : mapping of str to ndarray of uint8, shape (H, W, 3) or (H, W)
        Title, which may be empty -> picture. They become PNG inside the page, pixel for pixel; a click on
        one shows it as large as the window, its pixels as squares.
    caption : str
        Of the whole row.

    Returns
    -------
    Html
    """
    cells = "".join(_picture(title, picture, caption) for title, picture in pictures.items())
    return _captioned(f'<div class="row">{cells}</div>', caption)


def legend(colors: Mapping[str, tuple[int, int, int]]) -> Html:
    """What the colours in pictures mean: words -> (red, green, blue)."""
    entries = "".join(
        f'<li><i style="background:rgb({red},{green},{blue})"></i>{escape(words)}</li>'
        for words, (red, green, blue) in colors.items()
    )
    return Html(f'<ul class="legend">{entries}</ul>')


def curves(
    lines: Mapping[str, tuple[Numbers, Numbers]], *, x: str, y: str, caption: str = "", log: bool = False
) -> Html:
    """Draw curves over one axis.

    Parameters
    ----------
    lines : mapping of str to (xs, ys)
        Name -> points; a NaN leaves a gap.
    x, y : str
        What the axes show, with the unit.
    caption : str
    log : bool
        Logarithmic vertical axis.

    Returns
    -------
    Html
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = drawing.add_subplot()
    for number, (name, (xs, ys)) in enumerate(lines.items()):
        marker = "o" if len(xs) < 3 else None  # a line of one point would not be seen
        style = _DASHES[number % len(_DASHES)]
        axes.plot(xs, ys, style, label=name, color=_LINES[number % len(_LINES)], lw=1.8, marker=marker)
    axes.set(xlabel=x, ylabel=y, yscale="log" if log else "linear")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.18)
    if len(lines) > 1:
        axes.legend(frameon=False)
    described = f"{y} over {x}: {', '.join(lines)}"
    return figure(drawing, alt=described, caption=caption)


def figure(drawing: Any, *, alt: str, caption: str = "") -> Html:
    """Put a matplotlib figure into the page, as SVG that takes on the colours of the page.

    Parameters
    ----------
    drawing : matplotlib.figure.Figure
        Whatever is black in it appears in the text colour.
    alt : str
        What is to be seen, for those who cannot.
    caption : str

    Returns
    -------
    Html
    """
    from matplotlib import rc_context

    target = memory.StringIO()
    # Text stays text; identifiers depend on the content only, so that equal runs give equal pages.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": alt + caption, "font.family": "sans-serif"}):
        drawing.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _captioned(_inline(target.getvalue(), alt), caption)


def section(title: str, *parts: str) -> Html:
    """A heading and what belongs under it; a part that is not `Html` is a paragraph of text."""
    return Html(f"<section><h2>{escape(title)}</h2>\n{_joined(parts)}\n</section>")


def write_report(path: Path | str, title: str, sections: Sequence[str], *, lead: str = "") -> None:
    """Write a page.

    Parameters
    ----------
    path : path
        `.html`.
    title : str
    sections : sequence of Html
        See `section`; what is not `Html` is a paragraph of text.
    lead : str
        One or two sentences under the title.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    intro = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    page = _PAGE.format(
        title=escape(title), style=_STYLE, lead=intro, body=_joined(sections), version=escape(__version__)
    )
    with io.written_beside(path) as beside:
        beside.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of old file systems


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(part if isinstance(part, Html) else text(part) for part in parts)


def _captioned(content: str, caption: str) -> Html:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{content}{below}</figure>")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | np.number) and not isinstance(value, bool))


def _shown(value: object) -> str:
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float | np.floating):
        # Small errors, too, can be told apart.
        return f"{value:.6f}" if 0 < abs(float(value)) < 0.01 else f"{value:.3f}"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _side(number: bool) -> str:
    return ' class="number"' if number else ""


def _row(row: Sequence[object], numeric: Sequence[bool]) -> str:
    first = f'<th scope="row"{_side(numeric[0])}>{escape(_shown(row[0]))}</th>'
    rest = (
        f"<td{_side(n)}>{escape(_shown(value))}</td>" for value, n in zip(row[1:], numeric[1:], strict=True)
    )
    return f"<tr>{first}{''.join(rest)}</tr>"


def _picture(title: str, picture: Array, caption: str) -> str:
    height, width = picture.shape[:2]
    described = escape(": ".join(filter(None, (title, caption))))
    below = f"<span>{escape(title)}</span>" if title else ""
    image = f'<img src="{_png(picture)}" width="{width}" height="{height}" alt="{described}">'
    # A box that can be ticked, shown as the picture: it enlarges without a script.
    switch = f'<input type="checkbox" aria-label="enlarge {described}">'
    return f"<div><label>{switch}{image}</label>{below}</div>"


def _png(picture: Array) -> str:
    target = memory.BytesIO()
    _in_few_colors(Image.fromarray(picture)).save(target, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode("ascii")


def _in_few_colors(picture: Image.Image) -> Image.Image:
    """Store a picture of up to 256 colours, as grey values and heat maps are, in a third of the bytes."""
    colors = picture.getcolors(256) if picture.mode == "RGB" else None
    if colors is None:
        return picture
    few = picture.quantize(len(colors), dither=Image.Dither.NONE)
    # Pillow clusters colours; where two of them fell together the picture stays as it is.
    return few if np.array_equal(np.asarray(few.convert("RGB")), np.asarray(picture)) else picture


def _inline(svg: str, alt: str) -> str:
    """Make an SVG file part of a page: no prolog, no names that two drawings could share, a description."""
    svg = svg[svg.index("<svg") :].replace("#000000", "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header><h1>{title}</h1>{lead}</header>
{body}
<footer>ushape {version}</footer>
</main>
</body>
</html>
"""

_STYLE = """\
:root {
  --paper: #ffffff; --ink: #1c2128; --soft: #5b6570; --line: #d9dee4; --panel: #f4f6f8; --accent: #1f6fbf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --ink: #e4e8ec; --soft: #9aa5b1; --line: #333b45; --panel: #1d232a; --accent: #6cb2f5;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.5rem 3rem; }
header { border-bottom: 3px solid var(--accent); padding-bottom: 1rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.6rem; }
p { max-width: 46rem; margin: 0.6rem 0; }
.lead { font-size: 1.08rem; color: var(--soft); margin-bottom: 0; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.8rem;
  margin: 1.2rem 0; }
.numbers div { background: var(--panel); border-radius: 8px; padding: 0.8rem 1rem;
  display: flex; flex-direction: column; justify-content: space-between; }
.numbers dt { color: var(--soft); font-size: 0.85rem; line-height: 1.35; }
.numbers dd { margin: 0.15rem 0 0; font-size: 1.6rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.94rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.4rem; }
th, td { text-align: left; padding: 0.4rem 1.6rem 0.4rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.85rem; vertical-align: bottom; }
tbody th { font-weight: 500; }
td:not(.number) { min-width: 9rem; }
.number { text-align: right; white-space: nowrap; }
figure { margin: 1.4rem 0; break-inside: avoid; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.4rem; }
.row { display: flex; gap: 0.7rem; align-items: flex-start; }
.row div { flex: 1 1 0; min-width: 0; max-width: 24rem; }
.row div:only-child { max-width: none; }
.row img { display: block; width: 100%; height: auto; border-radius: 4px; background: var(--panel);
  box-shadow: 0 0 0 1px var(--line); }
.row div:only-child img { width: auto; max-width: 100%; }
.row span { display: block; font-size: 0.85rem; margin-top: 0.25rem; color: var(--soft); }
.row label { display: block; cursor: zoom-in; }
.row input { position: absolute; opacity: 0; }
.row input:focus-visible + img { outline: 3px solid var(--accent); }
.row div input:checked + img { position: fixed; inset: 0; z-index: 1; width: 100vw; height: 100vh;
  max-width: none; object-fit: contain; image-rendering: pixelated; border-radius: 0;
  background: rgb(0 0 0 / 0.9); cursor: zoom-out; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.4rem; padding: 0; margin: 0.8rem 0; list-style: none;
  font-size: 0.9rem; }
.legend i { display: inline-block; width: 0.9em; height: 0.9em; margin-right: 0.45em; border-radius: 2px;
  border: 1px solid var(--line); vertical-align: -0.08em; }
svg { display: block; width: 100%; max-width: 46rem; height: auto; }
svg text { font-family: inherit !important; fill: currentColor; }
pre { background: var(--panel); border-radius: 8px; padding: 0.9rem 1.1rem; overflow-x: auto; }
code { font: 0.88rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { margin-top: 3rem; padding-top: 0.8rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 0.85rem; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem; }
  .row { flex-wrap: wrap; }
  .row div { flex-basis: 45%; }
}
@media print {
  :root {
    --paper: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --panel: #f2f2f2; --accent: #1f6fbf;
  }
  main { max-width: none; padding: 0; }
  body { font-size: 10.5pt; }
  pre { white-space: pre-wrap; }
  .legend i { print-color-adjust: exact; }
  h2 { break-after: avoid; }
}
"""
