from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from device.audio import load_utterance
from device.audio.errors import Flaw, QualityError, UnreadableAudioError
from device.audio.files.flac_length import flac_length, samples_to_end
from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from tests.device.audio.sounds import hush, join, read, refused, tone, wav_bytes, write
from tests.speech import Reading

LIMITS = FileLimits()


@pytest.fixture
def speech(reader: list[Reading]) -> np.ndarray:
    return read(reader[1].path)


def test_a_16_khz_mono_file_is_read_bit_for_bit(reader: list[Reading]) -> None:
    assert np.array_equal(read_recording(reader[1].path, LIMITS), read(reader[1].path))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_wav_and_flac_give_the_same_samples(tmp_path: Path, speech: np.ndarray, suffix: str) -> None:
    path = write(tmp_path / f"speech{suffix}", speech)
    assert np.array_equal(read_recording(path, LIMITS), speech)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_any_usual_rate_becomes_16_khz(tmp_path: Path, rate_hz: int) -> None:
    at = np.arange(2 * rate_hz) / rate_hz
    path = write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1_000 * at), rate_hz)
    samples = read_recording(path, LIMITS)
    assert samples.dtype == np.int16
    assert abs(len(samples) - 32_000) <= 2
    spectrum = np.abs(np.fft.rfft(samples[8_000:24_000]))
    assert np.argmax(spectrum) == 1_000
    assert 15_900 < np.abs(samples[8_000:24_000]).max() < 16_800


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_linear_sample_format_is_taken(tmp_path: Path, speech: np.ndarray, subtype: str) -> None:
    samples = read_recording(write(tmp_path / "speech.wav", speech / 32_768, subtype=subtype), LIMITS)
    assert np.abs(samples.astype(int) - speech).max() <= (256 if subtype == "PCM_U8" else 1)


def test_two_channels_that_agree_become_one(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "stereo.wav", np.stack((speech, speech), axis=1))
    assert np.array_equal(read_recording(path, LIMITS), speech)


def test_what_reaches_a_second_microphone_later_cancels_nothing(tmp_path: Path, speech: np.ndarray) -> None:
    """5 cm farther: half a turn at 3.2 kHz, where the mean of both has a hole."""
    high = soxr.resample(speech.astype(np.float32) / 32_768, 16_000, 48_000)
    late = np.concatenate((np.zeros(7, np.float32), high[:-7]))
    both = write(tmp_path / "both.wav", np.stack((high, late), axis=1), 48_000)
    one = write(tmp_path / "one.wav", high, 48_000)
    assert np.array_equal(read_recording(both, LIMITS), read_recording(one, LIMITS))


def test_two_channels_with_different_voices_are_refused(
    tmp_path: Path, reader: list[Reading], other_reader: list[Reading]
) -> None:
    one, other = read(reader[1].path)[:16_000], read(other_reader[1].path)[:16_000]
    path = write(tmp_path / "stereo.wav", np.stack((one, other), axis=1))
    with pytest.raises(UnreadableAudioError, match="record in mono"):
        read_recording(path, LIMITS)


def test_two_channels_that_cancel_each_other_are_refused(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "stereo.wav", np.stack((speech, -speech), axis=1))
    with pytest.raises(UnreadableAudioError, match="record in mono"):
        read_recording(path, LIMITS)


def test_more_than_two_channels_are_refused(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "three.wav", np.stack((speech, speech, speech), axis=1))
    with pytest.raises(UnreadableAudioError, match="3 channels"):
        read_recording(path, LIMITS)


@pytest.mark.parametrize("rate_hz", [4_000, 7_999, 192_001, 384_000])
def test_a_rate_that_no_microphone_has_is_refused(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "rate.wav", tone(1.0), rate_hz)
    with pytest.raises(UnreadableAudioError, match=f"{rate_hz} Hz is no rate we take"):
        read_recording(path, LIMITS)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    with pytest.raises(UnreadableAudioError, match="the file is empty"):
        read_recording(path, LIMITS)


@pytest.mark.parametrize("length", [1, 4, 11, 12, 20, 30, 40])
def test_a_header_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "header.wav"
    path.write_bytes(wav_bytes(tone(1.0).tobytes())[:length])
    with pytest.raises(UnreadableAudioError):
        read_recording(path, LIMITS)


