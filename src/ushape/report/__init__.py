"""Pages that can be sent by mail: the pieces they are made of, and the page of an evaluation."""

from ushape.report.comparisons import comparison_rows
from ushape.report.evaluation import evaluation_report
from ushape.report.page import (
    Html,
    commands,
    curves,
    figure,
    key_numbers,
    legend,
    picture_row,
    section,
    table,
    text,
    write_report,
)
from ushape.report.reliability import reliability

__all__ = [
    "Html",
    "commands",
    "comparison_rows",
    "curves",
    "evaluation_report",
    "figure",
    "key_numbers",
    "legend",
    "picture_row",
    "reliability",
    "section",
    "table",
    "text",
    "write_report",
]
