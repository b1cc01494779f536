"""A database of an earlier version: brought up to date with everything that is in it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync.errors import SyncError
from sync.event_form import read_event
from sync.events import Record, unit_id
from sync.registry.database import migrations, schema
from sync.registry.database.event_rows import event_row
from sync.registry.database.store import EVENT_COLUMNS, Store
from sync.registry.reports import export
from tests.sync.parts import START_MS, event
from tests.sync.registry.ingest.test_ingest import Registry, Unit, cluster, registry, some

__all__ = ["cluster", "registry"]


@pytest.mark.parametrize("version", range(1, len(migrations.MIGRATIONS)))
def test_rows_of_every_earlier_version_stay_and_new_ones_join_them(registry: Registry, version: int) -> None:
    url = registry.store.engine.url.render_as_string(hide_password=False)
    with registry.store.transaction() as db:
        names = sa.inspect(db).get_table_names()
        for name in ["events", *(n for n in names if not n.startswith("events"))]:
            db.execute(sa.text(f"DROP TABLE {name}"))
    body = Record(unit_id("old/unit"), 1, event(1)).to_bytes()
    row = dict(zip(EVENT_COLUMNS, event_row(read_event(body), body, START_MS), strict=True))
    with registry.store.transaction() as db:
        assert migrations.migrate(db, migrations.MIGRATIONS[:version]) == version
        there = {column["name"] for column in sa.inspect(db).get_columns("events")}
        row = {name: value for name, value in row.items() if name in there}
        if registry.store.partitioned:
            month = row["month"]
            limits = f"FOR VALUES FROM ({month}) TO ({month + 1})"
            db.execute(sa.text(f"CREATE TABLE events_{month} PARTITION OF events {limits}"))
        marks = ", ".join(f":{name}" for name in row)
        insert = f"INSERT INTO events ({', '.join(row)}) VALUES ({marks})"  # noqa: S608 - names of columns
        db.execute(sa.text(insert), row)
    made = Registry(url)
    unit = made.register(Unit())
    assert made.take(unit.batch(some(1, 3)))[0].size == 3
    exported = list(export.rows(made.store))
    assert [(line["unit"], line["silent_alarm"]) for line in exported] == [
        ("old/unit", False),
        *[(unit.unit, False)] * 3,
    ]
    made.store.close()


def test_a_database_of_a_later_version_is_left_alone(registry: Registry) -> None:
    url = registry.store.engine.url.render_as_string(hide_password=False)
    with registry.store.transaction() as db:
        db.execute(sa.text("INSERT INTO schema_version VALUES (999)"))
    with pytest.raises(SyncError, match="newer version"):
        Store.open(url)


def test_the_tables_that_migrations_make_are_those_that_queries_are_written_for(registry: Registry) -> None:
    with registry.store.reading() as db:
        found = sa.inspect(db)
        for table in schema.metadata.sorted_tables:
            columns = {column["name"]: column for column in found.get_columns(table.name)}
            assert set(columns) == {column.name for column in table.columns}, table.name
            for column in table.columns:
                kind = columns[column.name]["type"]._type_affinity
                assert issubclass(kind, column.type._type_affinity), f"{table.name}.{column.name}"
                if not column.primary_key:
                    assert columns[column.name]["nullable"] == column.nullable, f"{table.name}.{column.name}"
            keys = found.get_pk_constraint(table.name)["constrained_columns"]
            assert keys == [column.name for column in table.primary_key.columns], table.name
            indexes = {index["name"]: index["column_names"] for index in found.get_indexes(table.name)}
            assert indexes == {i.name: [c.name for c in i.columns] for i in table.indexes}, table.name
