"""From a claim to a unit that speaks, and back out: real TPMs, a real broker, a real service."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import TPMA_OBJECT

from device.cli import cli
from device.secure_store import open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import load
from device.uplink.network import Network
from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.provisioning import claims
from sync.fleet.provisioning.claim import Claim
from sync.fleet.provisioning.guard import Guard, reload_by_pid
from sync.fleet.provisioning.messages import BEGIN_PATH, FINISH_PATH, RENEW_PATH, Challenge, Refusal
from sync.fleet.provisioning.tpm.proof import read_key
from sync.outbox import Outbox
from sync.registry.database.schema import certificates, identities
from sync.registry.reports import status
from sync.registry.watch.anomalies import Detector
from sync.registry.watch.rules import load_rules
from sync.service.command_line import wall_ms
from sync.transport.mqtt import LinkSettings, Reactor
from tests.device.uplink.test_admission import Box, Maker, soft_key
from tests.e2e.site_world import OSTIARY, RULES, SiteWorld, Unit, eventually, site_world
from tests.sync.parts import Clock, event
from tests.sync.services import NOW

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ICU, LAB = "st-mary/icu-2", "st-mary/lab-1"


@pytest.fixture(scope="module")
def site() -> Iterator[SiteWorld]:
    with site_world() as world:
        world.start(worker=True)
        yield world


@pytest.fixture(scope="module")
def unit(site: SiteWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unit]:
    """A unit that was provisioned, with rules and a tenant's key from the desk."""
    folder = tmp_path_factory.mktemp("unit")
    rules, key = folder / "rules.toml", folder / "tenant.key"
    rules.write_text(RULES)
    key.write_bytes(os.urandom(32))
    with SwTpm(folder / "swtpm") as tpm:
        made = Unit(folder, tpm)
        made.set_up(ICU)
        claim = site.claim(ICU, "--rules", str(rules), "--tenant-key", str(key))
        said = made.ostiary("provision", claim)
        assert "Rules 1: they are in force when the unit starts." in said
        assert key.read_bytes().hex() not in site.folder.joinpath("registry.db").read_bytes().hex()
        yield made


def write_events(unit: Unit, count: int) -> None:
    """As the door process does, with the TPM's counter."""
    settings = load(unit.config)
    with open_store(unit.state, settings.store) as store:
        counter, never_used = store.keystore.counter("audit"), store.never_used("audit")
        log = unit.state / "audit" / "outbox.db"
        said = {"counter": counter, "never_used": never_used}
        with Outbox(log, unit=ICU, doors=("pharmacy",), now_ms=Clock(), **said) as outbox:
            boot = outbox.next_boot()
            for number in range(1, count + 1):
                outbox.append(event(number, boot=boot, keystore="tpm", door="pharmacy"))


def test_a_provisioned_unit_sends_over_tls_with_a_key_that_only_its_tpm_has(
    site: SiteWorld, unit: Unit
) -> None:
    write_events(unit, 5)
    unit.ostiary("sync", "--once")
    with closing(site.store()) as store:
        (row,) = status.unit_statuses(store, wall_ms())
        (known,) = claims.admitted(store)
    assert (row.unit, row.size) == (ICU, 5)
    assert json.loads(unit.ostiary("provision", "--status"))["tpm"] == known.tpm
    files = [path.read_bytes() for path in unit.state.rglob("*") if path.is_file()]
    own_authority = 1  # a laptop approves its own machine state; that key is no key to the network
    assert sum(b"PRIVATE KEY" in data for data in files) == own_authority


def test_a_unit_whose_certificate_ran_out_long_ago_renews_it_and_sends(site: SiteWorld, unit: Unit) -> None:
    network = Network(unit.state)
    place = network.place()
    assert place is not None
    key = place.certificate().public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    authority = site.site.authority(NOW)
    old = authority.sign(key, ICU, NOW - dt.timedelta(days=400))
    network.save(place.renewed(authority.chained(old)))
    write_events(unit, 3)
    unit.ostiary("sync", "--once")
    with closing(site.store()) as store:
        assert status.unit_statuses(store, wall_ms())[0].size == 8
    renewed = network.place()
    assert renewed is not None
    assert renewed.days_left(wall()) > 80


def test_another_site_and_a_claim_of_another_site_are_refused_in_one_line(
    site: SiteWorld, unit: Unit, tmp_path: Path
) -> None:
    host, _, fragment = site.claim(LAB).partition("#")
    pin, _, secret = fragment.partition(".")
    stranger = Unit(tmp_path, unit.tpm)
    stranger.set_up(LAB)
    assert "is not the site of this claim" in stranger.ostiary(
        "provision", f"{host}#{'A' * 43}.{secret}", expect=3
    )
    unit.set_up(LAB)
    try:
        said = unit.ostiary("provision", f"{host}#{pin}.{'A' * 27}", expect=1)
    finally:
        unit.set_up(ICU)
    assert said.splitlines()[-1] == "ostiary: this site made no such claim; ask its desk for one"


