"""From a rules file to Rules: every mistake reported at once, each with its place and the nearest key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import time
from pathlib import Path

from device.access.badges import BadgeError, CardBits, CardError, badge_number
from device.access.challenge import ChallengeSettings, Style, lacks
from device.access.decision import DEFAULT_FACTORS, Factor
from device.access.memory.remembered import LIMITS_WITH_LIVENESS, AttemptLimits
from device.access.policy import QualityLimits, Thresholds
from device.access.rules.levels import LEVELS
from device.access.rules.model import (
    CHOSEN,
    ENROLLED,
    EVERY_DAY,
    Door,
    Permission,
    Person,
    RiskClass,
    Rules,
    Schedule,
)
from device.access.rules.reader import Reader
from device.errors import DeviceError
from device.evidence.phrase import normalise, unsayable
from device.evidence.vocabulary import Language
from device.liveness.evidence import NAMES as BESIDE
from sync.person_id import PersonIdError, person_id
from sync.plain_file import open_plain
from sync.plain_words import why
from sync.toml_table import toml_table

MAX_RULES_BYTES = 4 * 1024 * 1024
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DURESS_BYTES = 16
OPERATING_POINTS = ("bpcer_1", "bpcer_3", "bpcer_5")
"""Of the spoof detector: this many live people in a hundred refused, on its calibration part."""
_DOOR_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")  # as audit events want it


class RulesError(DeviceError):
    """The rules file is wrong, so the old rules stay in force; `mistakes` lists every one."""

    def __init__(self, mistakes: list[str]) -> None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{count} in the rules: {'; '.join(mistakes)}")
        self.mistakes = tuple(mistakes)


def load_rules(path: Path) -> Rules:
    """The rules in `path`. Raises RulesError."""
    try:
        with open_plain(path) as file:
            text = file.read(MAX_RULES_BYTES + 1)
    except OSError as err:
        raise RulesError([f"cannot read {path}: {why(err)}"]) from err
    if len(text) > MAX_RULES_BYTES:
        raise RulesError([f"{path} is larger than {MAX_RULES_BYTES // 1024} KiB"])
    try:
        return parse_rules(text.decode("utf-8"))
    except UnicodeDecodeError as err:
        raise RulesError([f"{path} is not UTF-8 text"]) from err


def parse_rules(text: str) -> Rules:
    """The rules in `text`. Raises RulesError."""
    try:
        table = toml_table(text)
    except ValueError as err:
        raise RulesError([f"not a TOML file: {err}"]) from err
    mistakes: list[str] = []
    rules = read_rules(Reader(table, "", mistakes))
    if mistakes:
        raise RulesError(mistakes)
    return rules


def read_rules(top: Reader) -> Rules:
    version = top.whole("version", 0, 0, 2**53)
    if not top.has("version"):
        top.wrong("version", "is missing; raise it with every change, the audit log names it")
    calendar = top.table("calendar")
    holidays, zone = calendar.dates("holidays"), calendar.zone("time_zone")
    calendar.finish()
    schedules = {name: _schedule(name, reader) for name, reader in top.each("schedules")}
    risks = {name: _risk(name, reader) for name, reader in top.each("risks")}
    everywhere = top.table("thresholds")
    risks = {name: _with(everywhere, risk) for name, risk in risks.items()}
    everywhere.finish()
    if not risks:
        top.wrong("risks", "is empty; a door needs a risk class that says what it asks for")
    zones = {name: _zone_tags(reader) for name, reader in top.each("zones")}
    doors = {name: _door(name, reader, zones, risks) for name, reader in top.each("doors")}
    if not doors:
        top.wrong("doors", "is empty; name at least one door")
    permissions = tuple(_permission(reader, zones, doors, risks, schedules) for reader in top.listed("allow"))
    if not permissions:
        top.wrong("allow", "is empty; nobody could pass any door")
    roles = {role for permission in permissions for role in permission.roles} | {ENROLLED}
    lock_down = top.table("lock_down")
    lock_down_roles = lock_down.texts("roles", roles)
    lock_down.finish()
    known = roles | lock_down_roles
    people = {uid: _person(uid, reader, known, risks.values()) for uid, reader in top.each("people")}
    people = _normal(top, people)
    _unique(top, people)
    admit_unlisted = top.flag("admit_unlisted")
    top.finish()
    return Rules(
        version=version,
        doors=doors,
        risks=risks,
        permissions=permissions,
        people=people,
        schedules=schedules,
        holidays=holidays,
        time_zone=zone,
        admit_unlisted=admit_unlisted,
        lock_down_roles=lock_down_roles,
    )


def _schedule(name: str, reader: Reader) -> Schedule:
    days = frozenset(DAYS.index(day) for day in reader.texts("days", DAYS)) or EVERY_DAY
    schedule = Schedule(
        name,
        days,
        reader.clock("from", time(0, 0)),
        reader.clock("to", time(0, 0)),
        reader.flag("on_holidays", default=True),
    )
    reader.finish()
    return schedule


def _risk(name: str, reader: Reader) -> RiskClass:
    level = reader.text("level", "", LEVELS)
    base = replace(LEVELS[level], name=name) if level else RiskClass(name)
    factors = frozenset(Factor(factor) for factor in reader.texts("factors", [str(f) for f in Factor]))
    if not reader.has("factors"):
        factors = DEFAULT_FACTORS
    voice_alone = reader.flag("voice_alone")
    if not factors - {Factor.CLAIM}:
        reader.wrong("factors", "must name at least one of phrase, voice and live")
    elif Factor.VOICE in factors and not factors & {Factor.CLAIM, Factor.PHRASE} and not voice_alone:
        reader.wrong("factors", "makes the voice the only factor; say `voice_alone = true` if that is meant")
    elif Factor.VOICE not in factors:
        reader.wrong("factors", "leaves out `voice`; then anybody may pass")
    found = RiskClass(
        name=name,
        factors=factors,
        thresholds=_thresholds(reader.table("thresholds"), base.thresholds),
        quality=_quality(reader.table("quality")),
        attempts=_attempts(reader.table("attempts"), base.attempts, Factor.LIVE in factors),
        challenge=_challenge(reader.table("challenge"), base.challenge),
        identify_margin_llr=reader.number("identify_margin_llr", base.identify_margin_llr, 0.0, 12.0),
        opens_with_full_log=reader.flag("opens_with_full_log"),
        voices_follow=reader.flag("voices_follow", default=base.voices_follow),
        level=level,
    )
    reader.finish()
    return found


def _with(reader: Reader, risk: RiskClass) -> RiskClass:
    """`risk` with the thresholds that stand for every class of the file."""
    names = [name for name in ("phrase_llr", "voice_llr", "live_llr") if reader.has(name)]
    given = {name: reader.number(name, 0.0, -12.0, 12.0) for name in names}
    point = "" if "live_llr" in given else risk.thresholds.live_point
    return replace(risk, thresholds=replace(risk.thresholds, **given, live_point=point))


def _thresholds(reader: Reader, base: Thresholds) -> Thresholds:
    beside = {
        name: reader.number(name, 0.0, -12.0, 12.0) if reader.has(name) else getattr(base, name)
        for name in BESIDE
    }
    live = reader.text("live", "", OPERATING_POINTS)
    if live and reader.has("live_llr"):
        reader.wrong("live", "and `live_llr` say the same thing twice; keep one")
    found = Thresholds(
        phrase_llr=reader.number("phrase_llr", base.phrase_llr, -12.0, 12.0),
        voice_llr=reader.number("voice_llr", base.voice_llr, -12.0, 12.0),
        live_llr=reader.number("live_llr", base.live_llr, -12.0, 12.0),
        step_up_margin_llr=reader.number("step_up_margin_llr", base.step_up_margin_llr, 0.0, 6.0),
        joins_doubt_llr=reader.number("joins_doubt_llr", base.joins_doubt_llr, 0.0, 6.0),
        live_point=live,
        **beside,
    )
    reader.finish()
    return found


def _quality(reader: Reader) -> QualityLimits:
    base = QualityLimits()
    found = QualityLimits(
        min_speech_s=reader.number("min_speech_s", base.min_speech_s, 0.0, 10.0),
        min_snr_db=reader.number("min_snr_db", base.min_snr_db, -10.0, 60.0),
        max_clipped_fraction=reader.number("max_clipped_fraction", base.max_clipped_fraction, 0.0, 1.0),
        min_bandwidth_hz=reader.number("min_bandwidth_hz", base.min_bandwidth_hz, 0.0, 8_000.0),
    )
    reader.finish()
    return found


def _attempts(reader: Reader, base: AttemptLimits, live: bool) -> AttemptLimits:
    most = LIMITS_WITH_LIVENESS if live else AttemptLimits()
    if base.free_failures > most.free_failures:
        base = most
    free = reader.whole("free_failures", base.free_failures, 1, most.free_failures)
    first_wait_s = reader.number("first_wait_s", base.first_wait_s, 30.0, 86_400.0)
    longest_wait_s = reader.number("longest_wait_s", base.longest_wait_s, 30.0, 86_400.0)
    disable_after = reader.whole("disable_after", base.disable_after, 2, most.disable_after)
    reader.finish()
    try:
        return AttemptLimits(free, first_wait_s, longest_wait_s, disable_after)
    except ValueError as err:
        reader.wrong("free_failures", f"and the others do not fit together: {err}")
        return base


def _challenge(reader: Reader, base: ChallengeSettings) -> ChallengeSettings:
    found = ChallengeSettings(
        style=Style(reader.text("style", str(base.style), [str(style) for style in Style]) or base.style),
        words=reader.whole("words", base.words, 3, 10),
        digits=reader.whole("digits", base.digits, 4, 12),
        lifetime_s=reader.number("lifetime_s", base.lifetime_s, 2.0, 120.0),
    )
    reader.finish()
    return found


def _zone_tags(reader: Reader) -> frozenset[str]:
    tags = reader.texts("tags")
    reader.finish()
    return tags


def _door(
    name: str, reader: Reader, zones: Mapping[str, frozenset[str]], risks: Mapping[str, RiskClass]
) -> Door:
    zone = reader.text("zone", choices=zones)
    second_s = reader.number("two_persons_within_s", 30.0, 5.0, 300.0)
    passback_s = reader.number("anti_passback_s", 60.0, 1.0, 86_400.0)
    if not _DOOR_NAME.fullmatch(name):
        reader.wrong("zone", "is of a door whose name is not 1 to 32 lower-case letters, digits and dashes")
    door = Door(
        name,
        zone,
        reader.text("risk", choices=risks),
        reader.texts("tags") | zones.get(zone, frozenset()),
        second_s if reader.has("two_persons_within_s") else None,
        passback_s if reader.has("anti_passback_s") else None,
        reader.flag("fire_release"),
        reader.flag("may_be_held"),
    )
    reader.finish()
    return door


def _permission(
    reader: Reader,
    zones: Mapping[str, frozenset[str]],
    doors: Mapping[str, Door],
    risks: Mapping[str, RiskClass],
    schedules: Mapping[str, Schedule],
) -> Permission:
    tags = {tag for door in doors.values() for tag in door.tags}
    roles = reader.texts("roles")
    if not roles:
        reader.wrong("roles", "must name at least one role")
    permission = Permission(
        roles,
        reader.texts("zones", zones),
        reader.texts("doors", doors),
        reader.texts("tags", tags),
        reader.texts("risks", risks),
        reader.text("schedule", "", schedules) or None,
    )
    reader.finish()
    return permission


def _person(uid: str, reader: Reader, roles: Iterable[str], risks: Iterable[RiskClass]) -> Person:
    valid_from, valid_until = reader.moment("valid_from"), reader.moment("valid_until")
    if valid_from and valid_until and valid_until <= valid_from:
        reader.wrong("valid_until", "is not after valid_from")
    person = Person(
        uid,
        reader.texts("roles", roles),
        reader.texts("badges"),
        reader.text("spoken", "") or None,
        valid_from,
        valid_until,
        reader.flag("disabled"),
        _duress(reader),
        _card(reader),
        reader.number("unlock_s", 5.0, 0.5, 60.0) if reader.has("unlock_s") else None,
        Style(reader.text("says", CHOSEN[0], CHOSEN) or CHOSEN[0]) if reader.has("says") else None,
        reader.number("begin_within_s", 20.0, 2.0, 120.0) if reader.has("begin_within_s") else None,
        _phrases(reader, risks),
    )
    reader.finish()
    return person


def _phrases(reader: Reader, risks: Iterable[RiskClass]) -> Language | None:
    language = Language(reader.text("phrases", "en", [str(one) for one in Language]) or "en")
    for risk in risks:
        if why := lacks(risk.challenge.style, language):
            reader.wrong("phrases", f"is `{language}`, and the class {risk.name} cannot ask so: {why}")
    return language if reader.has("phrases") else None


def _card(reader: Reader) -> str:
    written = reader.text("card", "")
    if not written:
        return ""
    try:
        return str(CardBits.parse(written))
    except CardError as err:
        reader.wrong("card", f"cannot be a card: {err}")
        return ""


def _duress(reader: Reader) -> tuple[bytes, ...]:
    """One text, or one for each unit that has these rules."""
    digests = []
    for text in sorted(reader.texts_or_text("duress")):
        try:
            digests.append(bytes.fromhex(text))
        except ValueError:
            digests.append(b"")
    if any(len(digest) != DURESS_BYTES for digest in digests):
        reader.wrong("duress", "must be what `ostiary policy duress` printed, never the word itself")
        return ()
    return tuple(digests)


def _normal(top: Reader, people: Mapping[str, Person]) -> dict[str, Person]:
    """Everybody under the normal form of their id."""
    found: dict[str, Person] = {}
    for written, person in people.items():
        try:
            uid = person_id(written)
        except PersonIdError as err:
            top.wrong(f"people.{written}", f"is no person's id: {err}")
            continue
        if uid in found:
            top.wrong(f"people.{written}", f"is the same id as `{found[uid].written}`; keep one")
        else:
            found[uid] = replace(person, uid=uid, written=written)
    return found


def _unique(top: Reader, people: Mapping[str, Person]) -> None:
    """One badge or spoken number names one person, however it is written; a person's uid is a badge too."""
    owners: dict[str, tuple[str, str]] = {}
    shown = {uid: person.written for uid, person in people.items()}
    for uid, person in people.items():
        claims: list[tuple[str, str, str]] = []
        for badge in sorted(person.badges):
            try:
                claims.append((f"badge {badge_number(badge)}", "badge", badge))
            except BadgeError as err:
                top.wrong(f"people.{shown[uid]}.badges", f"has `{badge}`, which no reader can send: {err}")
        if person.spoken:
            said, letter = " ".join(normalise(person.spoken)), unsayable(person.spoken)
            if letter:
                wrong = (
                    f"is `{person.spoken}`, which holds {letter!a}, a letter or sign that is not listened for"
                )
                top.wrong(f"people.{shown[uid]}.spoken", f"{wrong}; write it as in English")
            elif said:
                claims.append((f"spoken {said}", "spoken", person.spoken))
            else:
                top.wrong(f"people.{shown[uid]}.spoken", f"is `{person.spoken}`, which holds no words")
        for claim, kind, written in claims:
            owner, before = owners.setdefault(claim, (uid, written))
            if owner != uid:
                same = "" if before == written else f" (`{before}`, which is the same)"
                top.wrong(f"people.{shown[uid]}", f"has the {kind} `{written}` of `{shown[owner]}`{same}")
    for uid in people:
        try:
            owner, written = owners.get(f"badge {badge_number(uid)}", (uid, ""))
        except BadgeError:
            continue
        if owner != uid:
            top.wrong(
                f"people.{shown[owner]}", f"has the badge `{written}`, which is the uid of `{shown[uid]}`"
            )
    for claim, (owner, written) in owners.items():
        said = claim.removeprefix("spoken ").replace(" ", "")
        if claim.startswith("spoken ") and said.isdigit() and people.get(said, people[owner]).uid != owner:
            top.wrong(f"people.{shown[owner]}", f"says `{written}`, which is the uid of `{shown[said]}`")
