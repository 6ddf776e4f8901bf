"""Sheets that people fill in: XLSX with drop-downs and locked facts, or CSV. Knows cells, no statistics."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError
from evaluation.review.form import ABOUT, SHOWN

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

ITEMS, ABOUT_SHEET = "Items", "About you"

_EPOCH = datetime(2000, 1, 1)  # the same bytes for the same items, whenever they are written
_WIDTHS = {"item_id": 11, "chart": 62, "drug": 20, "verdict": 24, "comment": 36, "adjudicated_by": 22}
_WIDTH = 16
_LINE_POINTS, _MAX_POINTS = 12.5, 409.0
_MAX_CHARACTERS = 32_767
"""What a cell of Excel holds; a row is never higher than _MAX_POINTS."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a sheet.

    Attributes:
        name: its header.
        hint: shown when the header is pointed at.
        answers: of its drop-down; () for free words.
        locked: shown, not to be changed.
    """

    name: str
    hint: str = ""
    answers: tuple[str, ...] = ()
    locked: bool = False


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV that spreadsheets open in the right encoding."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows({name: row.get(name, "") for name in columns} for row in rows)


def write_xlsx(
    path: Path, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], title: str, guide: str, about: bool
) -> None:
    """Write a workbook: instructions, items, and for raters a page about themselves.

    Args:
        path: to write.
        columns: of the items; those locked come first and stay in sight.
        rows: cells by column; what is left out is empty.
        title: of the file's properties.
        guide: Markdown of the first sheet.
        about: with the sheet "About you".

    Raises:
        ConfigError: openpyxl is not installed.
    """
    workbook = load_openpyxl().Workbook()
    workbook.properties.title, workbook.properties.creator = title, "rxdraft review"
    workbook.properties.created = workbook.properties.modified = _EPOCH
    verdict = next(place for place, column in enumerate(columns) if column.name == "verdict")
    _write_guide(workbook.active, guide, f"{_letter(verdict)}2:{_letter(verdict)}{len(rows) + 1}", len(rows))
    _write_items(workbook.create_sheet(ITEMS), columns, rows)
    if about:
        _write_about(workbook.create_sheet(ABOUT_SHEET))
    workbook.active = 0
    path.write_bytes(_packed(workbook))


def _write_guide(sheet: Worksheet, guide: str, answered: str, items: int) -> None:
    from openpyxl.styles import Alignment, Font

    sheet.title = "Instructions"
    sheet.column_dimensions["A"].width = 104
    sheet.sheet_view.showGridLines = False
    for place, paragraph in enumerate(_paragraphs(guide), 1):
        level = len(paragraph) - len(paragraph.lstrip("#"))
        cell = sheet.cell(place, 1, re.sub(r"^#+ ", "", paragraph).replace("**", ""))
        cell.alignment = Alignment(wrap_text=True, vertical="top", indent=0 if level else 1)
        cell.font = Font(size={1: 16, 2: 12}.get(level, 11), bold=bool(level))
        _set_height(sheet, place, [str(cell.value)], [100], 15.5 if not level else 22)
    sheet.cell(sheet.max_row + 2, 1, f'="Answered so far: "&COUNTA(Items!{answered})&" of {items}"').font = Font(
        bold=True
    )
    sheet.protection.sheet = True
    _set_page(sheet, "portrait")


def _paragraphs(guide: str) -> list[str]:
    """Return Markdown's headings, paragraphs and list items, each on one line."""
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.)\s)", guide.strip())
    return [("      " if block.startswith("  ") else "") + " ".join(block.split()) for block in blocks]