@pytest.mark.parametrize("kept", [1, 2, 1_000, 31_999])
def test_samples_cut_short_are_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "truncated.wav"
    path.write_bytes(wav_bytes(tone(1.0).tobytes())[: 44 + kept])
    with pytest.raises(UnreadableAudioError, match=f"cut short \\({kept} of 32000 bytes"):
        read_recording(path, LIMITS)


def test_a_header_that_promises_two_hours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(tone(1.0).tobytes(), promised=2 * 3_600 * 32_000))
    with pytest.raises(UnreadableAudioError, match="cut short"):
        read_recording(path, LIMITS)


@pytest.mark.parametrize("promised", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0])
def test_a_wav_from_a_pipe_that_does_not_know_its_length_is_read_to_its_end(
    speech: np.ndarray, promised: int
) -> None:
    content = wav_bytes(speech.tobytes(), promised=promised)
    assert np.array_equal(read_recording(content, LIMITS), speech)
    assert np.array_equal(read_recording(content + b"\x01", LIMITS), speech), "half a sample at the end"


@pytest.mark.parametrize("writer", ["flac", "wav"])
def test_what_a_program_writes_into_a_pipe_is_read(tmp_path: Path, speech: np.ndarray, writer: str) -> None:
    path = write(tmp_path / "speech.wav", speech)
    command = ["ffmpeg", "-loglevel", "error", "-i", str(path), "-f", writer, "-"]
    piped = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert np.array_equal(read_recording(piped, LIMITS), speech)
    if writer == "flac":
        for part in (0.2, 0.5, 0.9, 0.999):
            with pytest.raises(UnreadableAudioError, match="cut short"):
                read_recording(piped[: int(len(piped) * part)], LIMITS)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_the_length_of_a_flac_is_told_from_its_last_frame(tmp_path: Path, rate_hz: int) -> None:
    for samples in (5_000, rate_hz, 2 * rate_hz + 17):
        path = write(tmp_path / "whole.flac", hush(samples / 16_000)[:samples], rate_hz)
        content = path.read_bytes()
        assert flac_length(memoryview(content), 8) == min(samples, len(hush(samples / 16_000)))


@pytest.mark.parametrize("case", ["40_data_1byte", "49c_24bit_2bytes", "stereo 3 bytes", "float 3 bytes"])
def test_a_data_chunk_shorter_than_one_sample_holds_no_samples(case: str) -> None:
    form = {"40_data_1byte": (1, 1, 16, 1), "49c_24bit_2bytes": (1, 1, 24, 2)}.get(case) or (
        (1, 2, 16, 3) if "stereo" in case else (3, 1, 32, 3)
    )
    tag, channels, bits, size = form
    align = channels * bits // 8
    head = struct.pack("<HHIIHH", tag, channels, 16_000, 16_000 * align, align, bits)
    data = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size) + bytes(size)
    with pytest.raises(UnreadableAudioError, match="holds no samples"):
        read_recording(b"RIFF" + struct.pack("<I", len(data)) + data, LIMITS)


def riff(*chunks: tuple[bytes, bytes], magic: bytes = b"RIFF", pad: bool = True) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2 if pad else 0)
        for kind, data in chunks
    )
    return magic + struct.pack("<I", len(body) + 4) + b"WAVE" + body


FMT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))


@pytest.mark.parametrize("pad", [True, False])
def test_odd_chunks_are_skipped_whether_or_not_their_writer_padded_them(
    speech: np.ndarray, pad: bool
) -> None:
    odd = ((b"LIST", b"INFOx"), (b"junk", b"abc"))
    content = riff(*odd, FMT, *odd, (b"data", speech.tobytes()), pad=pad)
    assert np.array_equal(read_recording(content, LIMITS), speech)


@pytest.mark.parametrize("more", range(0, 64, 7))
def test_a_chunk_without_its_pad_byte_is_skipped_whatever_the_length_behind_it_looks_like(
    speech: np.ndarray, more: int
) -> None:
    """The samples' length begins with a byte that may be a letter: `data@` reads as `ata@` too."""
    sound = speech[: len(speech) - len(speech) % 128 + more - 128]
    content = riff(FMT, (b"note", b"abc"), (b"data", sound.tobytes()), pad=False)
    assert np.array_equal(read_recording(content, LIMITS), sound)


