"""A sound card's process that hangs, floods, dies or says no: the door goes on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest

from device.audio import AudioDeviceLostError, AudioError
from device.audio.card.child import NOWHERE, spare_the_home, without_jacks_database
from device.audio.card.health import Trouble
from device.audio.card.level import InputLevel, LevelState
from device.audio.card.loudspeaker import Loudspeaker
from device.audio.card.process import CardProcess, refusal
from device.audio.microphone import Microphone
from device.audio.settings import MicrophoneSettings
from tests.e2e.sound_server import require_sound
from tests.waiting import wait_until

IMPATIENT = MicrophoneSettings(start_s=1.0, stall_s=0.5)
"""For devices that never answer; on a busy machine, one that does may take its time."""
PATIENT = MicrophoneSettings(start_s=60.0, stall_s=30.0)
SOON_SILENT = MicrophoneSettings(start_s=60.0, stall_s=0.5)
AS_A_DOOR = MicrophoneSettings(start_s=60.0)
HEAD = """
import json, os, struct, sys, time
def tell(kind, body):
    os.write(1, kind + struct.pack("<I", len(body)) + body)
wanted = json.loads(sys.stdin.buffer.readline() or b"null")
if wanted is None: sys.exit()
def opened(channels=1):
    tell(b"o", json.dumps({"rate_hz": 16000, "channels": channels, "name": "fake"}).encode())
"""
Card = Callable[[str], Callable[[], CardProcess]]


@pytest.fixture
def card(tmp_path: Path) -> Card:
    """Makes processes that run this text in the place of PortAudio's."""

    def made(text: str) -> Callable[[], CardProcess]:
        path = tmp_path / "child.py"
        path.write_text(HEAD + text)
        return lambda: CardProcess(path)

    return made


def lost(microphone: Microphone) -> str:
    with pytest.raises(AudioDeviceLostError) as caught:
        for _ in microphone.frames(Event()):
            pass
    microphone.close()
    return str(caught.value)


def test_a_device_lost_while_it_is_opened_ends_in_an_error_and_not_in_a_hang(card: Card) -> None:
    flood = "import threading\nwhile True: os.write(2, b'ALSA lib pcm_hw.c: no such device\\n' * 100)\n"
    assert "did not open within 1 s" in lost(Microphone(IMPATIENT, start=card(flood)))


def test_a_driver_that_stalls_is_a_lost_device(card: Card) -> None:
    text = "opened()\nfor _ in range(20): tell(b's', bytes(1 + 640))\ntime.sleep(3600)\n"
    assert "the microphone fell silent for 0.5 s" in lost(Microphone(SOON_SILENT, start=card(text)))


def test_a_device_that_opens_and_gives_nothing_is_told_from_one_that_falls_silent(card: Card) -> None:
    said = lost(Microphone(IMPATIENT, start=card("opened()\ntime.sleep(3600)\n")))
    assert "the microphone opened, but gave no sound for 1 s" in said


def test_a_sound_server_that_stands_still_for_a_second_is_no_lost_device(card: Card) -> None:
    """As one did that got no processor time: by the settings that a door has."""
    blocks = "for _ in range(20): tell(b's', bytes(1 + 640))\n"
    said = lost(
        Microphone(AS_A_DOOR, start=card(f"opened()\n{blocks}time.sleep(1.2)\n{blocks}os._exit(3)\n"))
    )
    assert "exit code 3" in said


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os.kill(os.getpid(), 6)", "its process ended (signal 6)"),
        ("os._exit(3)", "its process ended (exit code 3)"),
        ("os.kill(os.getpid(), 7)", "/dev/shm is full; end the program that fills it"),
    ],
)
def test_a_process_that_dies_is_a_lost_device_and_not_a_silent_one(card: Card, end: str, told: str) -> None:
    said = lost(Microphone(PATIENT, start=card(f"opened()\ntell(b's', bytes(641))\n{end}\n")))
    assert told in said
    assert "silent" not in said


def test_a_driver_that_only_drips_is_a_lost_device_and_no_endless_wait(card: Card) -> None:
    """A block of 20 ms every 400: no wait for the next one ever ends, and an answer would take minutes."""
    text = "opened()\nwhile True: tell(b's', bytes(1 + 640)); time.sleep(0.4)\n"
    assert "hardly any of its sound arrives" in lost(Microphone(PATIENT, start=card(text)))


