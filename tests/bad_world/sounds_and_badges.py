"""Loose plugs, odd readers, odd recordings, at a real microphone where it matters."""

from __future__ import annotations

import io
import re
import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.bad_world.world import JUDGED, PERSON, Door, Ended, Unit, World
from tests.e2e.sound_server import SINK

RATE_HZ = 16_000
TONES = "earcons = true\n"
PATIENT = "[audio.microphone]\nstart_s = {}\n"
"""For a machine so busy that a sound card takes its time."""
HEARD = f"{JUDGED}|The first word fell into the tone|lay over the speech"
"""What a door says that hears again; on a busy machine its tone comes late, and the sound server cracks."""
TRIES = 5
"""So often somebody answers at a microphone before a door that asks again and again counts as deaf."""


def speech(world: World) -> npt.NDArray[np.int16]:
    with wave.open(str(world.sentence)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def wav(samples: npt.NDArray[np.int16], channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())
    return out.getvalue()


def after_the_tone(world: World, unit: Unit) -> Path:
    """The sentence behind a second of silence: what is said into the door's tone is asked for again."""
    path = unit.folder / "after-the-tone.wav"
    path.write_bytes(wav(np.concatenate((np.zeros(RATE_HZ, np.int16), speech(world)))))
    return path


def answered(world: World, door: Door, clip: Path) -> str:
    """Somebody comes and `clip` is played; what the door says that heard it. On a busy machine a sentence is
    over before the microphone hears, or blocks of it are lost: the door asks again, and hears it again."""
    for _ in range(TRIES):
        door.badge()
        door.shows("Please say")
        world.sound.play(clip)
        saw = door.shows(f"{HEARD}|DENIED_[A-Z]+: ")
        if re.search(HEARD, saw):
            return saw
    raise AssertionError(f"not heard in {TRIES} tries:\n{door.told}")


@contextmanager
def away(world: World) -> Iterator[None]:
    """The microphone is not there for a while."""
    world.sound.unplug()
    try:
        yield
    finally:
        world.sound.plug_in()


def suspend(world: World, on: bool) -> None:
    """Another program has the device, as PulseAudio shows it."""
    command = ["pactl", "suspend-sink", SINK, "1" if on else "0"]
    subprocess.run(command, env=world.sound.environment, check=True, timeout=60)


def loose_plug(world: World) -> Ended:
    """the sound card goes away while tones play, and is unplugged when somebody comes"""
    unit = world.unit("plug", TONES + PATIENT.format(60.0))
    with unit.door() as door:
        door.shows("Show your badge")
        door.badge()
        door.shows("Please say")
        with away(world):  # the tone that asks to speak is playing
            saw = door.shows("stays locked|out of service")
        with away(world):
            door.badge()
            door.shows("stays locked|out of service")
        answered(world, door, after_the_tone(world, unit))
        door.end()
    faults = [event for event in unit.events() if event.startswith("DENIED_FAULT")]
    assert len(faults) >= 2, unit.events()
    assert "FAULT audio_fault" in unit.events()
    return Ended(saw, f"{len(faults)} x {faults[0]}", "hears again by itself")


def busy_device(world: World) -> Ended:
    """another program holds the microphone, and the unit is told to stop meanwhile"""
    unit = world.unit("busy", TONES + PATIENT.format(15.0))
    with unit.door() as door:
        door.shows("Show your badge")
        suspend(world, True)
        try:
            door.badge()
            saw = door.shows("stays locked|out of service")
        finally:
            suspend(world, False)
        answered(world, door, after_the_tone(world, unit))
        suspend(world, True)
        try:
            door.badge()
            door.terminate()  # obeyed, though the device does not answer
        finally:
            suspend(world, False)
    assert "Traceback" not in door.told
    found = [event for event in unit.events() if event.startswith("DENIED_FAULT")]
    assert found, unit.events()
    assert "FAULT audio_fault" in unit.events()
    return Ended(saw, found[0], "hears again by itself; SIGTERM is obeyed")


def inverted_stereo(world: World) -> Ended:
    """one of two channels is wired the wrong way round"""
    unit = world.unit("inverted")
    said = speech(world)
    path = unit.folder / "inverted.wav"
    path.write_bytes(wav(np.stack((said, -said), axis=1), channels=2))
    with unit.door() as door:
        door.shows("Show your badge")
        saw = answered(world, door, path)  # not silence
        door.end()
    assert "FAULT microphone_inverted" in unit.events()
    return Ended(saw, "FAULT microphone_inverted", "one channel is heard; the log says so")


def lost_frames(world: World) -> Ended:
    """a tenth of the blocks is lost on the way (Bluetooth, USB)"""
    unit = world.unit("lost")
    rng = np.random.default_rng(18)
    for block_ms in (10, 20):
        block = RATE_HZ * block_ms // 1000
        broken = speech(world).copy()
        for at in range(0, len(broken), block):
            if rng.random() < 0.1:
                broken[at : at + block] = 0
        path = unit.folder / f"lost-{block_ms}.wav"
        path.write_bytes(wav(broken))
        for _ in range(6):  # uncounted: five failures would make the person wait
            with unit.door("--source", path, "--claim", PERSON) as door:
                saw = door.shows("lost on the way from the microphone")
                door.shows("DENIED_QUALITY: Part of that was lost")
            if block_ms == 20:
                break
    return Ended(saw, "DENIED_QUALITY sound_lost", "asked again; six in a row cost the person nothing")


def odd_badges(world: World) -> Ended:
    """readers that send 40 digits, sentinels, stars, Cyrillic, a tab, a byte-order mark"""
    unit = world.unit("badges")
    odd = ("0" * 39 + "1", ";0001234567?", "*4712#", "АВС4712", "47\x0012")
    with unit.door("--source", world.sentence) as door:
        door.shows("Show your badge")
        for sent in odd:
            door.badge(sent)
            saw = door.shows("This badge cannot be read")
            door.shows("DENIED_UNKNOWN")
            door.shows("Show your badge")  # what is typed before is not for the next person
        for sent in (f"{PERSON}\t", f"\ufeff{PERSON}", f" {PERSON}"):
            door.badge(sent)
            door.shows(JUDGED)
            door.shows("Show your badge")
        door.end()
    found = [event for event in unit.events() if "badge_unreadable" in event]
    assert len(found) == len(odd), unit.events()
    told = unit.does("readers", "watch", stdin=b";0001234567?\n").said
    assert "unreadable" in told
    assert "3b 30" in told, "what the reader sent, byte by byte"
    return Ended(saw, found[0], "the next badge is served")


TWICE = """\
version = 1
[risks.standard]
[zones.ward]
[doors.door-1]
zone = "ward"
risk = "standard"
[[allow]]
roles = ["enrolled"]
[people.alice]
badges = ["{one}"]
[people.bob]
badges = ["{two}"]
"""


def badges_of_two(world: World) -> Ended:
    """two people with one badge in two spellings"""
    unit = world.unit("twice")
    for one, two in (("12-3456", "123456"), ("00ab12", "00AB12"), ("a:b 1", "AB1"), ("7-7-7", "77-7")):
        ran = unit.adopts(TWICE.format(one=one, two=two))
        assert ran.code != 0, ran.said
        assert "alice" in ran.said
        assert "bob" in ran.said
    assert unit.adopts(TWICE.format(one="00123", two="123")).code == 0, "leading zeros are another badge"
    return Ended("nothing: the admin got both names", "nothing", "the rules of before stay in force")


def odd_recordings(world: World) -> Ended:
    """recordings shorter than one sample, from a pipe, with odd chunks; a phrase with a no-break space"""
    unit = world.unit("recordings")
    said = wav(speech(world))
    header, samples = said[:36], said[44:]
    streamed = header + b"data" + b"\xff\xff\xff\xff" + samples
    odd_chunk = header + b"note" + (3).to_bytes(4, "little") + b"abc" + said[36:]
    one_byte = header + b"data" + (1).to_bytes(4, "little") + b"\x01"
    two_of_three = bytearray(header) + b"data" + (2).to_bytes(4, "little") + b"\x01\x02"
    two_of_three[32:36] = (3).to_bytes(2, "little") + (24).to_bytes(2, "little")
    cases = (
        ("one-byte", one_byte, 1, "holds no samples"),
        ("24-bit", bytes(two_of_three), 1, "holds no samples"),
        ("nothing", header + b"data" + bytes(4), 1, "holds no samples"),
        ("streamed", streamed, 1, "DENIED_PHRASE|did not match|words"),
        ("odd-chunk", odd_chunk, 1, "DENIED_PHRASE|did not match|words"),
    )
    for name, content, code, told in cases:
        path = unit.folder / f"{name}.wav"
        path.write_bytes(content)
        ran = unit.does(
            *("decide", "--door", "door-1", "--claim", PERSON, "--phrase", "ten\u00a0of\nclubs", path)
        )
        assert ran.code == code, (name, ran.said)
        assert any(part in " ".join(ran.said.split()) for part in told.split("|")), (name, ran.said)
        assert "holds no words" not in ran.said
    with unit.door("--source", unit.folder / "one-byte.wav") as door:
        door.shows("Show your badge")
        door.badge()
        saw = door.shows("DENIED_QUALITY|out of service|stays locked")
        door.badge()
        door.shows("DENIED_QUALITY|out of service|stays locked")
        door.end()
    return Ended(saw, unit.events()[1], "`run` goes on with the next badge")


SCENARIOS = (
    *(loose_plug, busy_device, inverted_stereo, lost_frames),
    *(odd_badges, badges_of_two, odd_recordings),
)