def test_a_wav_with_a_hundred_chunks_before_its_samples_is_read(speech: np.ndarray) -> None:
    content = riff(FMT, *[(b"junk", b"")] * 100, (b"data", speech.tobytes()))
    assert np.array_equal(read_recording(content, LIMITS), speech)


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
def test_a_wav_of_the_64_bit_kind_is_read(speech: np.ndarray, magic: bytes) -> None:
    sizes = struct.pack("<QQQI", 36 + len(speech) * 2, len(speech) * 2, len(speech), 0)
    content = bytearray(riff((b"ds64", sizes), FMT, (b"data", speech.tobytes()), magic=magic))
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff" * 4
    assert np.array_equal(read_recording(bytes(content), LIMITS), speech)
    with pytest.raises(UnreadableAudioError, match="cut short"):
        read_recording(bytes(content[:-1000]), LIMITS)


def test_a_tag_in_front_of_a_flac_is_skipped(tmp_path: Path, speech: np.ndarray) -> None:
    content = write(tmp_path / "a.flac", speech).read_bytes()
    tagged = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + content
    assert np.array_equal(read_recording(tagged, LIMITS), speech)


ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)
ID3V1 = b"TAG" + bytes(125)
APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(16)
INFO = b"LIST" + (26).to_bytes(4, "little") + b"INFOISFT" + (14).to_bytes(4, "little") + b"Lavf59.27.100\0"


def test_tags_in_front_of_a_wav_and_more_than_one_in_front_of_a_flac_are_skipped(
    tmp_path: Path, speech: np.ndarray
) -> None:
    for name in ("a.wav", "a.flac"):
        content = write(tmp_path / name, speech).read_bytes()
        assert np.array_equal(read_recording(ID3 + ID3 + content, LIMITS), speech), name


@pytest.mark.parametrize("tag", [ID3V1, APE, APE + ID3V1])
def test_a_tag_behind_a_flac_of_unknown_length_does_not_cut_it_short(
    tmp_path: Path, speech: np.ndarray, tag: bytes
) -> None:
    content = bytearray(write(tmp_path / "a.flac", speech).read_bytes())
    packed = int.from_bytes(content[18:26], "big") & ~0xF_FFFF_FFFF
    content[18:42] = packed.to_bytes(8, "big") + bytes(16)
    assert np.array_equal(read_recording(bytes(content) + tag, LIMITS), speech)


def test_the_writers_name_behind_samples_of_unknown_length_is_no_sound(speech: np.ndarray) -> None:
    content = wav_bytes(speech.tobytes(), promised=0xFFFF_FFFF) + INFO
    assert np.array_equal(read_recording(content, LIMITS), speech)


def test_the_writers_name_behind_no_samples_is_no_sound_either() -> None:
    with pytest.raises(UnreadableAudioError, match="holds no samples"):
        read_recording(wav_bytes(b"") + INFO, LIMITS)


@pytest.mark.parametrize(
    ("tag", "named"),
    [(0x55, "MP3"), (0xFF, "AAC"), (0x704F, "Opus"), (0x28F, "G.722"), (2, "ADPCM"), (0x1234, "0x1234")],
)
def test_a_wav_of_another_coding_names_it_and_is_not_called_damaged(
    speech: np.ndarray, tag: int, named: str
) -> None:
    form = struct.pack("<HHIIHHH", tag, 1, 16_000, 8_000, 1, 0, 0)
    content = riff((b"fmt ", form), (b"data", speech.tobytes()))
    with pytest.raises(UnreadableAudioError, match="convert it to 16-bit PCM") as refused:
        read_recording(content, LIMITS)
    assert named in str(refused.value)


def test_a_long_description_of_the_samples_is_no_damage(speech: np.ndarray) -> None:
    form = struct.pack("<HHIIHHH", 1, 1, 16_000, 32_000, 2, 16, 200) + bytes(200)
    assert np.array_equal(read_recording(riff((b"fmt ", form), (b"data", speech.tobytes())), LIMITS), speech)


@pytest.mark.parametrize(
    ("form", "coder", "named"),
    [
        ("webm", "libopus", "WebM"),
        ("ogg", "libopus", "Ogg"),
        ("ipod", "aac", "M4A"),
        ("mp3", "libmp3lame", "MP3"),
        ("adts", "aac", "MP3 or AAC"),
        ("aiff", "pcm_s16be", "AIFF"),
        ("caf", "pcm_s16be", "CAF"),
    ],
)
def test_what_phones_and_browsers_record_is_named_in_the_refusal(
    tmp_path: Path, speech: np.ndarray, form: str, coder: str, named: str
) -> None:
    path, out = write(tmp_path / "speech.wav", speech), tmp_path / "recorded"
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-i", path, "-ar", "48000", "-c:a", coder, "-f", form, out],
        check=True,
    )
    with pytest.raises(UnreadableAudioError, match="send a WAV or FLAC file") as refused:
        read_recording(out, LIMITS)
    assert named in str(refused.value)