def test_a_unit_killed_while_it_is_provisioned_is_provisioned_by_the_same_command(
    site: SiteWorld, tmp_path: Path
) -> None:
    with SwTpm(tmp_path / "swtpm") as tpm:
        unit = Unit(tmp_path, tpm)
        unit.set_up(LAB)
        command = [*OSTIARY, "provision", site.claim(LAB)]
        for said in ("keys made in the TPM", "the TPM proved"):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env={**os.environ, **unit.surroundings}
            )
            assert process.stdout is not None
            for line in process.stdout:
                if said in line:
                    break
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert "It is in its place" in unit.ostiary(*command[len(OSTIARY) :])
        assert json.loads(unit.ostiary("provision", "--status"))["unit"] == LAB


@pytest.mark.parametrize("path", [BEGIN_PATH, RENEW_PATH, FINISH_PATH])
def test_bodies_of_strangers_are_refused_and_the_service_goes_on(site: SiteWorld, path: str) -> None:
    context = ssl.create_default_context(cafile=str(site.site.pki() / "ca.pem"))
    for body in (b"", b"\xff" * 100, b"\xa6" + b"\x00" * 40, b"\xbf" * 5000, b"\xa0" * (65 * 1024)):
        line = http.client.HTTPSConnection("localhost", site.ports[1], timeout=180, context=context)
        line.request("POST", path, body)
        answer = line.getresponse()
        assert answer.status == 400
        answer.read()
        line.close()
    assert "Traceback" not in site.log("claims").read_text()


def over_https(site: SiteWorld, path: str, body: bytes) -> bytes | str:
    """What the claim service answers, or the code of its refusal."""
    context = ssl.create_default_context(cafile=str(site.site.pki() / "ca.pem"))
    line = http.client.HTTPSConnection("localhost", site.ports[1], timeout=60, context=context)
    try:
        line.request("POST", path, body, {"Content-Type": "application/cbor"})
        answer = line.getresponse()
        data = answer.read()
    finally:
        line.close()
    assert answer.status in (200, 403), data
    return data if answer.status == 200 else Refusal.from_bytes(data).code


def test_what_is_no_unit_is_refused_over_https_and_looks_like_an_attack(
    site: SiteWorld, tmp_path: Path
) -> None:
    with SwTpm(tmp_path / "tpm-1") as first, SwTpm(tmp_path / "tpm-2") as second:
        one, two = Box.on(first, tmp_path / "box-1"), Box.on(second, tmp_path / "box-2")

        def begun(box: Box, claim: Claim, **changes: object) -> bytes | str:
            return over_https(site, BEGIN_PATH, replace(box.begin(claim), **changes).to_bytes())  # type: ignore[arg-type]

        name = "st-mary/attacked"
        claim = Claim.parse(site.claim(name))
        honest = one.begin(claim)
        software = soft_key(objectAttributes=TPMA_OBJECT.SIGN_ENCRYPT | TPMA_OBJECT.USERWITHAUTH)
        assert begun(one, claim, keys=(software, *honest.keys[1:])) == "not_proved"
        maker = Maker()
        theirs = maker.certify(read_key(two.own.public, "endorsement").key)
        assert begun(one, claim, certificate=theirs) == "not_proved"
        expired = Claim.fresh("localhost", site.ports[1], unit_id("st-mary/late"), "pharmacy", bytes(32))
        with closing(site.store()) as store:
            claims.add_claim(
                store,
                expired.digest(),
                expired.unit,
                door="pharmacy",
                parcel=b"",
                expected=None,
                account="desk",
                now=wall() - dt.timedelta(days=2),
                lasts=dt.timedelta(days=1),
            )
        assert begun(one, expired) == "expired"
        # The true unit takes its place; then somebody comes with the same claim, and with the same name.
        challenge = begun(one, claim)
        assert isinstance(challenge, bytes)
        finished = over_https(site, FINISH_PATH, one.finish(Challenge.from_bytes(challenge)).to_bytes())
        assert isinstance(finished, bytes)
        assert begun(two, claim) == "second_tpm"
        own = begun(two, Claim.parse(site.claim(LAB + "-b")))
        assert isinstance(own, bytes), "with a claim of its own it is let in"
        with pytest.raises(SyncError, match="is in service"):
            site.claim(name)
        with closing(site.store()) as store, store.transaction() as db:  # as if taken out of the books
            db.execute(sa.delete(identities).where(identities.c.unit == name))
        assert begun(two, claim) == "used"
    with closing(site.store()) as store:
        kinds = {alarm["kind"] for alarm in status.open_alarms(store)}
    assert {"KEY_NOT_PROVED", "SECOND_TPM", "CLAIM_REUSED"} <= kinds


