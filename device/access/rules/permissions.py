"""Whether the rules let a person through a door now. Pure; the voice has been checked elsewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from device.access.decision import Decision, Notice, Outcome, Reason, fault
from device.access.memory.visits import Visit
from device.access.rules.model import ENROLLED, Door, Permission, Person, Rules, Schedule


def refusal(
    rules: Rules,
    door: Door,
    uid: str,
    at: datetime,
    *,
    clock_behind: bool = False,
    visit: Visit | None = None,
) -> Decision | None:
    """Why `uid` may not pass `door` at `at`, or None when a permission covers it. `at` is the highest time
    known. With `clock_behind` the door stays locked for whatever depends on the time and has not ended by
    then. A `visit` only narrows the rules."""
    person = rules.person(uid)
    if person is None:
        return _no(Outcome.DENIED_UNKNOWN, Reason.NO_SUCH_PERSON, "the rules do not know this person")
    if visit is not None:
        person = _narrowed(person, visit)
    if person.disabled:
        return _no(Outcome.DENIED_RULE, Reason.PERSON_DISABLED, "this person is disabled in the rules")
    dated = person.valid_from is not None or person.valid_until is not None
    if clock_behind and dated and not (person.valid_until and at >= person.valid_until):
        return _clock_behind()
    if person.valid_from and at < person.valid_from:
        return _no(
            Outcome.DENIED_SCHEDULE,
            Reason.VISIT_NOT_BEGUN,
            f"access begins at {person.valid_from.isoformat()}",
            Notice.NOT_NOW,
        )
    if person.valid_until and at >= person.valid_until:
        return _no(
            Outcome.DENIED_SCHEDULE,
            Reason.VISIT_ENDED,
            f"access ended at {person.valid_until.isoformat()}",
            Notice.SEE_ADMIN,
        )
    covering = [p for p in rules.permissions if covers(p, door, person)]
    if not covering:
        return _no(
            Outcome.DENIED_RULE,
            Reason.NOT_ALLOWED,
            f"no permission covers {door.name} for roles {', '.join(sorted(roles_of(person)))}",
        )
    if any(permission.schedule is None for permission in covering):
        return None
    if clock_behind:
        return _clock_behind()
    local = at.astimezone(rules.time_zone)
    for permission in covering:
        if permission.schedule is not None and open_at(rules, rules.schedules[permission.schedule], local):
            return None
    names = ", ".join(sorted({p.schedule for p in covering if p.schedule}))
    return _no(
        Outcome.DENIED_SCHEDULE,
        Reason.OUTSIDE_SCHEDULE,
        f"{local:%a %H:%M} is outside {names}",
        Notice.NOT_NOW,
    )


def _narrowed(person: Person, visit: Visit) -> Person:
    """The same person with the later beginning and the earlier end."""
    begins, ends = (datetime.fromtimestamp(s, UTC) for s in (visit.begins_s, visit.ends_s))
    return replace(
        person,
        valid_from=max(begins, person.valid_from or begins),
        valid_until=min(ends, person.valid_until or ends),
    )


def may_ever_pass(rules: Rules, door: Door, uid: str) -> bool:
    """Whether `uid` may pass `door` at some hour: who is searched among where nobody is claimed."""
    person = rules.person(uid)
    if person is None or person.disabled:
        return False
    return any(covers(permission, door, person) for permission in rules.permissions)


def roles_of(person: Person) -> frozenset[str]:
    return person.roles | {ENROLLED}


def covers(permission: Permission, door: Door, person: Person) -> bool:
    """Whether a permission speaks of this door and one of this person's roles, whatever the hour."""
    return bool(permission.roles & roles_of(person)) and speaks_of(permission, door)


def speaks_of(permission: Permission, door: Door) -> bool:
    """Whether a permission is about this door."""
    return (
        (not permission.zones or door.zone in permission.zones)
        and (not permission.doors or door.name in permission.doors)
        and (not permission.risks or door.risk in permission.risks)
        and permission.tags <= door.tags
    )


def open_at(rules: Rules, schedule: Schedule, local: datetime) -> bool:
    """Whether `local` lies in the schedule. A night shift belongs to the day on which it began."""
    clock = local.time()
    if schedule.begins < schedule.ends:
        return schedule.begins <= clock < schedule.ends and _day_counts(rules, schedule, local)
    if clock >= schedule.begins and _day_counts(rules, schedule, local):
        return True
    return clock < schedule.ends and _day_counts(rules, schedule, local - timedelta(days=1))


def _day_counts(rules: Rules, schedule: Schedule, day: datetime) -> bool:
    holiday = day.date() in rules.holidays
    return day.weekday() in schedule.days and (schedule.on_holidays or not holiday)


def _clock_behind() -> Decision:
    return fault(
        Reason.CLOCK_BEHIND,
        "this unit's clock lies behind a time that it has seen, so hours and visits cannot be judged: set "
        "the clock, or, if it is right, `ostiary policy trust-clock`",
    )


def _no(outcome: Outcome, code: Reason, reason: str, notice: Notice = Notice.NOT_HERE) -> Decision:
    return Decision(outcome, code, reason, notice)
