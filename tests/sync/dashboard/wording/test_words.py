"""Words for what the registry says by a name."""

from __future__ import annotations

import re
from pathlib import Path

from sync.dashboard.wording import words
from sync.registry.watch.rules import load_rules

SYNC = Path(words.__file__).parents[2]
RAISED = re.compile(r'(?:Alarm|_second_history)\(\s*"([A-Z_]+)"')


def test_every_alarm_that_the_registry_raises_has_words_and_says_what_to_do() -> None:
    raised = {kind for path in SYNC.rglob("*.py") for kind in RAISED.findall(path.read_text())}
    raised |= {rule.name for rule in load_rules()}
    assert {"FORK", "GAP", "WORKER_CLOCK", "UNIT_SILENT"} <= raised
    for_any = words.what_to_do("A_RULE_OF_THE_SITES_OWN")
    assert [kind for kind in sorted(raised) if words.what_to_do(kind) == for_any] == []
