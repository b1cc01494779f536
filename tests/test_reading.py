"""Every file is read by `sync/plain_file.py`, which takes plain files of a stated size and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reading import openings

ROOT = Path(__file__).parents[1]
LOCK = "opened for reading and writing, which waits for nobody, and only locked"
OWN_DATABASE = "a database's file, made and opened for reading and writing, which waits for nobody"
CHECKED = "after `check_plain`, for the library opens the path itself"
KERNEL = "below /proc or /sys: what the kernel answers"
MADE_HERE = "a file that the line before has made"
ALLOWED = {
    "device: os.open(path.with_suffix('.lock'), os.O_RDWR | os.O_CREAT, 384)": LOCK,
    "device: os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 384)": LOCK,
    "device: os.open(check_plain_or_new(path), os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 384)": OWN_DATABASE,
    "sync: os.open(check_plain_or_new(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 384)": OWN_DATABASE,
    "device: os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 384)": LOCK,
    "device: context.load_verify_locations(client_ca)": CHECKED,
    "sync: context.load_cert_chain(certificate, key, '')": CHECKED,
    "sync: ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files.ca)": CHECKED,
    "sync: ssl.create_default_context(cafile=ca)": CHECKED,
    "device: status.read_text(errors='replace')": KERNEL,
    "device: meminfo.read_text('ascii')": KERNEL,
    "device: path.read_text('ascii')": KERNEL,
    "device: (led / 'max_brightness').read_text()": KERNEL,
    "device: (process / 'cgroup').read_text()": KERNEL,
    "quantize: CPU_INFO.read_text(encoding='utf-8', errors='replace')": KERNEL,
    "device: os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)": "sound by a pipe",
    "device: device.open('rb', buffering=0)": "a serial reader's device, until Ctrl-C",
    "device: os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)": ("a serial line"),
    "device: soundfile.SoundFile(descriptor, closefd=False)": "memory without a path",
    "quantize: soundfile.read(file, dtype='float32')": "memory",
    "quantize: soundfile.read(stream, dtype='float32')": "memory",
    "device: (self._folder / 'page.log').read_text(errors='replace')": MADE_HERE,
    "sync: context.load_cert_chain(str(files.certificate), str(files.key))": (MADE_HERE),
    "quantize: zipfile.ZipFile(wheel)": "hashed by `sha256_of` before",
    "quantize: onnx.load(out)": MADE_HERE,
    "quantize: onnx.load(network)": MADE_HERE,
    "sync: file.read_bytes()": "a part of the package",
    "sync: file.read_text('utf-8')": "a part of the package",
}


def test_the_product_reads_files_through_the_one_reader() -> None:
    found = {f"{module.partition('/')[0]}: {call}": module for module, call in openings(ROOT)}
    strange = {call: module for call, module in found.items() if call not in ALLOWED}
    assert strange == {}, "read it by sync/plain_file.py"
    assert sorted(ALLOWED.keys() - found.keys()) == [], "no longer there"


@pytest.mark.parametrize(
    "line",
    [
        "path.read_text('utf-8')",
        "path.read_bytes()",
        "open(path)",
        "open(path, 'r')",
        "path.open()",
        "path.open('rb')",
        "path.open(encoding='utf-8', newline='')",
        "(folder / 'x').open(mode='r+b')",
        "os.open(path, os.O_RDONLY)",
        "tarfile.open(path)",
        "zipfile.ZipFile(path)",
        "context.load_cert_chain(path)",
        "ssl.create_default_context(cafile=path)",
        "soundfile.read(path)",
        "np.load(path)",
    ],
)
def test_another_way_to_read_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "one.py").write_text(f"def read(path, folder, context):\n    return {line}\n")
    assert len(list(openings(tmp_path))) == 1


@pytest.mark.parametrize(
    "line",
    ["path.open('wb')", "open(path, 'x')", "Bundle.open(path)", "store.Outbox.open(path, create=False)"],
)
def test_what_writes_and_what_opens_other_things_is_left_alone(tmp_path: Path, line: str) -> None:
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "one.py").write_text(f"def other(path):\n    return {line}\n")
    assert list(openings(tmp_path)) == []