def test_a_device_that_never_waits_is_no_microphone(card: Card) -> None:
    """As ALSA's `null`: a minute of silence in a second, in which nobody can have spoken."""
    text = "opened()\nwhile True: tell(b's', bytes(1 + 640))\n"
    assert "faster than time passes" in lost(Microphone(PATIENT, start=card(text)))


def test_jacks_library_makes_no_database_and_waits_for_none_left_half_made(tmp_path: Path) -> None:
    """It would wait for somebody to finish it, 3, 6 and 12 s, also when there is room again."""
    place = tmp_path / f"jack_db-{os.geteuid()}"
    place.mkdir()
    (place / "__db.001").write_bytes(b"")
    with without_jacks_database(tmp_path):
        assert place.is_file(), "no folder can be made there"
        with without_jacks_database(tmp_path):  # the loudspeaker's process beside the microphone's
            pass
    assert list(tmp_path.iterdir()) == []
    first, second = without_jacks_database(tmp_path), without_jacks_database(tmp_path)
    for begun in (first, second):
        begun.__enter__()
    first.__exit__(None, None, None)
    assert place.is_file(), "the other still loads the library"
    second.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []
    place.touch()  # of a process that was killed while it loaded the library
    with without_jacks_database(tmp_path):
        assert place.is_file()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"jack_default_{os.geteuid()}_0").touch()
    place.mkdir()
    with without_jacks_database(tmp_path):
        assert place.is_dir(), "JACK runs, and keeps what it has"
    with without_jacks_database(tmp_path / "none"):
        pass


def test_where_no_sound_server_can_be_its_library_makes_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ALSA's plugin for PulseAudio looks for a server in `~/.config/pulse` and makes it, and one in /tmp."""
    require_sound()
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    for name in [name for name in os.environ if name.startswith(("PULSE_", "XDG_", "ALSA_"))]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(home), "TMPDIR": str(temporary), "PATH": "/nonexistent"}.items():
        monkeypatch.setenv(name, value)
    if os.geteuid() == 0:  # for anybody else the library starts a server
        process = CardProcess()
        process.ask(do="capture", device="no such device", rate_hz=None, latency_s=0.1)
        message = process.message(120.0)
        process.close()
        assert message is not None
        assert message.kind == "e"
        assert [*home.iterdir(), *temporary.iterdir()] == []


def test_a_sound_server_that_is_there_or_can_be_started_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, user = {"HOME": str(tmp_path / "new")}, 1000
    monkeypatch.setenv("PATH", "/nonexistent")

    def looks_at(environment: dict[str, str], user: int = user) -> str | None:
        found = dict(environment)
        spare_the_home(found, user)
        return found.get("PULSE_RUNTIME_PATH")

    assert looks_at(plain) == NOWHERE
    for given in ({"XDG_RUNTIME_DIR": "/run/user/1000"}, {"PULSE_SERVER": "desk.site"}):
        assert looks_at({**plain, **given}) is None
    (tmp_path / "old" / ".config" / "pulse").mkdir(parents=True)
    (tmp_path / "older" / ".pulse").mkdir(parents=True)
    assert looks_at({"HOME": str(tmp_path / "old")}) is None
    assert looks_at({"HOME": str(tmp_path / "older")}) is None
    assert looks_at({**plain, "XDG_CONFIG_HOME": str(tmp_path / "old" / ".config")}) is None
    (tmp_path / "pulseaudio").write_text("#!/bin/sh\n")
    (tmp_path / "pulseaudio").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert looks_at(plain) is None
    assert looks_at(plain, user=0) == NOWHERE


def test_who_speaks_into_a_device_that_drops_every_twentieth_sample_is_not_judged(card: Card) -> None:
    """It is asked again, uncounted: the frames say that something between them was lost."""
    text = """
opened()
begun = time.monotonic()
for number in range(9000):
    tell(b's', bytes(1) + b"".join(struct.pack("<h", at % 91 * 7) for at in range(320)))
    time.sleep(max(0.0, begun + 0.021 * number - time.monotonic()))
"""
    told: list[Trouble] = []
    microphone = Microphone(PATIENT, told.append, start=card(text))
    frames = iter(microphone.frames(Event()))
    lost_samples = [frame.lost_samples for frame, _ in zip(frames, range(600), strict=False)]
    frames.close()  # type: ignore[attr-defined]
    microphone.close()
    assert told == [Trouble.RATE]
    assert sum(1 for lost in lost_samples if lost) >= 2


