"""Nothing of a person stays in the facade's memory: searched for in the process itself."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from device.audio import load_utterance
from device.evidence.judge import Judge
from device.secure_store import open_store
from device.secure_store.settings import StoreSettings
from device.settings import Settings
from tests.device.conftest import judge as judge
from tests.device.conftest import models as models
from tests.e2e.api_server import Searched, Server
from tests.e2e.test_api import server as server
from tests.speech import Reading

pytestmark = pytest.mark.e2e

NEEDLE_BYTES = 48
GONE = "KAUFMANN-209317"


@pytest.fixture
def searched(server: Server) -> Iterator[Searched]:
    found = Searched(server)
    yield found
    found.close()


def needles(judge: Judge, recordings: Sequence[bytes], template: np.ndarray) -> dict[str, list[bytes]]:
    """Pieces of what must not stay: of files, of their Base64, of samples as numbers, of embeddings."""
    found: dict[str, list[bytes]] = {
        name: [] for name in ("file", "base64", "samples", "embedding", "template")
    }

    def cut(content: bytes, at: float) -> bytes:
        start = int(len(content) * at) // 16 * 16
        return content[start : start + NEEDLE_BYTES]

    for content in recordings:
        wave = load_utterance(content, Settings().audio).wave()
        vector = judge.speaker.embed(wave)
        for at in (0.3, 0.5, 0.8):
            found["file"].append(cut(content, at))
            found["base64"].append(cut(base64.b64encode(content), at))
            found["samples"].append(cut(wave.tobytes(), at))
            found["embedding"].append(cut(vector.tobytes(), at))
    found["template"] = [cut(template.tobytes(), at) for at in (0.1, 0.3, 0.5, 0.8)]
    return found


def test_after_register_and_verify_nothing_of_the_person_is_in_memory(
    searched: Searched, reader: list[Reading], judge: Judge
) -> None:
    server = searched.server
    recordings = [reader[number].path.read_bytes() for number in (0, 2, 3)]
    probe = reader[1].path.read_bytes()
    bearer = server.token()
    coded = [base64.b64encode(content).decode() for content in (*recordings, probe)]
    with server.caller(headers=bearer) as http:
        body = {"tid": "r", "uid": "4711", "audio": coded[:3]}
        assert http.post("/register", json=body).json()["outcome"] == "registered"
        body = {"tid": "v", "uid": "4711", "code": "1D3A", "audio": coded[3]}
        assert http.post("/verify", json=body).json()["outcome"] == "judged"
    with open_store(server.folder / "state", StoreSettings(profile="laptop", keystore="software")) as store:
        template = store.vault.template("4711").vector
    wanted = needles(judge, (*recordings, probe), template)
    assert all(len(part) == NEEDLE_BYTES for parts in wanted.values() for part in parts)
    found = {name: searched.counts(parts) for name, parts in wanted.items()}
    assert found == {name: [0] * len(parts) for name, parts in wanted.items()}


def test_after_forget_not_even_the_id_is_in_memory(searched: Searched, reader: list[Reading]) -> None:
    server = searched.server
    bearer = server.token()
    coded = [base64.b64encode(reader[number].path.read_bytes()).decode() for number in (0, 2, 3, 1)]
    with server.caller(headers=bearer) as http:
        body = {"tid": "r", "uid": GONE, "audio": coded[:3]}
        assert http.post("/register", json=body).json()["outcome"] == "registered"
        body = {"tid": "v", "uid": GONE, "code": "1D3A", "audio": coded[3]}
        assert http.post("/verify", json=body).json()["outcome"] == "judged"
        assert http.delete(f"/people/{GONE}").status_code in (200, 204)
        assert http.get("/healthz").status_code == 200
    assert searched.counts([GONE.encode(), GONE.lower().encode()]) == [0, 0]


def test_the_search_finds_what_is_in_memory(searched: Searched) -> None:
    assert searched.counts([b"ostiary.certificate"])[0] > 0
