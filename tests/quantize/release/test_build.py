"""A build ends with the bytes that were proven, does only what is needed, and mends what broke."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_NAME, Bundle
from device.model_store.sessions import OnnxSession
from quantize.cli import models as command
from quantize.errors import QuantizeError
from quantize.graphs import campplus
from quantize.networks.speaker import compare
from quantize.recipe import Artefact, BuildContext, Recipe
from quantize.release.build import build, up_to_date
from quantize.release.proven import Proven, proven_bytes, read_proven
from quantize.release.signing import private_key, public_key
from quantize.speech import packaged_speech
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.fetch import fetch

CALIBRATION = (
    "[bundle]\nversion = 4\nminimum_device = '0.1.0'\n[speaker]\nscale = 2\noffset = -1\norigin = 'a test'\n"
)


class Workshop:
    """Two toy recipes whose content can be changed, what was proven of them, and how often each was made."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "models"
        self.calibration = folder / "calibration.toml"
        self.calibration.write_text(CALIBRATION)
        self.inputs = {role: folder / f"{role}.in" for role in ("speaker", "words")}
        for role, path in self.inputs.items():
            path.write_text(f"{role} one")
        self.made: list[str] = []
        self.faulty = ""

    @property
    def recipes(self) -> list[Recipe]:
        return [self.recipe(role) for role in self.inputs]

    def content(self, role: str) -> bytes:
        return self.inputs[role].read_bytes() * 10

    @property
    def proven(self) -> dict[str, Proven]:
        return {
            role: Proven(hashlib.sha256(self.content(role)).hexdigest(), {"parity": 1.0})
            for role in self.inputs
        }

    def recipe(self, role: str) -> Recipe:
        def make(out: Path, context: BuildContext) -> Artefact:
            self.made.append(role)
            out.write_bytes(b"half" if role == self.faulty else self.content(role))
            return Artefact()

        return Recipe(role, f"{role}.int8.onnx", "toy", "a test", "MIT", make)

    def build(self, *only: str) -> Bundle:
        build(
            self.directory,
            only=only,
            recipes=self.recipes,
            calibration_file=self.calibration,
            proven=self.proven,
        )
        return Bundle.open(self.directory)

    def up_to_date(self) -> bool:
        return up_to_date(self.directory, self.recipes, self.calibration, proven=self.proven)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_build_makes_a_bundle_that_opens(shop: Workshop) -> None:
    bundle = shop.build()
    assert bundle.manifest.version == 4
    assert bundle.path("speaker").read_bytes() == b"speaker one" * 10
    assert bundle.calibration("speaker").offset == -1.0
    assert bundle.manifest.entry("words").calibration is None


def test_a_second_build_makes_nothing(shop: Workshop) -> None:
    shop.build()
    before = (shop.directory / MANIFEST_NAME).read_bytes()
    assert shop.up_to_date()
    shop.build()
    assert shop.made == ["speaker", "words"]
    assert (shop.directory / MANIFEST_NAME).read_bytes() == before


def test_two_builds_at_once_take_turns_and_make_everything_once(shop: Workshop) -> None:
    with ThreadPoolExecutor() as pool:
        bundles = list(pool.map(lambda _: shop.build(), range(4)))
    assert sorted(shop.made) == ["speaker", "words"]
    assert all(bundle.path("words").exists() for bundle in bundles)


