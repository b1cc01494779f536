"""The published document against what is served."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from device.api.app import make_app
from device.api.errors import KINDS
from device.api.openapi import document
from device.settings import ApiSettings
from tests.device.api.conftest import Facade, encoded, enrolment
from tests.speech import Reading


def test_every_route_is_published_and_nothing_else(facade: Facade) -> None:
    published = {(path, verb.upper()) for path, item in document(1)["paths"].items() for verb in item}
    routes = [route for route in make_app(facade.service).routes if isinstance(route, Route)]
    served = {(route.path, verb) for route in routes for verb in (route.methods or ()) if verb != "HEAD"}
    assert published == served


def test_the_document_is_served_as_it_is(facade: Facade) -> None:
    served = facade.client.get("/openapi.json").json()
    assert served == document(facade.service.settings.max_body_bytes)
    assert served["openapi"].startswith("3.1")


def test_every_reference_in_it_leads_somewhere() -> None:
    whole = document(1)
    found = set(re.findall(r"#/components/schemas/(\w+)", str(whole)))
    assert found <= set(whole["components"]["schemas"])


def test_every_kind_of_problem_has_a_type_of_its_own() -> None:
    assert len({kind.type for kind in KINDS}) == len(KINDS) > 20


@pytest.mark.parametrize("name", ["OtpRequest", "RegisterRequest", "VerifyRequest"])
def test_a_missing_required_field_is_refused_as_published(facade: Facade, name: str) -> None:
    schema = document(1)["components"]["schemas"][name]
    path = "/" + name.removesuffix("Request").lower()
    answer = facade.post(path, {})
    assert answer.status_code == 422
    assert {re.findall(r"`(\w+)`", error)[0] for error in answer.json()["errors"]} == set(schema["required"])


def test_answers_have_exactly_the_published_members(facade: Facade, reader: list[Reading]) -> None:
    schemas = document(1)["components"]["schemas"]

    def same(answer: dict[str, Any], name: str) -> None:
        assert set(answer) == set(schemas[name]["required"])

    same(facade.post("/otp", {"tid": "1", "uid": "4711", "door": "door-1"}).json(), "Otp")
    body = {"tid": "1", "uid": "4711", "door": "door-1", "audio": encoded(reader[1].path)}
    verified = facade.post("/verify", body).json()
    same(verified, "VerifyResult")
    same(verified["evidence"], "Evidence")
    same(verified["decision"], "Decision")
    registered = facade.post("/register", {"tid": "2", "uid": "4711", "audio": enrolment(reader)}).json()
    same(registered, "RegisterResult")
    same(facade.client.get("/healthz").json(), "Health")


def test_the_document_in_the_docs_is_the_one_that_is_served() -> None:
    published = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text("utf-8"))
    served = document(ApiSettings().max_body_bytes)
    assert published == served, "run: ostiary api openapi > docs/openapi.json"
