"""Filled sheets as they come back, XLSX or CSV: columns and numbered rows, whatever was typed into them."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from etl.errors import ContractError
from evaluation.review.form import ABOUT
from evaluation.review.workbook import ABOUT_SHEET, ITEMS, load_openpyxl


@dataclass(frozen=True, slots=True)
class Sheet:
    """What came back.

    Attributes:
        columns: as headed.
        rows: cells by column, with the row's number as a spreadsheet shows it.
        about: what the rater said of themselves; {} in a CSV.
    """

    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, Any]]]
    about: dict[str, str]


def read_sheet(path: Path) -> Sheet:
    """Read a filled sheet, XLSX or CSV.

    Raises:
        ConfigError: openpyxl is not installed.
        ContractError: the file is no such sheet.
    """
    return _read_csv(path) if path.suffix.lower() == ".csv" else _read_xlsx(path)


def _read_csv(path: Path) -> Sheet:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text("cp1252", errors="replace")  # what Excel's plain "CSV" is
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)  # where the comma is decimal, Excel separates by semicolons
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return _sheet(path, ((number, cells) for number, cells in enumerate(lines, 1)), {})


def _read_xlsx(path: Path) -> Sheet:
    openpyxl = load_openpyxl()
    try:
        workbook = openpyxl.load_workbook(path, data_only=True)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, openpyxl.utils.exceptions.InvalidFileException):
        raise ContractError(f"{path.name} is no XLSX workbook; save it as .xlsx again") from None
    if ITEMS not in workbook.sheetnames:
        raise ContractError(f"{path.name} has no sheet {ITEMS}; keep the sheets' names")
    about: dict[str, str] = {}
    if ABOUT_SHEET in workbook.sheetnames:
        for name, answer in workbook[ABOUT_SHEET].iter_rows(max_col=2, values_only=True):
            if name in ABOUT and answer is not None:
                about[name] = answer.date().isoformat() if isinstance(answer, datetime) else str(answer).strip()
    return _sheet(path, enumerate(workbook[ITEMS].iter_rows(values_only=True), 1), about)


def _sheet(path: Path, lines: Any, about: dict[str, str]) -> Sheet:
    _, header = next(iter(lines), (1, ()))
    columns = tuple(str(name).strip() for name in header if name not in (None, ""))
    rows = [
        (number, dict(zip(columns, cells, strict=False)))
        for number, cells in lines
        if any(cell not in (None, "") for cell in cells)
    ]
    if len(set(columns)) < len(columns):
        raise ContractError(f"{path.name} has two columns of one name; restore the header")
    return Sheet(columns, rows, about)