def test_two_builds_of_the_same_are_byte_identical(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shop = Workshop(tmp_path / name)
        shop.build()
        contents.append({path.name: path.read_bytes() for path in shop.directory.iterdir()})
    assert contents[0] == contents[1]


def test_only_what_changed_is_made_again_and_the_old_file_goes(shop: Workshop) -> None:
    old = shop.build().path("words")
    shop.inputs["words"].write_text("words two")
    assert not shop.up_to_date()
    bundle = shop.build()
    assert shop.made == ["speaker", "words", "words"]
    assert bundle.path("words").read_bytes() == b"words two" * 10
    assert not old.exists()


def test_a_new_calibration_needs_no_new_network(shop: Workshop) -> None:
    shop.build()
    shop.calibration.write_text(CALIBRATION.replace("scale = 2", "scale = 3"))
    assert not shop.up_to_date()
    assert shop.build().calibration("speaker").scale == 3.0
    assert shop.made == ["speaker", "words"]


class Variants(Workshop):
    """The toy roles and an optional one that is made from the speaker's file."""

    released = True

    @property
    def recipes(self) -> list[Recipe]:
        def make(out: Path, context: BuildContext) -> Artefact:
            self.made.append("variant")
            out.write_bytes(context.made["speaker"].read_bytes()[::-1])
            return Artefact(source={"onnx": context.made["speaker"].name})

        variant = Recipe(
            "variant", "variant.tflite", "toy", "a test", "MIT", make, after=("speaker",), optional=True
        )
        return [*super().recipes, variant]

    @property
    def proven(self) -> dict[str, Proven]:
        variant = Proven(hashlib.sha256(self.content("speaker")[::-1]).hexdigest())
        return super().proven | ({"variant": variant} if self.released else {})


def test_an_optional_model_is_built_when_asked_for_and_kept_up_to_date_since(tmp_path: Path) -> None:
    shop = Variants(tmp_path)
    assert [entry.role for entry in shop.build().manifest.files] == ["speaker", "words"]
    bundle = shop.build("variant")
    assert bundle.path("variant").read_bytes() == (b"speaker one" * 10)[::-1]
    assert bundle.manifest.entry("variant").source == {"onnx": bundle.path("speaker").name}
    shop.inputs["speaker"].write_text("speaker two")
    assert not shop.up_to_date()
    assert shop.build().path("variant").read_bytes() == (b"speaker two" * 10)[::-1]
    assert shop.made == ["speaker", "words", "variant", "speaker", "variant"]


def test_what_a_model_is_made_from_is_built_first(tmp_path: Path) -> None:
    shop = Variants(tmp_path)
    assert [entry.role for entry in shop.build("variant").manifest.files] == ["speaker", "variant"]
    assert shop.made == ["speaker", "variant"]


def test_an_optional_model_that_no_release_proved_is_left_out_of_all_and_refused_alone(
    tmp_path: Path,
) -> None:
    shop = Variants(tmp_path)
    shop.released = False
    told: list[str] = []
    build(
        shop.directory,
        every=True,
        recipes=shop.recipes,
        calibration_file=shop.calibration,
        notify=told.append,
        proven=shop.proven,
    )
    assert {entry.role for entry in Bundle.open(shop.directory).manifest.files} == {"speaker", "words"}
    assert told == ["variant is left out: no release proved it"]
    with pytest.raises(QuantizeError, match="no release proved variant"):
        shop.build("variant")


def test_every_model_is_built_when_all_are_asked_for(tmp_path: Path) -> None:
    shop = Variants(tmp_path)
    build(
        shop.directory,
        every=True,
        recipes=shop.recipes,
        calibration_file=shop.calibration,
        proven=shop.proven,
    )
    assert sorted(shop.made) == ["speaker", "variant", "words"]


@pytest.mark.parametrize(
    "damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"x"), lambda p: p.write_bytes(b"y" * 110)]
)
def test_a_damaged_file_is_made_again(shop: Workshop, damage: Callable[[Path], object]) -> None:
    damage(shop.build().path("speaker"))
    assert shop.build().path("speaker").read_bytes() == b"speaker one" * 10


def test_a_damaged_manifest_is_made_again(shop: Workshop) -> None:
    shop.build()
    (shop.directory / MANIFEST_NAME).write_bytes(b"{")
    assert len(shop.build().manifest.files) == 2


def test_a_file_that_comes_out_otherwise_is_named_and_the_old_one_stays(shop: Workshop) -> None:
    shop.build()
    for path in shop.inputs.values():
        path.write_text(path.read_text().replace("one", "two"))
    shop.faulty = "words"
    with pytest.raises(QuantizeError, match=r"^words\.int8\.onnx came out as .{12} where .{12} was proven"):
        shop.build()
    bundle = Bundle.open(shop.directory)
    assert bundle.path("words").read_bytes() == b"words one" * 10
    assert bundle.path("speaker").read_bytes() == b"speaker two" * 10
    assert not [path for path in shop.directory.iterdir() if path.name.startswith(".partial")]


def test_the_manifest_says_nothing_about_the_machine_that_built_it(shop: Workshop) -> None:
    """So that every machine's is the same, byte for byte; and what older builds said is forgotten."""
    shop.build()
    manifest = shop.directory / MANIFEST_NAME
    wanted = manifest.read_bytes()
    document = json.loads(wanted)
    assert not {"tools", "recipe"} & set(document["files"][0])
    for entry in document["files"]:
        entry |= {"tools": {"numpy": "1.26.4"}, "recipe": "0" * 64, "metrics": {"parity": 0.9}}
    manifest.write_text(json.dumps(document))
    assert not shop.up_to_date()
    shop.build()
    assert manifest.read_bytes() == wanted
    assert shop.made == ["speaker", "words"]


def test_what_a_killed_build_left_is_cleared_by_the_next(shop: Workshop) -> None:
    left = shop.directory / ".partial-killed"
    left.mkdir(parents=True)
    (left / "words.int8.onnx").write_bytes(b"half")
    (shop.directory / "manifest.json.0123456789abcdef.new").write_bytes(b"{")
    shop.build()
    assert sorted(path.name.split("-")[0] for path in shop.directory.iterdir()) == [
        "manifest.json", "speaker", "words",
    ]  # fmt: skip


def test_one_role_can_be_built_alone(shop: Workshop) -> None:
    assert [entry.role for entry in shop.build("words").manifest.files] == ["words"]
    assert len(shop.build("speaker").manifest.files) == 2
    with pytest.raises(QuantizeError, match="known roles: speaker, words"):
        shop.build("nose")


def test_a_rebuilt_bundle_loses_its_signature_but_an_unchanged_one_keeps_it(shop: Workshop) -> None:
    shop.build()
    (shop.directory / SIGNATURE_NAME).write_bytes(bytes(64))
    shop.build()
    assert (shop.directory / SIGNATURE_NAME).exists()
    shop.inputs["words"].write_text("words two")
    shop.build()
    assert not (shop.directory / SIGNATURE_NAME).exists()


@pytest.mark.parametrize(
    "content", ["[speaker]\nscale = 'wide'\noffset = 0", "[speaker]\nscale = -1\noffset = 0", "["]
)
def test_a_calibration_that_is_none_is_refused(shop: Workshop, content: str) -> None:
    shop.calibration.write_text(content)
    with pytest.raises(QuantizeError):
        shop.build()


def test_speech_that_is_not_installed_is_named_by_its_packages(tmp_path: Path) -> None:
    with pytest.raises(
        QuantizeError, match="apt-get install pocketsphinx-testdata asterisk-core-sounds-en-wav"
    ):
        packaged_speech(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"speaker": {"sha256": "short", "metrics": {}}}', '{"speaker": 1}']
)
def test_a_list_of_what_was_proven_that_is_damaged_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "proven.json").write_text(content)
    with pytest.raises(QuantizeError, match="restore it from version control"):
        read_proven(tmp_path / "proven.json")