def _write_items(sheet: Worksheet, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    from openpyxl.worksheet.datavalidation import DataValidation

    _write_header(sheet, columns)
    for place, row in enumerate(rows, 2):
        texts = [_fitted(str(row.get(column.name, ""))) for column in columns]
        for number, (column, text) in enumerate(zip(columns, texts, strict=True), 1):
            _write_cell(sheet, place, number, column, text)
        _set_height(sheet, place, texts, [_WIDTHS.get(column.name, _WIDTH) for column in columns], _LINE_POINTS)
    for number, column in enumerate(columns):
        if column.answers and rows:
            choice = DataValidation(type="list", formula1=f'"{",".join(column.answers)}"', allow_blank=True)
            choice.showErrorMessage, choice.errorTitle = True, column.name
            choice.error = f"One of {', '.join(column.answers)}, or nothing."
            choice.add(f"{_letter(number)}2:{_letter(number)}{len(rows) + 1}")
            sheet.add_data_validation(choice)
    locked = sum(column.locked for column in columns)
    sheet.freeze_panes = f"{_letter(min(locked, len(SHOWN)))}2"
    sheet.protection.sheet = True
    sheet.protection.formatColumns = sheet.protection.formatRows = sheet.protection.autoFilter = False  # allowed
    sheet.auto_filter.ref = f"A1:{_letter(len(columns) - 1)}{len(rows) + 1}"
    sheet.print_title_rows = "1:1"
    _set_page(sheet, "landscape")


def _write_header(sheet: Worksheet, columns: Sequence[Column]) -> None:
    from openpyxl.comments import Comment
    from openpyxl.styles import Alignment, Font, PatternFill

    for number, column in enumerate(columns, 1):
        cell = sheet.cell(1, number, column.name)
        cell.font, cell.fill = Font(bold=True, color="FFFFFF"), PatternFill("solid", fgColor="1F5C8A")
        cell.alignment = Alignment(wrap_text=True, vertical="center")
        sheet.column_dimensions[_letter(number - 1)].width = _WIDTHS.get(column.name, _WIDTH)
        if column.hint:
            cell.comment = Comment(column.hint, "rxdraft", height=80, width=260)


def _write_cell(sheet: Worksheet, place: int, number: int, column: Column, text: str) -> None:
    from openpyxl.styles import Alignment, Border, Font, PatternFill, Protection, Side

    cell = sheet.cell(place, number)
    if text:
        cell.value, cell.data_type = text, "s"  # a drug that begins with "=" is no formula
    small = column.name in ("item_id", "chart")
    cell.font = Font(size=9 if small else 11, bold=column.name == "drug")
    cell.alignment = Alignment(wrap_text=True, vertical="top")
    cell.border = Border(*[Side("thin", color="D5DAE0")] * 4)
    cell.protection = Protection(locked=column.locked)
    if not column.locked:
        cell.fill = PatternFill("solid", fgColor="FFFBE6")


def _write_about(sheet: Worksheet) -> None:
    from openpyxl.styles import Font, PatternFill, Protection

    sheet.column_dimensions["A"].width, sheet.column_dimensions["B"].width = 26, 48
    hints = ("such as internist, clinical pharmacist", "in that profession", "such as 2026-11-21", "on this review")
    for place, (name, hint) in enumerate(zip(ABOUT, hints, strict=True), 1):
        sheet.cell(place, 1, name).font = Font(bold=True)
        answer = sheet.cell(place, 2)
        answer.protection, answer.fill = Protection(locked=False), PatternFill("solid", fgColor="FFFBE6")
        sheet.cell(place, 3, hint).font = Font(italic=True, color="57606A")
    sheet.protection.sheet = True


def _fitted(text: str) -> str:
    """Return a text that a cell can hold and show: no control characters, long lists of diagnoses run together."""
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    text = ILLEGAL_CHARACTERS_RE.sub("", text)
    if _lines(text, _WIDTHS["chart"]) * _LINE_POINTS > _MAX_POINTS:
        text = re.sub(r"\n- ", "; ", re.sub(r":\n- ", ": ", text))
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 20] + " … (cut)"


def _lines(text: str, width: float) -> int:
    """Return how many lines a wrapped text takes, nearly: a small font holds 1.15 characters a unit of width."""
    return sum(max(1, -(-len(line) // int(width * 1.15))) for line in text.split("\n"))


def _set_height(sheet: Worksheet, place: int, texts: Sequence[str], widths: Sequence[float], points: float) -> None:
    tallest = max(_lines(text, width) for text, width in zip(texts, widths, strict=True))
    sheet.row_dimensions[place].height = min(_MAX_POINTS, tallest * points + 4)


def _set_page(sheet: Worksheet, orientation: str) -> None:
    sheet.page_setup.orientation, sheet.page_setup.paperSize = orientation, "9"  # A4
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True


def _letter(place: int) -> str:
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(place + 1))


def _packed(workbook: Workbook) -> bytes:
    """Return the workbook's bytes without the time they were written at."""
    from openpyxl.writer.excel import ExcelWriter

    loose, packed = io.BytesIO(), io.BytesIO()
    ExcelWriter(workbook, zipfile.ZipFile(loose, "w")).save()  # save_workbook would stamp the time
    with zipfile.ZipFile(loose) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            part = zipfile.ZipInfo(name, _EPOCH.timetuple()[:6])
            target.writestr(part, source.read(name), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def load_openpyxl() -> Any:
    """Return the library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        raise ConfigError("review sheets need openpyxl: pip install 'rxdraft[review]'") from None
    return openpyxl
