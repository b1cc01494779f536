"""The page in Debian's Chromium, as people use it."""

from __future__ import annotations

import random
import re

import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from bench.units.memory_log import MemoryLog, simulated_event
from sync.dashboard.accounts.rights import ROLES
from sync.dashboard.app import PAGES
from sync.dashboard.schema import sessions
from sync.dashboard.site import places
from sync.dashboard.site.places import Place
from sync.events import UnitId
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry.database.schema import events
from sync.registry.ingest.ingest import Ingest
from sync.transport.messages import BatchMessage
from sync.transport.topics import EVENTS, topic
from tests.sync.dashboard.conftest import PASSWORD, Hospital, Served, wait_until
from tests.sync.dashboard.test_pages import _address, prepare_runs

pytestmark = pytest.mark.e2e


class Unit:
    """A unit whose events really arrive, signed."""

    def __init__(self, hospital: Hospital, name: str = "st-mary/new-1") -> None:
        self.hospital, self.name = hospital, UnitId(name)
        self.signer = FileSigner.generate()
        self.log = MemoryLog(self.name, lambda: 0.0, hospital.now_ms)
        self.ingest = Ingest(hospital.store, FileSigner.generate(), hospital.now_ms)
        self.dice, self.sent = random.Random(7), 0
        hospital.store.register(self.name, key_to_der(self.signer.public_key()), hospital.now_ms())

    def happens(self, times: int = 1) -> None:
        for _ in range(times):
            self.log.append(
                simulated_event(self.dice, b"k" * 32, self.hospital.now_ms(), self.hospital.now_ms() % 10**9)
            )
        self.log.seal(self.signer)
        while (batch := self.log.batch_after(self.sent)) is not None:
            message = BatchMessage(self.name, batch.first, batch.previous_chain, 1, batch.bodies, batch.head)
            self.ingest.process([(topic(self.name, EVENTS), message.to_bytes())])
            self.sent = batch.size


WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}


def test_every_page_is_free_of_barriers_and_of_complaints(served: Served) -> None:
    # axe is put into the page, which the page's own policy forbids to everybody else.
    page = served.visit("admin", bypass_csp=True)
    page.goto("/incidents")
    prepare_runs(served.hospital)
    for method, path, _, _ in PAGES:
        if method == "GET":
            query = "?site=st-mary&zone=icu" if path == "/lockdown/start" else ""
            page.goto(_address(served.hospital, path) + query)
            # With something selected no page loads itself again, however long axe takes.
            page.evaluate("document.getSelection().selectAllChildren(document.querySelector('h1'))")
            found = Axe().run(page, options=WCAG)
            assert found.violations_count == 0, (path, found.generate_report())
    assert served.complaints == []


def test_a_dark_page_has_contrast_enough(served: Served) -> None:
    page = served.visit("desk", color_scheme="dark", bypass_csp=True)
    for path in ("/doors", "/events", "/events?show=attacks", "/incidents"):
        page.goto(path)
        found = Axe().run(page, options={"runOnly": ["color-contrast"]})
        assert found.violations_count == 0, (path, found.generate_report())


def test_no_page_breaks_its_own_policy(served: Served) -> None:
    for role in ("auditor", "wall"):
        page = served.visit(role)
        for method, path, _, right in PAGES:
            if method == "GET" and (right is None or right in ROLES[role]):
                page.goto(_address(served.hospital, path.replace("{incident:str}", "")))
                expect(page.locator("h1").first).to_be_visible()
    assert served.complaints == []


def test_no_other_page_can_show_ours_in_a_frame(served: Served) -> None:
    page = served.visit("desk")
    other = page.context.new_page()
    with other.expect_event("framenavigated", lambda frame: frame.parent_frame is not None):
        other.set_content(f'<iframe src="{served.origin}/login"></iframe>')
    assert other.frames[1].url.startswith("chrome-error:")
    assert other.frames[1].locator("form").count() == 0