def test_one_unit_neither_ends_anothers_session_nor_writes_in_its_name(site: SiteWorld) -> None:
    authority = site.site.authority(NOW)
    good, bad = (authority.issue(name, NOW, into=site.folder) for name in (ICU, "st-mary/rogue"))
    reactor = Reactor()
    taken = f"ostiary/v1/{ICU}/receipts"
    victim = reactor.link(LinkSettings("localhost", site.ports[0], ICU, good), subscriptions=[taken])
    eventually(lambda: reactor.poll(0.05) or victim.connected)
    rogue = reactor.link(LinkSettings("localhost", site.ports[0], ICU, bad), subscriptions=[taken])
    eventually(lambda: reactor.poll(0.05) or rogue.connected)
    rogue.publish(taken, b"forged")
    rogue.publish(f"ostiary/v1/{ICU}/commands", b"forged")
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        reactor.poll(0.05)
    assert (victim.connected, victim.connections, list(victim.inbox)) == (True, 1, [])
    reactor.close()


def test_a_revoked_unit_is_off_the_broker_and_stays_off(site: SiteWorld, unit: Unit) -> None:
    site.run("uplink", [*OSTIARY, "sync", "--health-every", "1"], **unit.surroundings)
    eventually(lambda: site.states()[ICU] == "online")
    said = site.log("uplink")
    before = said.read_text()
    site.ostiary("registry", "revoke", ICU, *site.db)
    eventually(lambda: "the broker closed the connection" in said.read_text()[len(before) :])
    eventually(lambda: "the broker does not take us" in said.read_text())
    assert "connected to the broker again" not in said.read_text()
    site.stop("uplink")


def guarded(
    site: SiteWorld, reload: Callable[[], None], now: Callable[[], dt.datetime], within_s: float = 180.0
) -> Guard:
    authority = site.site.authority(now())
    return Guard(site.site, site.store(), authority, reload, now, in_effect_within_s=within_s)


def wall() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def reload(site: SiteWorld) -> Callable[[], None]:
    return reload_by_pid(site.site.folder / "broker" / "mosquitto.pid")


def test_a_broker_that_does_not_read_its_list_is_an_alarm_and_no_silence(site: SiteWorld) -> None:
    site.stop("claims")
    guard = guarded(site, lambda: None, wall, within_s=1.0)
    with pytest.raises(SyncError, match="does not read its list"):
        guard.step()
    guard.failed("the broker does not read its list")
    assert "REVOCATION_IN_TROUBLE" in alarms(guard)
    assert CliRunner().invoke(cli, ["fleet", "status", *site.db]).exit_code == 1
    guarded(site, reload(site), wall).step()
    assert "takes what is good" in site.ostiary("fleet", "status", *site.db)


def started_anew(site: SiteWorld, after_s: float) -> Callable[[], None]:
    """As systemd does it: a moment later, and beside the guard."""

    def restart() -> None:
        time.sleep(after_s)
        site.stop("broker")
        time.sleep(1.0)
        site.start(claims=False)

    return lambda: threading.Thread(target=restart).start()


@pytest.mark.parametrize("after_s", [0.0, 1.0])
def test_a_broker_that_is_started_anew_for_its_list_is_no_trouble(site: SiteWorld, after_s: float) -> None:
    site.stop("claims")
    unit = f"st-mary/old-{after_s:.0f}"
    guard = guarded(site, started_anew(site, after_s), wall)
    guard.step()
    row = {"unit": unit, "tpm": "", "issued_ms": 1, "expires_ms": wall_ms() + 86_400_000, "revoked_ms": 1}
    with guard.store.transaction() as db:
        db.execute(sa.insert(certificates).values(serial=f"{int(after_s) + 77:x}", **row))
    before = alarms(guard)
    assert guard.step() == [unit]
    assert guard.look() == ""
    assert alarms(guard) == before


def test_a_list_that_has_run_out_locks_everybody_out_and_is_noticed_and_mended(site: SiteWorld) -> None:
    past = guarded(site, reload(site), lambda: wall() - dt.timedelta(days=40))
    with contextlib.suppress(SyncError):
        past.step()  # a list made forty days ago, and good for thirty
    told = guarded(site, reload(site), wall)
    assert "refuses good certificates" in told.look()
    told.step()
    assert told.look() == ""


def test_the_registrys_watch_notices_that_nobody_looks_any_more(site: SiteWorld) -> None:
    with closing(site.store()) as store:
        detector = Detector(store, [rule for rule in load_rules() if rule.form == "revocations"])
        assert detector.step(wall_ms()) == 0
        assert detector.step(wall_ms() + 11 * 60_000) == 1
        assert detector.step(wall_ms() + 24 * 86_400_000) == 1


def alarms(guard: Guard) -> set[str]:
    return {alarm["kind"] for alarm in status.open_alarms(guard.store)}
