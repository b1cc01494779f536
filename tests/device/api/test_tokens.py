"""`ostiary api token` and the settings of the facade."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from device.api.errors import ApiError
from device.api.server import tls_context
from device.settings import ApiSettings, Settings, SettingsError, load
from tests.device.commands.conftest import Ostiary
from tests.device.commands.conftest import ostiary as ostiary


def test_a_token_is_issued_with_its_expiry(ostiary: Ostiary) -> None:
    ran = ostiary("api", "token", "--client", "pharmacy", "--scope", "verify", "--minutes", 5, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["token"].startswith("ost1.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--client", "pharmacy", "--scope", "everything"),
        ("--client", "pharmacy"),
        ("--client", "pharmacy", "--scope", "verify", "--minutes", 61),
        ("--client", "pharmacy", "--scope", "verify", "--minutes", 0),
    ],
)
def test_a_token_that_may_not_be_is_a_usage_error(ostiary: Ostiary, arguments: tuple[object, ...]) -> None:
    assert ostiary("api", "token", *arguments).code == 2


def test_tokens_are_listed_by_number_and_recalled(ostiary: Ostiary) -> None:
    issued = [
        json.loads(ostiary("api", "token", "--client", name, "--scope", "verify", "--json").out)
        for name in ("pharmacy", "laundry")
    ]
    listed = ostiary("api", "tokens").out
    assert all(item["token_id"] in listed and item["token"] not in listed for item in issued)
    assert ostiary("api", "recall", issued[0]["token_id"]).code == 0
    assert ostiary("api", "recall", issued[0]["token_id"]).code == 1
    states = {item["client"]: item["recalled"] for item in json.loads(ostiary("api", "tokens", "--json").out)}
    assert states == {"pharmacy": True, "laundry": False}
    assert ostiary("api", "recall", "--client", "laundry").code == 0


@pytest.mark.parametrize("arguments", [(), ("abc", "--all"), ("--client", "x", "--all")])
def test_a_recall_names_one_thing(ostiary: Ostiary, arguments: tuple[str, ...]) -> None:
    assert ostiary("api", "recall", *arguments).code == 2


def test_a_book_of_tokens_that_is_no_database_is_one_line(ostiary: Ostiary, tmp_path: Path) -> None:
    (tmp_path / "state" / "api").mkdir(parents=True)
    (tmp_path / "state" / "api" / "tokens.db").write_bytes(b"no database" * 100)
    ran = ostiary("api", "tokens")
    assert ran.code == 3
    assert ran.err.count("\n") == 1


def test_a_client_with_an_odd_name_gets_no_token(ostiary: Ostiary) -> None:
    assert ostiary("api", "token", "--client", "../x", "--scope", "verify").code == 3


def test_the_document_is_printed(ostiary: Ostiary) -> None:
    assert json.loads(ostiary("api", "openapi").out)["openapi"] == "3.1.0"


def test_half_a_tls_setting_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ostiary.toml"
    path.write_text('[api]\ncertificate = "a.pem"\nport = 99999\n')
    with pytest.raises(SettingsError, match="certificate, key and client_ca") as caught:
        load(path)
    assert "api.port" in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "localhost.example", ""])  # noqa: S104
def test_plain_http_is_for_loopback_addresses_alone(host: str) -> None:
    settings = Settings()
    settings = replace(settings, api=replace(settings.api, host=host))
    with pytest.raises(ApiError, match="loopback"):
        tls_context(settings, plain_http=True)


def test_plain_http_is_for_laptops_alone() -> None:
    settings = replace(Settings(), store=replace(Settings().store, profile="production", keystore="tpm"))
    with pytest.raises(ApiError, match="laptop"):
        tls_context(settings, plain_http=True)


def test_certificates_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    path = tmp_path / "x.pem"
    settings = replace(Settings(), api=ApiSettings(certificate=path, key=path, client_ca=path))
    with pytest.raises(ApiError, match="cannot be used"):
        tls_context(settings, plain_http=False)


def test_without_certificates_and_without_the_flag_nothing_is_served() -> None:
    with pytest.raises(ApiError, match="client_ca"):
        tls_context(Settings(), plain_http=False)
