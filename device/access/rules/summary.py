"""What a rules file means, in lines that an admin can check against what they meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from device.access.badges import BadgeError, badge_number
from device.access.challenge import Style, pieces_to_paste
from device.access.decision import Factor
from device.access.rules.model import ENROLLED, Door, Permission, Person, Rules, Schedule
from device.access.rules.permissions import roles_of, speaks_of

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def summary(rules: Rules) -> Iterator[str]:
    """One line for the file, one for each door."""
    yield (
        f"rules {rules.version} are in order: {len(rules.doors)} doors, {len(rules.risks)} risk classes, "
        f"{len(rules.permissions)} permissions, {len(rules.people)} people."
    )
    for door in rules.doors.values():
        yield f"  {door.name}: {_asks(rules, door)}; {_who(rules, door)}."


def remarks(rules: Rules, now: datetime) -> Iterator[str]:
    """What is allowed and may not be meant."""
    held = {role for person in _enabled(rules) for role in roles_of(person)}
    for door in rules.doors.values():
        risk = rules.risks[door.risk]
        if not any(
            speaks_of(permission, door) and permission.roles & held for permission in rules.permissions
        ):
            yield f"nobody can pass {door.name}"
        if Factor.LIVE not in risk.factors:
            yield f"{door.name} does not ask for a live voice: a recording of the right words would do"
        if Factor.CLAIM not in risk.factors:
            yield f"{door.name} recognises people without a claim: the voice alone says who it is"
    held = {role for person in rules.people.values() for role in person.roles} | {ENROLLED}
    for role in sorted({role for permission in rules.permissions for role in permission.roles} - held):
        yield f"nobody has the role {role}"
    for uid, person in rules.people.items():
        if person.valid_until is not None and person.valid_until <= now:
            yield f"the access of {person.written or uid} has ended ({person.valid_until:%Y-%m-%d %H:%M})"
        if not (person.badges or person.spoken) and not _is_sent(uid):
            yield (
                f"no reader can send the id of {person.written or uid}, who has no badge and no spoken "
                "name or number: a door that asks for a claim never hears of them"
            )
        worded = [risk.challenge for risk in rules.risks.values() if risk.challenge.style is Style.WORDS]
        if person.says is Style.DIGITS and worded:
            before, now_said = (pieces_to_paste(one) for one in (worded[0], person.challenge(worded[0])))
            yield (
                f"{person.written or uid} says digits: {now_said} recorded pieces of their voice make every "
                f"second phrase, where {before} words would be needed"
            )


def _is_sent(uid: str) -> bool:
    try:
        return bool(badge_number(uid))
    except BadgeError:
        return False


def _asks(rules: Rules, door: Door) -> str:
    risk = rules.risks[door.risk]
    asks = [", ".join(str(factor) for factor in Factor if factor in risk.factors)]
    if door.two_persons_within_s is not None:
        asks.append(f"two people within {door.two_persons_within_s:.0f} s")
    if door.anti_passback_s is not None:
        asks.append(f"not twice within {door.anti_passback_s:.0f} s")
    if door.fire_release:
        asks.append("released by the fire input")
    if door.may_be_held:
        asks.append("may be held unlocked by a signed command")
    level = f" (level {risk.level})" if risk.level not in ("", risk.name) else ""
    return f"zone {door.zone}, risk {door.risk}{level}: {'; '.join(asks)}"


def _who(rules: Rules, door: Door) -> str:
    granted = [_granted(rules, permission) for permission in rules.permissions if speaks_of(permission, door)]
    return f"for {'; '.join(granted)}" if granted else "for nobody"


def _granted(rules: Rules, permission: Permission) -> str:
    roles = ", ".join(sorted(permission.roles))
    return f"{roles} {_hours(rules.schedules[permission.schedule])}" if permission.schedule else roles


def _hours(schedule: Schedule) -> str:
    days = "" if len(schedule.days) == 7 else " ".join(_DAYS[day] for day in sorted(schedule.days)) + " "
    holidays = "" if schedule.on_holidays else ", not on holidays"
    return f"({days}{schedule.begins:%H:%M}-{schedule.ends:%H:%M}{holidays})"


def _enabled(rules: Rules) -> Iterator[Person]:
    people = [*rules.people.values(), *([Person("")] if rules.admit_unlisted else [])]
    return (person for person in people if not person.disabled)