def test_a_new_event_appears_by_itself_and_waits_while_somebody_reads(served: Served) -> None:
    unit = Unit(served.hospital)
    unit.happens()
    page = served.visit("desk")
    page.goto("/events?unit=st-mary/new-1")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator(".event")).to_have_count(1)
    unit.happens(2)
    expect(page.locator(".event")).to_have_count(3)
    page.locator(".event").first.hover()
    unit.happens(4)
    expect(page.locator("#chip")).to_have_text("4 new")
    expect(page.locator("#live")).to_have_text("held while you read")
    expect(page.locator(".event")).to_have_count(3)
    page.locator("#chip").click()
    expect(page.locator(".event")).to_have_count(7)
    expect(page.locator("#chip")).to_be_hidden()
    keys = page.locator(".event").evaluate_all("rows => rows.map(row => row.dataset.key)")
    assert len(set(keys)) == 7
    assert served.complaints == []


def test_an_event_appears_on_its_door(served: Served) -> None:
    unit = Unit(served.hospital)
    unit.happens()
    page = served.visit("wall")
    tile = page.locator('[data-door="st-mary/new-1/door-1"]')
    expect(page.locator("#live")).to_have_text("live")
    expect(tile).to_be_visible()
    before = tile.locator(".last").inner_text()
    wait_until(
        lambda: (unit.happens(), page.wait_for_timeout(600), tile.locator(".last").inner_text() != before)[2]
    )


def test_a_page_says_since_when_it_is_not_up_to_date(served: Served) -> None:
    page = served.visit("desk")
    expect(page.locator("#live")).to_have_text("live")
    with served.hospital.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE units RENAME TO gone"))
    expect(page.locator("#live")).to_have_text(re.compile("not up to date since"))
    with served.hospital.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE gone RENAME TO units"))
    expect(page.locator("#live")).to_have_text("live")


def test_an_account_that_is_disabled_hears_nothing_more(served: Served) -> None:
    served.beat_s(0.3)
    unit = Unit(served.hospital)
    unit.happens()
    page = served.visit("desk")
    page.goto("/events?unit=st-mary/new-1")
    expect(page.locator("#live")).to_have_text("live")
    served.hospital.accounts.disable("desk", "admin", served.hospital.now_ms())
    page.wait_for_url("**/login*")
    expect(page.locator(".event")).to_have_count(0)


def test_what_somebody_writes_is_never_run(served: Served) -> None:
    script = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    zone = "pharmacy"
    places.replace(
        served.hospital.store,
        [
            Place("st-mary/pharmacy-1", "door-1", script, zone, script),
            Place("st-mary/new-1", "door-1", script),
        ],
    )
    unit = Unit(served.hospital)
    page = served.visit("admin")
    page.goto("/incidents")
    page.locator("tbody a").first.click()
    page.fill("textarea[name=note]", script)
    page.locator("button[value=note]").click()
    expect(page.locator(".story p").first).to_have_text(script)
    for path in ("/doors", "/events", "/doors/st-mary/pharmacy-1/door-1", "/proofs", "/journal", "/accounts"):
        page.goto(path)
        assert page.title() != "run"
    page.goto("/events?unit=st-mary/new-1")
    expect(page.locator("#live")).to_have_text("live")
    unit.happens()
    expect(page.locator(".event .place")).to_have_text(script)
    assert page.title() != "run"
    assert page.locator("main img, main script").count() == 0


