"""Checkpoints are read without trusting them: hostile ones are refused and never executed."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.upstream.checkpoint import parse_tensors, read_tensors, tensors_hash
from quantize.upstream.pickles import CheckpointError

WEIGHT = np.arange(6, dtype="<f4").reshape(2, 3)


def described(
    numel: int = 6, offset: int = 0, shape: tuple[int, ...] = (2, 3), stride: tuple[int, ...] = (3, 1)
) -> bytes:
    """The pickle of {"w": tensor}, written opcode by opcode as torch does."""

    def number(value: int) -> bytes:
        return pickle.dumps(value, protocol=2)[2:-1]

    def tuple_of(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(number(v) for v in values) + b"t"

    storage = (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" + b"0X\x03\0\0\0cpu" + number(numel) + b"tQ"
    )
    tail = b"\x89ccollections\nOrderedDict\n)R"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(offset)
        + tuple_of(shape)
        + tuple_of(stride)
    )
    return b"\x80\x02}X\x01\0\0\0w" + tensor + tail + b"tRs."


def archive(
    pickled: bytes, data: bytes | None = WEIGHT.tobytes(), compression: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        made.writestr("archive/data.pkl", pickled)
        if data is not None:
            made.writestr("archive/data/0", data)
    return buffer.getvalue()


def legacy(pickled: bytes, keys: list[str], data: bytes) -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(value, protocol=2) for value in head]
    return b"".join([*parts, pickled, pickle.dumps(keys, protocol=2), data])


def ctranslate2(tensors: dict[str, npt.NDArray[Any]], aliases: dict[str, str] | None = None) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "float16": 4}
    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, value in tensors.items():
        out += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", kinds[value.dtype.name], value.nbytes) + value.tobytes()
    pairs = (aliases or {}).items()
    return out + struct.pack("<I", len(pairs)) + b"".join(text(a) + text(b) for a, b in pairs)


def test_the_three_containers_give_the_same_tensors_and_the_same_hash() -> None:
    stored = struct.pack("<q", 6) + WEIGHT.tobytes()
    found = [
        parse_tensors(archive(described())),
        parse_tensors(legacy(described(), ["0"], stored)),
        parse_tensors(ctranslate2({"w": WEIGHT})),
    ]
    for tensors in found:
        assert list(tensors) == ["w"]
        np.testing.assert_array_equal(tensors["w"], WEIGHT)
    assert len({tensors_hash(tensors) for tensors in found}) == 1


def test_the_hash_sees_every_name_shape_type_and_value() -> None:
    variants = [
        {"w": WEIGHT},
        {"v": WEIGHT},
        {"w": WEIGHT.reshape(3, 2)},
        {"w": WEIGHT.astype("<f8")},
        {"w": WEIGHT + np.float32(1e-6)},
        {"w": WEIGHT, "v": WEIGHT},
    ]
    assert len({tensors_hash(variant) for variant in variants}) == len(variants)
    assert tensors_hash({"a": WEIGHT, "b": WEIGHT}) == tensors_hash({"b": WEIGHT, "a": WEIGHT})
    assert tensors_hash({"w": WEIGHT.astype(">f4")}) == tensors_hash({"w": WEIGHT})


class Malicious:
    def __init__(self, call: tuple[Any, tuple[Any, ...]]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    import os

    trace = tmp_path / "trace"
    for call in (
        (os.system, (f"touch {trace}",)),
        (eval, (f"open({str(trace)!r}, 'w')",)),
        (Path.touch, (trace,)),
    ):
        bomb = pickle.dumps({"w": Malicious(call)}, protocol=protocol)
        pickle.loads(bomb)  # noqa: S301 - proves that the file is armed
        assert trace.exists()
        trace.unlink()
        for blob in (archive(bomb), legacy(bomb, [], b""), bomb):
            with pytest.raises(CheckpointError):
                parse_tensors(blob)
        assert not trace.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R.",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.",  # BUILD on a function
        b"\x80\x02ccollections\nOrderedDict\n}X\x01\0\0\0aK\x01sb.",  # BUILD on a class
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02(i__main__\nx\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02" + b"(" * 100_000,
        b"\x80\x02}",
        b"\x80\x02.",
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo slot four billion up, of nothing
        b"\x80\x02X\xff\xff\xff\x7f",  # a text of two gigabytes, not there
        b"\x80\x02]]s.",
        b"\x80\x02}]]s.",
        b"\x80\x02h\x05.",
    ],
)
def test_pickles_that_describe_no_tensor_are_refused(pickled: bytes) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_tensors(archive(pickled))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pickled",
    [
        described(numel=7),
        described(numel=5),
        described(offset=1),
        described(offset=-1),
        described(shape=(2, -3)),
        described(shape=(2, 30)),
        described(shape=(2**39, 2**39), stride=(0, 0)),
        described(shape=(1000, 1000), stride=(0, 0)),
        described(shape=(3, 2), stride=(1, 3)),
        described(shape=(6,), stride=(3, 1)),
        described(shape=(1,) * 9, stride=(1,) * 9),
    ],
)
def test_tensors_that_claim_more_than_their_bytes_are_refused(pickled: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse_tensors(archive(pickled))


def test_archives_that_lie_are_refused() -> None:
    good = archive(described())
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as made:
        for name in ("a/data.pkl", "b/data.pkl"):
            made.writestr(name, described())
    bad = [
        archive(described(), None),
        archive(described(), WEIGHT.tobytes(), zipfile.ZIP_DEFLATED),
        good[:-30],
        good[: len(good) // 2],
        good.replace(WEIGHT.tobytes(), bytes(24), 1),  # the checksum does not fit any more
        two.getvalue(),
        b"PK\x03\x04",
        b"",
        b"hello",
    ]
    for blob in bad:
        with pytest.raises(CheckpointError):
            parse_tensors(blob)


def test_legacy_files_that_lie_are_refused() -> None:
    stored = struct.pack("<q", 6) + WEIGHT.tobytes()
    bad = [
        legacy(described(), ["0"], stored[:-1]),
        legacy(described(), ["0"], struct.pack("<q", 7) + WEIGHT.tobytes()),
        legacy(described(), ["1"], stored),
        legacy(described(), [], stored),
        legacy(described(), ["0"], b""),
    ]
    for blob in bad:
        with pytest.raises(CheckpointError):
            parse_tensors(blob)


def test_a_ctranslate2_file_gives_its_aliases_too() -> None:
    tensors = parse_tensors(ctranslate2({"w": WEIGHT.astype("<f2")}, {"again": "w"}))
    np.testing.assert_array_equal(tensors["again"], tensors["w"])


def test_ctranslate2_files_that_lie_are_refused() -> None:
    good = ctranslate2({"w": WEIGHT})
    bad = [
        good[:-1],
        good + b"x",
        good[:40],
        good.replace(struct.pack("<II", 3, 1), struct.pack("<II", 3, 2**31)),
        good.replace(struct.pack("<II", 2, 3), struct.pack("<II", 2**31, 2**31)),
        ctranslate2({"w": WEIGHT}, {"w": "w"}),
        ctranslate2({"w": WEIGHT}, {"x": "nothing"}),
    ]
    for blob in bad:
        with pytest.raises(CheckpointError):
            parse_tensors(blob)


@given(st.data())
def test_no_damage_to_a_checkpoint_ever_escapes_as_another_error(data: st.DataObject) -> None:
    stored = struct.pack("<q", 6) + WEIGHT.tobytes()
    blobs = [archive(described()), legacy(described(), ["0"], stored), ctranslate2({"w": WEIGHT})]
    blob = bytearray(data.draw(st.sampled_from(blobs)))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    blob = blob[: data.draw(st.integers(0, len(blob)))]
    with contextlib.suppress(CheckpointError):
        parse_tensors(bytes(blob))


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt cannot be read"):
        read_tensors(tmp_path / "none.pt")