def test_what_was_proven_is_read_as_it_was_written(shop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "proven.json").write_bytes(proven_bytes(shop.proven))
    assert read_proven(tmp_path / "proven.json") == shop.proven


def test_a_network_that_strays_from_float_fails_its_proof() -> None:
    model = campplus.build(read_tensors(fetch("campplus")))
    exact = OnnxSession(model.SerializeToString())
    for tensor in model.graph.initializer:
        if tensor.name == "xvector.tdnn.linear.kernel":
            given = onnx.numpy_helper.to_array(tensor)
            noise = np.random.default_rng(0).standard_normal(given.shape) * given.std()
            tensor.CopyFrom(onnx.numpy_helper.from_array((given + noise).astype(np.float32), tensor.name))
    stray = OnnxSession(model.SerializeToString())
    clips = replace(packaged_speech(), files=packaged_speech().files[:2]).clips()
    with pytest.raises(QuantizeError, match="CAM\\+\\+ strays"):
        compare("CAM++", exact, stray, clips, 0.99, lambda text, done: None)


def test_a_bundle_is_built_signed_verified_and_used_from_the_command_line(
    shop: Workshop, tmp_path: Path
) -> None:
    shop.build()
    key, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    write_keys(key, public)
    runner = CliRunner()
    made = str(shop.directory)
    unit = str(tmp_path / "unit")
    assert runner.invoke(command, ["sign", "--dir", made, "--key", str(key)]).exit_code == 0
    assert runner.invoke(command, ["verify", "--dir", made, "--key", str(public)]).exit_code == 0
    used = runner.invoke(command, ["use", made, "--dir", unit, "--key", str(public)])
    assert used.exit_code == 0, used.output
    shown = runner.invoke(command, ["show", "--dir", unit, "--json"])
    assert '"version": 4' in shown.output
    assert private_key(key).public_key() == public_key(public)


def write_keys(key: Path, public: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = Ed25519PrivateKey.generate()
    key.write_bytes(made.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    for read in (private_key, public_key):
        with pytest.raises(QuantizeError, match=r"key\.pem holds no"):
            read(tmp_path / "key.pem")