def test_a_header_that_promises_no_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    path.write_bytes(wav_bytes(b""))
    with pytest.raises(UnreadableAudioError, match="no samples"):
        read_recording(path, LIMITS)


def test_a_wav_of_a_thousand_tiny_chunks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chunks.wav"
    path.write_bytes(b"RIFF\xff\xff\x00\x00WAVE" + b"junk\x00\x00\x00\x00" * 1_000)
    with pytest.raises(UnreadableAudioError, match="header"):
        read_recording(path, LIMITS)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_flac_cut_short_is_refused(tmp_path: Path, speech: np.ndarray, part: float) -> None:
    whole = write(tmp_path / "whole.flac", speech).read_bytes()
    path = tmp_path / "truncated.flac"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UnreadableAudioError):
        read_recording(path, LIMITS)


def test_a_flac_that_promises_two_hours_is_refused(tmp_path: Path, speech: np.ndarray) -> None:
    content = bytearray(write(tmp_path / "whole.flac", speech).read_bytes())
    # STREAMINFO: 36 bits of total samples end 26 bytes into the file.
    content[22:26] = (2 * 3_600 * 16_000).to_bytes(4, "big")
    path = tmp_path / "long.flac"
    path.write_bytes(content)
    with refused(Flaw.TOO_LONG, match="longer than 60 s"):
        read_recording(path, LIMITS)


def test_a_flac_with_bytes_overwritten_is_refused(tmp_path: Path, speech: np.ndarray) -> None:
    content = bytearray(write(tmp_path / "whole.flac", speech).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4_000] = bytes(4_000)
    path = tmp_path / "damaged.flac"
    path.write_bytes(content)
    with pytest.raises(UnreadableAudioError):
        read_recording(path, LIMITS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    wave = 0.3 * np.sin(np.arange(32_000) / 20)
    wave[20_000] = value
    path = write(tmp_path / "nan.wav", wave, subtype="FLOAT")
    with pytest.raises(UnreadableAudioError, match="no sound"):
        read_recording(path, LIMITS)


def test_floats_beyond_full_scale_are_clipped_and_not_wrapped(tmp_path: Path) -> None:
    path = write(tmp_path / "hot.wav", np.array([0.0, 5.0, -5.0, 1e30, 0.0]), subtype="FLOAT")
    assert read_recording(path, LIMITS).tolist() == [0, 32_767, -32_768, 32_767, 0]


def test_a_text_file_named_wav_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("This is a note about a door, not the sound of one.\n" * 100)
    with pytest.raises(UnreadableAudioError, match="not a WAV or FLAC file"):
        read_recording(path, LIMITS)


def test_other_codings_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "law.wav", tone(1.0), subtype="ULAW")
    with pytest.raises(UnreadableAudioError, match="u-law"):
        read_recording(path, LIMITS)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudioError, match="a plain file belongs there"):
        read_recording(tmp_path, LIMITS)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudioError, match=r"gone\.wav: cannot be opened"):
        read_recording(tmp_path / "gone.wav", LIMITS)


def test_a_named_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    with pytest.raises(UnreadableAudioError, match="a plain file belongs there"):
        read_recording(path, LIMITS)


def test_a_file_of_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    with path.open("wb") as file:
        file.truncate(LIMITS.max_bytes + 1)  # sparse: takes no disk
    with refused(Flaw.TOO_LONG, match="larger than 32 MiB"):
        read_recording(path, LIMITS)


def test_a_file_of_many_seconds_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "long.flac", hush(61.0, 0.0))
    with refused(Flaw.TOO_LONG, match="longer than 60 s"):
        read_recording(path, LIMITS)


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.wav"
    path.touch()
    with pytest.raises(UnreadableAudioError) as refused:
        load_utterance(path)
    assert len(str(refused.value).splitlines()) == 1


