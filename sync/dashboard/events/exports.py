"""Exports of events: CSV that no spreadsheet takes for formulas, XLSX, JSON Lines. Rows stream; no cap."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
import xlsxwriter

from sync.dashboard.errors import RefusedError
from sync.dashboard.events.events_query import Filter, page, select
from sync.dashboard.site import places
from sync.dashboard.site.places import place_of
from sync.dashboard.wording import words
from sync.registry.database.store import Store

COLUMNS = (
    "time", "site", "zone", "door", "unit", "sequence", "what", "why", "kind", "reason", "person",
    "phrase_llr", "speaker_llr", "spoof_llr", "silent_alarm", "received",
)  # fmt: skip
BATCH = 2000
SHEET_ROWS = 1_048_575
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def rows(store: Store, wanted: Filter, scopes: Sequence[str], zone: dt.tzinfo) -> Iterator[dict[str, Any]]:
    """Every event of a filter, newest first, a page at a time."""
    before = ""
    with store.reading() as db:
        known = places.load(db)
    while True:
        with store.reading() as db:
            found = page(db, wanted, scopes, zone, before, limit=BATCH)
        for row in found.rows:
            place = place_of(known, row.unit, row.door)
            yield {
                "time": _time(row.time_ms, zone),
                "site": place.site,
                "zone": place.zone_label,
                "door": place.label,
                "unit": row.unit,
                "sequence": row.sequence,
                "what": words.kind(row.kind).short,
                "why": words.reason(row.reason),
                "kind": row.kind,
                "reason": row.reason,
                "person": row.person or "",
                "phrase_llr": row.phrase_llr,
                "speaker_llr": row.speaker_llr,
                "spoof_llr": row.spoof_llr,
                "silent_alarm": bool(row.silent_alarm),
                "received": _time(row.received_ms, zone),
            }
        if found.older is None:
            return
        before = found.older


def count(db: sa.Connection, wanted: Filter, scopes: Sequence[str], zone: dt.tzinfo) -> int:
    """How many events a filter finds: what the journal says before they leave."""
    inner = select(wanted, scopes, zone).order_by(None).subquery()
    return int(db.execute(sa.select(sa.func.count()).select_from(inner)).scalar_one())


def as_csv(found: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    for row in found:
        writer.writerow({name: plain(value) for name, value in row.items()})
        if buffer.tell() > 32_768:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def plain(value: Any) -> Any:
    """A text that a spreadsheet shows as it is: one that could be a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def as_json(found: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for row in found:
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def as_xlsx(found: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """A workbook, written row by row to a file. Raises RefusedError when a sheet cannot hold them."""
    with tempfile.TemporaryFile(prefix="ostiary-export-") as file:
        # `strings_to_*` off: a text stays a text, whatever it begins with.
        options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        with xlsxwriter.Workbook(file, options) as book:
            sheet = book.add_worksheet("Events")
            bold = book.add_format({"bold": True})
            sheet.freeze_panes(1, 0)
            sheet.set_column(0, 0, 20)
            sheet.set_column(3, 3, 28)
            sheet.set_column(6, 7, 24)
            sheet.write_row(0, 0, COLUMNS, bold)
            for number, row in enumerate(found, start=1):
                if number > SHEET_ROWS:
                    raise RefusedError("A sheet holds 1,048,575 events. Narrow the dates, or take CSV.")
                for column, name in enumerate(COLUMNS):
                    value = row[name]
                    if isinstance(value, str):
                        sheet.write_string(number, column, value)
                    elif value is not None:
                        sheet.write(number, column, value)
        file.seek(0)
        while chunk := file.read(65_536):
            yield chunk


def _time(ms: int, zone: dt.tzinfo) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, zone).isoformat(timespec="milliseconds")
