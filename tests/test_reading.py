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
    "device/access/memory/history.py: os.open(path.with_suffix('.lock'), os.O_RDWR | os.O_CREAT, 384)": LOCK,
    "device/api/results.py: os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 384)": OWN_DATABASE,
    "device/api/tokens.py: os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 384)": OWN_DATABASE,
    "sync/outbox/queue.py: os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 384)": OWN_DATABASE,
    "device/secure_store/hardware/tpm_link.py: "
    "os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 384)": LOCK,
    "device/api/server.py: context.load_cert_chain(certificate, key)": CHECKED,
    "device/api/server.py: context.load_verify_locations(client_ca)": CHECKED,
    "sync/dashboard/serve.py: context.load_cert_chain(*files)": CHECKED,
    "sync/transport/mqtt.py: "
    "ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(files.ca))": CHECKED,
    "sync/transport/mqtt.py: context.load_cert_chain(str(files.certificate), str(files.key), '')": CHECKED,
    "sync/registry/sinks/trust.py: ssl.create_default_context(cafile=str(ca) if ca else None)": CHECKED,
    "sync/registry/sinks/trust.py: context.load_cert_chain(certificate, key)": CHECKED,
    "device/audio/card/process.py: status.read_text(errors='replace')": KERNEL,
    "device/commands/installed/board.py: meminfo.read_text('ascii')": KERNEL,
    "device/commands/installed/board.py: path.read_text('ascii')": KERNEL,
    "device/feedback/outputs.py: (led / 'max_brightness').read_text()": KERNEL,
    "device/isolation.py: (process / 'cgroup').read_text()": KERNEL,
    "quantize/evaluate/machine.py: CPU_INFO.read_text(encoding='utf-8', errors='replace')": KERNEL,
    "device/audio/fifo.py: os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)": "sound by a pipe",
    "device/commands/readers.py: device.open('rb', buffering=0)": "a serial reader's device, until Ctrl-C",
    "device/door/osdp/port.py: os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)": (
        "a serial line"
    ),
    "device/audio/recording.py: soundfile.SoundFile(descriptor, closefd=False)": "memory without a path",
    "quantize/evaluate/door/heard.py: soundfile.read(file, dtype='float32')": "memory",
    "quantize/evaluate/inspection.py: soundfile.read(stream, dtype='float32')": "memory",
    "device/commands/demo_site.py: (self._folder / 'page.log').read_text(errors='replace')": MADE_HERE,
    "sync/fleet/provisioning/service.py: context.load_cert_chain(str(files.certificate), str(files.key))": (
        MADE_HERE
    ),
    "quantize/fetch.py: zipfile.ZipFile(wheel)": "hashed by `sha256_of` before",
    "quantize/networks/spoof.py: onnx.load(out)": MADE_HERE,
    "quantize/networks/tflite_variants.py: onnx.load(network)": MADE_HERE,
    "sync/dashboard/app.py: file.read_bytes()": "a part of the package",
    "sync/dashboard/wording/languages.py: file.read_text('utf-8')": "a part of the package",
}


def test_the_product_reads_files_through_the_one_reader() -> None:
    found = {f"{module}: {call}" for module, call in openings(ROOT)}
    assert sorted(found - ALLOWED.keys()) == [], "read it by sync/plain_file.py"
    assert sorted(ALLOWED.keys() - found) == [], "no longer there"


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