def test_a_zone_is_locked_by_keyboard_alone(served: Served) -> None:
    page = served.visit("desk")
    page.goto("/lockdown")

    def tab_to(selector: str) -> None:
        for _ in range(120):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none"  # one sees where one is
                return
        raise AssertionError(f"no way to {selector} by keyboard")

    tab_to(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    tab_to('a[aria-label="Lock Pharmacy down"]')
    page.keyboard.press("Enter")
    page.wait_for_url("**/lockdown/start*")
    tab_to("button.danger")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/lockdown/\d+$"))
    expect(page.locator("h1")).to_contain_text("Pharmacy")


def test_a_report_prints_without_menus_and_forms(served: Served) -> None:
    page = served.visit("admin")
    for path in ("/rooms?hours=168", "/emergency", "/visits"):
        page.goto(path)
        page.emulate_media(media="print")
        expect(page.locator("h1")).to_be_visible()
        for hidden in page.locator(".side, .noprint").all():
            expect(hidden).to_be_hidden()
        page.emulate_media(media="screen")


def test_a_person_is_made_temporary_on_a_phone_and_it_shows(served: Served) -> None:
    page = served.visit("facilities", viewport={"width": 390, "height": 844})
    page.goto("/events?show=granted&site=st-mary")
    page.locator(".event .person").first.click()
    page.wait_for_url("**/people/*")
    page.fill("input[name=what]", "Agency nurse, ward 3")
    page.click("text=Make temporary")
    page.wait_for_url("**/visits")
    expect(page.locator("tbody tr")).to_contain_text("Agency nurse, ward 3")
    wide = "() => document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(wide)
    page.click("summary")
    page.click("text=End now")
    expect(page.locator("tbody tr")).to_contain_text("ended")
    assert served.complaints == []


def test_a_log_is_proven_in_the_page_and_an_edit_is_found(served: Served) -> None:
    page = served.visit("auditor")
    page.goto("/proofs/st-mary/icu-1")
    page.click("#verify button")
    expect(page.locator("#verdict")).to_have_text(re.compile("^Sound: nobody edited"))
    with page.expect_download() as kept:
        page.click("text=Take the newest head away")
    head = kept.value.path()
    page.set_input_files("#checkpoint", head)
    page.click("#verify button")
    expect(page.locator("#steps")).to_contain_text("It contains the head that you kept")

    with served.hospital.store.transaction() as db:
        mine = (events.c.unit == "st-mary/icu-1", events.c.sequence == 5)
        body = bytes(db.execute(sa.select(events.c.body).where(*mine)).scalar_one())
        edited = (
            body.replace(b"GRANTED", b"DURESS_") if b"GRANTED" in body else body[:-1] + bytes([body[-1] ^ 1])
        )
        db.execute(sa.update(events).where(*mine).values(body=edited))
    page.click("#verify button")
    expect(page.locator("#verdict")).to_have_text(
        re.compile("^Not sound: events .* are not what the unit signed")
    )


@pytest.mark.parametrize(
    ("language", "sound", "unsound"),
    [
        ("de-DE", "In Ordnung: Niemand hat", "Nicht in Ordnung: die Ereignisse .* sind nicht, was das Gerät"),
        ("fr-FR", "Intact : personne n’a", "Pas intact : les événements .* ne sont pas ce que l’unité"),
        ("es-ES", "Íntegro: nadie editó", "No está íntegro: los eventos .* no son lo que la unidad"),
    ],
)
def test_the_check_in_the_page_speaks_the_language_of_the_page(
    served: Served, language: str, sound: str, unsound: str
) -> None:
    page = served.visit("auditor", locale=language)
    page.goto("/proofs/st-mary/icu-1")
    page.click("#verify button")
    expect(page.locator("#verdict")).to_have_text(re.compile(f"^{sound}"))
    with served.hospital.store.transaction() as db:
        mine = (events.c.unit == "st-mary/icu-1", events.c.sequence == 5)
        body = bytes(db.execute(sa.select(events.c.body).where(*mine)).scalar_one())
        db.execute(sa.update(events).where(*mine).values(body=body[:-1] + bytes([body[-1] ^ 1])))
    page.click("#verify button")
    expect(page.locator("#verdict")).to_have_text(re.compile(f"^{unsound}"))
    shown = page.locator("#steps").inner_text() + page.locator("#verdict").inner_text()
    assert "undefined" not in shown
    assert "[" not in shown


def test_a_person_on_a_phone_gets_a_page_that_fits(served: Served) -> None:
    page = served.visit("desk", viewport={"width": 390, "height": 844})
    for path in ("/doors", "/events", "/incidents", "/doors/st-mary/pharmacy-1/door-1"):
        page.goto(path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, (path, wide)


def test_a_roll_call_is_there_without_the_registry_and_marks_are_sent_later(served: Served) -> None:
    prepare_runs(served.hospital)
    page = served.visit("desk")
    page.goto("/muster/1")
    rows = page.locator("tbody tr").count()
    assert rows > 1
    expect(page.locator("html[data-kept=yes]")).to_have_count(1, timeout=60_000)
    page.context.set_offline(True)
    page.reload()
    expect(page.locator("#offline")).to_be_visible(timeout=60_000)
    expect(page.locator("tbody tr")).to_have_count(rows, timeout=60_000)
    page.locator("button[value=safe]").first.click()
    expect(page.locator("#offline")).to_contain_text("wait to be sent: 1")
    page.context.set_offline(False)
    expect(page.locator("td .tag.good")).to_have_count(1, timeout=60_000)
    page.locator("button:has-text('Log out')").click()
    page.wait_for_url("**/login")
    assert page.evaluate("caches.has('roll-calls')") is False


def test_marks_of_a_roll_call_outlive_the_session_and_are_sent_after_the_next_login(served: Served) -> None:
    prepare_runs(served.hospital)
    page = served.visit("desk")
    page.goto("/muster/1")
    expect(page.locator("html[data-kept=yes]")).to_have_count(1, timeout=60_000)
    page.context.set_offline(True)
    page.locator("button[value=safe]").first.click()
    expect(page.locator("#offline")).to_contain_text("wait to be sent: 1")
    with served.hospital.store.transaction() as db:
        db.execute(sa.delete(sessions))
    page.context.set_offline(False)
    page.wait_for_url("**/login?*")
    page.fill("input[name=account]", "desk")
    page.fill("input[name=password]", PASSWORD)
    page.click("button.primary")
    page.wait_for_url("**/muster/1")
    expect(page.locator("td .tag.good")).to_have_count(1, timeout=60_000)
    expect(page.locator("#offline")).to_be_hidden(timeout=60_000)


def test_a_roll_call_is_there_while_the_page_is_but_the_database_is_not(served: Served) -> None:
    prepare_runs(served.hospital)
    page = served.visit("desk")
    page.goto("/muster/1")
    rows = page.locator("tbody tr").count()
    expect(page.locator("html[data-kept=yes]")).to_have_count(1, timeout=60_000)
    for table in ("dashboard_sessions", "units"):
        with served.hospital.store.transaction() as db:
            db.execute(sa.text(f"ALTER TABLE {table} RENAME TO {table}_away"))
    for _ in range(2):
        page.reload()
        expect(page.locator("tbody tr")).to_have_count(rows, timeout=60_000)
    expect(page.locator("#offline")).to_be_visible(timeout=60_000)
    for table in ("dashboard_sessions", "units"):
        with served.hospital.store.transaction() as db:
            db.execute(sa.text(f"ALTER TABLE {table}_away RENAME TO {table}"))
    expect(page.locator("#offline")).to_be_hidden(timeout=60_000)


def test_marks_are_each_sent_once_however_slow_the_registry_is(served: Served) -> None:
    prepare_runs(served.hospital)
    page = served.visit("desk")
    page.clock.install()
    page.goto("/muster/1")
    expect(page.locator("html[data-kept=yes]")).to_have_count(1, timeout=60_000)
    page.context.set_offline(True)
    for place in range(2):
        page.locator("button[value=safe]").nth(place).click()
        expect(page.locator("#offline")).to_contain_text(f"wait to be sent: {place + 1}")
    with served.hospital.store.transaction():  # nobody else writes meanwhile, so the first mark takes long
        page.context.set_offline(False)
        with page.expect_request(lambda request: request.method == "POST"):
            page.clock.fast_forward(4000)
        for _ in range(3):
            page.clock.fast_forward(4000)
    expect(page.locator("td .tag.good")).to_have_count(2, timeout=60_000)
