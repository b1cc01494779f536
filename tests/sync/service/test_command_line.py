"""Tables of the command lines show what people wrote as they wrote it."""

from __future__ import annotations

import pytest

from sync.service.command_line import show


@pytest.mark.parametrize(
    "written", ["case [4711]", "[ticket 7] asked by the ward", "see [/records]", "[bold]x"]
)
def test_what_somebody_wrote_stands_in_a_table_as_it_was_written(
    written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show([{"why": written}], {"about": lambda row: row["why"]}, as_json=False)
    assert written in capsys.readouterr().out