def test_speech_on_a_dc_offset_is_still_read(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(
        tmp_path / "offset.wav", np.clip(speech.astype(int) + 6_000, -32_768, 32_767).astype("int16")
    )
    straight, offset = load_utterance(write(tmp_path / "straight.wav", speech)), load_utterance(path)
    assert offset.quality.snr_db == pytest.approx(straight.quality.snr_db, abs=3.0)
    assert offset.quality.level_dbfs == pytest.approx(straight.quality.level_dbfs, abs=0.5)
    assert offset.duration_s == pytest.approx(straight.duration_s, abs=0.2)


def test_joined_sounds_survive_a_round_trip(tmp_path: Path) -> None:
    samples = join(hush(0.3), tone(0.5), hush(0.3))
    assert np.array_equal(read_recording(write(tmp_path / "join.flac", samples), LIMITS), samples)


@settings(max_examples=150, deadline=None)
@given(
    suffix=st.sampled_from([".wav", ".flac"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    near_header=st.booleans(),
)
def test_damaged_bytes_are_read_or_refused_but_never_crash(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    edits: list[tuple[float, bytes]],
    near_header: bool,
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(write(folder / f"whole{suffix}", join(hush(0.2), tone(0.5))).read_bytes())
    span = 64 if near_header else len(content)
    for where, what in edits:
        at = int(where * (span - 1))
        content[at : at + len(what)] = what
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(QualityError):
        load_utterance(path)


def test_a_recording_in_memory_is_read_like_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(1.0))
    assert np.array_equal(read_recording(path.read_bytes(), FileLimits()), read_recording(path, FileLimits()))


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no audio at all", wav_bytes(b"")])
def test_what_is_no_recording_in_memory_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableAudioError):
        read_recording(content, FileLimits())


def test_a_recording_in_memory_has_the_same_size_limit() -> None:
    with refused(Flaw.TOO_LONG):
        read_recording(wav_bytes(tone(1.0).tobytes()), FileLimits(max_bytes=1_024))


def test_bytes_made_to_look_like_many_last_frames_take_no_long_search() -> None:
    """Without a bound it is days, and ends at the general time limit of a test."""
    head = b"fLaC" + bytes([0x80, 0, 0, 34]) + bytes.fromhex("10001000") + bytes(6)
    head += (16_000 << 44 | 15 << 36).to_bytes(8, "big") + bytes(16)
    frame = bytes([0xFF, 0xF8, 0xC9, 0x08, 0x00])
    crc = next(c for c in range(256) if samples_to_end(frame + bytes([c]) + bytes(10), 0, 4096))
    with pytest.raises(UnreadableAudioError, match="cut short"):
        read_recording(head + (frame + bytes([crc])) * 100_000, LIMITS)


LOSSES = {
    "zeros": lambda before: np.zeros_like(before),
    "the block before": lambda before: before,
    "one sample": lambda before: np.full_like(before, before[-1]),
}


@pytest.mark.parametrize("put", LOSSES)
@pytest.mark.parametrize(("rate_hz", "block_s"), [(16_000, 0.02), (16_000, 0.005), (48_000, 0.01)])
def test_a_recording_of_which_blocks_were_lost_is_asked_for_again_at_any_rate(
    reader: list[Reading], put: str, rate_hz: int, block_s: float
) -> None:
    """Before resampling: after it, nothing of a gap's edges is left to see."""
    said = soxr.resample(read(reader[1].path), 16_000, rate_hz)
    block = int(block_s * rate_hz)
    dice = np.random.default_rng(18)
    broken = said.copy()
    for at in range(block, len(said) - block, block):
        if dice.random() < 0.1:
            broken[at : at + block] = LOSSES[put](said[at - block : at])
    assert load_utterance(wav_bytes(said.tobytes(), rate_hz=rate_hz)).quality.speech_s > 0.0
    with refused(Flaw.GAP, match="lost"):
        load_utterance(wav_bytes(broken.tobytes(), rate_hz=rate_hz))


@pytest.mark.parametrize(("lost", "usable"), [(2, True), (3, False)])
def test_an_editor_leaves_one_or_two_such_places_and_the_third_is_a_loss(
    reader: list[Reading], lost: int, usable: bool
) -> None:
    said = read(reader[1].path).copy()
    loud = [at for at in range(320, len(said) - 320, 320) if np.abs(said[at - 320 : at]).max() > 3_000]
    for at in loud[: 4 * lost : 4]:
        said[at : at + 320] = said[at - 320 : at]
    with contextlib.nullcontext() if usable else refused(Flaw.GAP, match="lost"):
        assert load_utterance(wav_bytes(said.tobytes())).quality.speech_s > 0.0
