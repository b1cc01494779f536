"""Pictures of every page, from a hospital that lives while they are taken; and three tasks, timed."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from playwright.sync_api import Browser, Page, sync_playwright

from sync.registry.database.schema import events
from sync.registry.database.store import Store
from tests.sync.services import free_port

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "pictures of a quiet hospital"
DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}
DOCS = {"doors", "events", "why", "lockdown-run", "proof", "doors-dark", "doors-phone"}


def visit(
    browser: Browser,
    origin: str,
    account: str,
    *,
    dark: bool = False,
    phone: bool = False,
    language: str = "en-GB",
) -> Page:
    context = browser.new_context(
        base_url=origin,
        locale=language,
        viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
    )
    page = context.new_page()
    page.goto("/login")
    page.fill("input[name=account]", account)
    page.fill("input[name=password]", PASSWORD)
    page.click("button.primary")
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def paths(database: str) -> dict[str, str]:
    store = Store.open(database)
    with store.reading() as db:
        newest = sa.select(events.c.unit, events.c.sequence, events.c.person).order_by(
            events.c.time_ms.desc()
        )
        attack = db.execute(newest.where(events.c.kind == "DENIED_SPOOF").limit(1)).one()
        refused = db.execute(newest.where(events.c.kind == "DENIED_VOICE").limit(1)).one()
    store.close()
    return {
        "doors": "/doors",
        "door": "/doors/st-mary/pharmacy-1/door-1",
        "events": "/events",
        "events-attacks": "/events?show=attacks",
        "why": f"/events/{refused.unit}/{refused.sequence}",
        "why-attack": f"/events/{attack.unit}/{attack.sequence}",
        "person": f"/people/{refused.person}",
        "incidents": "/incidents",
        "incident": "/incidents",
        "lockdown": "/lockdown",
        "muster": "/muster",
        "lockdown-start": "/lockdown/start?site=st-mary&zone=icu",
        "nothing": "/nowhere",
        "handover": "/handover",
        "visits": "/visits",
        "emergency": "/emergency",
        "approvals": "/approvals",
        "tokens": "/tokens",
        "rooms": "/rooms",
        "ledger": "/ledger",
        "attacks": "/attacks?days=90",
        "health": "/health-of-units",
        "proofs": "/proofs",
        "proof": "/proofs/st-mary/icu-1",
        "review": "/review",
        "journal": "/journal",
        "accounts": "/accounts",
        "account": "/account",
    }


def take(page: Page, name: str, path: str, folder: Path, whole: bool = False) -> None:
    page.goto(path)
    if name.partition("-")[0] == "incident":
        page.locator("tbody a").first.click()
        page.wait_for_url("**/incidents/*")
        page.wait_for_selector(".facts")
    if name.startswith("proof") and "/" in path.removeprefix("/proofs"):
        page.click("#verify button")
        page.wait_for_selector("#verdict:not([hidden])", timeout=120_000)
    if page.locator("#live").count():
        page.wait_for_selector('#live[data-state="live"]')
    page.screenshot(path=folder / f"{name}.png", full_page=whole)


def tasks(browser: Browser, origin: str, folder: Path) -> None:
    """Three things people come for, each from the login page to the answer."""
    began = time.monotonic()
    page = visit(browser, origin, "desk")
    page.goto("/events?show=refused&zone=pharmacy")
    page.locator(".event .what a").first.click()
    page.wait_for_selector(".factor, .lead")
    print(f"why was this person refused at the pharmacy: {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    page = visit(browser, origin, "desk")
    page.click("text=Lock-down")
    page.click('a[aria-label="Lock Imaging down"]')
    page.click("button.danger")
    page.wait_for_selector("text=2 of 3", timeout=60_000)  # the third unit is the silent one
    print(f"lock a zone and show what did not lock: {time.monotonic() - began:.1f} s")
    page.screenshot(path=folder / "lockdown-run.png")
    page.click("text=End the lock-down")
    began = time.monotonic()
    page = visit(browser, origin, "auditor")
    page.click("text=Proofs")
    page.locator("tbody a").first.click()
    page.click("#verify button")
    page.wait_for_selector("#verdict.good", timeout=120_000)
    print(f"prove that nobody edited a log: {time.monotonic() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / ".screenshots")
    parser.add_argument("--docs", action="store_true", help="renew the pictures in docs/images")
    parser.add_argument("--only", default="", help="these pages, with commas between")
    parser.add_argument("--days", type=int, default=45)
    parser.add_argument("--language", default="en-GB", help="of the browser")
    parser.add_argument("--whole", action="store_true", help="pages to their end, light at the desk alone")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("screenshots: Debian's chromium is missing; scripts/setup --test installs it")
    ostiary = str(Path(sys.executable).with_name("ostiary"))
    with tempfile.TemporaryDirectory(prefix="ostiary-pictures-") as name:
        database = f"sqlite:///{name}/registry.db"
        keys = ["--names-key", f"{name}/names.key", "--signing-key", f"{name}/commands.key"]
        made = [ostiary, "dashboard", "demo-data", "--database", database, "--days", str(options.days)]
        hospital = subprocess.Popen(
            [*made, *keys, "--password", PASSWORD, "--live"], stderr=subprocess.PIPE, text=True
        )
        for line in hospital.stderr or ():
            if "people go on" in line:
                break
        origin = f"http://127.0.0.1:{free_port()}"
        serve = [ostiary, "dashboard", "serve", "--database", database, "--address", origin, *keys]
        server = subprocess.Popen([*serve, "--organisation", "St Mary's"], stderr=subprocess.PIPE, text=True)
        for line in server.stderr or ():
            if "The dashboard is at" in line:
                break
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                if not options.whole:
                    tasks(browser, origin, options.folder)
                looks = ((False, False), (True, False), (False, True))
                for dark, phone in looks[:1] if options.whole else looks:
                    page = visit(browser, origin, "admin", dark=dark, phone=phone, language=options.language)
                    suffix = ("-dark" if dark else "") + ("-phone" if phone else "")
                    for what, path in paths(database).items():
                        if options.only and what not in options.only.split(","):
                            continue
                        take(page, what + suffix, path, options.folder, options.whole)
                browser.close()
        finally:
            for process in (server, hospital):
                process.terminate()
                process.wait(180)
    if options.docs:
        for picture in sorted(DOCS):
            shutil.copy(
                options.folder / f"{picture}.png", ROOT / "docs" / "images" / f"dashboard-{picture}.png"
            )


if __name__ == "__main__":
    main()