def test_a_dead_channel_is_not_heard_again_at_the_next_attempt(card: Card) -> None:
    """Its converter hisses, so it gives no one number for ever; a person has spoken by then."""
    text = """
opened(channels=2)
for number in range(3600):
    tell(b's', bytes(1) + b"".join(struct.pack("<hh", at % 3 - 1, 4000 * (at % 2)) for at in range(320)))
    time.sleep(0.01)
"""
    told: list[Trouble] = []
    microphone = Microphone(PATIENT, told.append, start=card(text))
    for first in (True, False):
        frames = iter(microphone.frames(Event()))
        heard = [next(frames).samples for _ in range(100 if first else 1)]
        assert set(heard[-1]) == {0, 4000}
        frames.close()  # type: ignore[attr-defined]
    microphone.close()
    assert told == [Trouble.DEAD_CHANNEL]


def test_a_device_that_ends_with_a_reason_says_it(card: Card) -> None:
    text = "opened()\ntell(b'e', json.dumps({'code': -9988, 'text': 'Stream closed'}).encode())\n"
    assert "Stream closed" in lost(Microphone(PATIENT, start=card(text)))


def test_a_stop_is_obeyed_while_the_device_does_not_answer(card: Card) -> None:
    stop = Event()
    microphone = Microphone(MicrophoneSettings(start_s=60.0), start=card("time.sleep(3600)\n"))
    Timer(0.2, stop.set).start()
    assert list(microphone.frames(stop)) == []
    microphone.close()


def test_the_same_microphone_serves_again_after_each_loss(card: Card, tmp_path: Path) -> None:
    text = f"""
again = os.path.exists({str(tmp_path / "again")!r})
open({str(tmp_path / "again")!r}, "w").close()
if not again: sys.exit()
opened()
while True: tell(b's', bytes(641)); time.sleep(0.001)
"""
    microphone = Microphone(PATIENT, start=card(text))
    with pytest.raises(AudioDeviceLostError):
        next(iter(microphone.frames(Event())))
    for _ in range(3):
        frames = microphone.frames(Event())
        assert len(next(iter(frames)).samples) == 320
        frames.close()  # type: ignore[attr-defined]
    microphone.close()


def test_of_two_channels_one_is_heard_so_that_one_wired_the_wrong_way_round_cancels_nothing(
    card: Card,
) -> None:
    text = """
opened(channels=2)
while True: tell(b's', bytes(1) + struct.pack("<hh", 1000, -1000) * 320); time.sleep(0.001)
"""
    microphone = Microphone(PATIENT, start=card(text))
    frames = microphone.frames(Event())
    assert set(next(iter(frames)).samples) == {1000}
    frames.close()  # type: ignore[attr-defined]
    microphone.close()


def test_what_a_quiet_microphone_gives_is_raised_and_the_answer_is_learned_from_when_it_is_over(
    card: Card,
) -> None:
    text = """
opened()
def block(samples): return b's' + struct.pack('<I', 641) + bytes(1) + samples
# A second of somebody who speaks quietly, a second of nobody; at once.
os.write(1, block(struct.pack("<hh", 100, -100) * 160) * 50 + block(bytes(640)) * 50)
time.sleep(60)
"""
    microphone = Microphone(PATIENT, start=card(text))
    microphone.level = InputLevel(12.0, LevelState(-45.0, 6.0))
    frames = microphone.frames(Event())
    heard = np.concatenate([next(iter(frames)).samples for _ in range(100)])
    assert set(heard) == {200, 0, -200}
    assert microphone.level.state.gain_db == 6.0, "not before the answer is over"
    frames.close()  # type: ignore[attr-defined]
    microphone.close()
    assert microphone.level.state.gain_db == 9.0


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"code": -9985, "text": "Device unavailable"}, "another program is using it"),
        ({"code": -9997, "text": "Invalid sample rate"}, "remove `rate_hz` from the settings"),
        ({"code": -9996, "text": "Error querying device -1"}, "plug one in"),
        ({"code": -9998, "text": "Invalid number of channels"}, "no one or two channels of 16 bits"),
        ({"code": -9994, "text": "Sample format not supported"}, "no one or two channels of 16 bits"),
        ({"code": -9992, "text": "Insufficient memory"}, "no memory left"),
        ({"code": 0, "text": "Multiple input devices found for 'USB'"}, "several are called so"),
        ({"code": "library", "text": ""}, "apt install libportaudio2"),
        ({"code": -9999, "text": "Unanticipated host error [PaErrorCode -9999]"}, "restart the sound server"),
    ],
)
def test_each_reason_tells_what_to_do_about_it_in_words_of_ours(facts: dict[str, object], said: str) -> None:
    told = str(refusal(facts, None, 48_000))
    assert said in told
    assert not facts["text"] or str(facts["text"]) not in told


@pytest.mark.parametrize("code", [-9997, -9998, -9994])
def test_a_loudspeaker_of_another_form_sends_nobody_to_the_microphones_settings(code: int) -> None:
    told = str(refusal({"code": code, "text": "Invalid"}, None, 16_000, "loudspeaker"))
    assert "does not play one channel of 16 bits at 16000 Hz" in told
    assert "rate_hz" not in told
    assert "plug one in" not in told


def test_without_a_loudspeaker_the_door_says_so_once_and_plays_when_there_is_one(
    card: Card, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    plugged, played = tmp_path / "plugged", tmp_path / "played"
    text = f"""
if not os.path.exists({str(plugged)!r}):
    tell(b'e', json.dumps({{'code': -9996, 'text': 'no device'}}).encode()); sys.exit()
tell(b'o', b'{{}}')
while header := sys.stdin.buffer.read(4):
    sys.stdin.buffer.read(2 * struct.unpack('<I', header)[0])
    open({str(played)!r}, 'w').close(); tell(b'p', b'')
"""
    tries = []
    start = card(text)
    speaker = Loudspeaker(lambda: (tries.append(1), start())[1])
    tone = np.zeros(1_600, np.int16)
    with caplog.at_level(logging.WARNING):
        for count in range(3):
            speaker(tone)
            wait_until(lambda count=count: len(tries) > count)  # type: ignore[misc]
    wait_until(lambda: "no tones" in caplog.text)
    assert "loudspeaker" in caplog.text
    plugged.touch()
    wait_until(lambda: (speaker(tone), time.sleep(0.05), played.exists())[2])
    speaker.close()
    assert len([record for record in caplog.records if "no tones" in record.message]) == 1


def test_a_process_that_does_not_take_what_it_is_to_play_has_hung(card: Card) -> None:
    process = card("time.sleep(3600)")()
    ended = Timer(60.0, process.kill)  # so that a wait without an end is told, too
    ended.start()
    with pytest.raises(AudioDeviceLostError, match="hangs; it is started again"):
        process.send(b"{}\n" + bytes(1 << 20))
    ended.cancel()
    process.close()


def test_a_loudspeaker_that_hangs_is_tried_with_no_further_tone_when_it_is_closed(card: Card) -> None:
    tries = []
    start = card("tell(b'o', b'{}')\ntime.sleep(3600)\n")
    speaker = Loudspeaker(lambda: (tries.append(1), start())[1])
    speaker(np.zeros(1_600, np.int16))
    wait_until(lambda: len(tries) == 1)
    for _ in range(3):
        speaker(np.zeros(1_600, np.int16))
    speaker.close()
    assert len(tries) == 1


def test_a_message_of_any_length_is_refused(card: Card) -> None:
    process = card("tell(b's' + struct.pack('<I', 1 << 31), b'')\ntime.sleep(60)\n")()
    process.ask(do="capture")
    with pytest.raises(AudioError, match="bytes"):
        process.message(30.0)
    process.close()


def test_a_device_that_another_program_holds_is_not_said_to_be_unplugged(tmp_path: Path) -> None:
    """PortAudio says -9996 or -1 for it: it is not in its list."""
    facts = {"code": -9996, "text": "Invalid input device (no default output device)"}
    status = tmp_path / "card0" / "pcm0c" / "sub0" / "status"
    status.parent.mkdir(parents=True)
    status.write_text("closed\n")
    assert "plug one in" in str(refusal(facts, None, None, cards=tmp_path))
    status.write_text("state: RUNNING\nowner_pid   : 812\ntrigger_time: 24.93\n")
    said = str(refusal(facts, None, None, cards=tmp_path))
    assert "process 812 is using it" in said
    assert "plug" not in said
    assert "plug one in" in str(refusal(facts, None, None, "loudspeaker", cards=tmp_path))


def test_a_busy_device_of_alsa_and_one_that_is_called_by_name_are_named(tmp_path: Path) -> None:
    said = str(refusal({"code": -9985, "text": "Device unavailable"}, "USB", None, cards=tmp_path))
    assert "another program is using it" in said
    said = str(refusal({"code": -1, "text": "Error querying device"}, "USB", None, cards=tmp_path / "none"))
    assert "called 'USB'" in said
    assert "`[audio.microphone] device`" in said
