"""A private PulseAudio whose null sink is a microphone; unloading it is pulling the plug."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.speech import missing, require_tools
from tests.waiting import wait_until

SINK = "door"
PACKAGES = "pulseaudio pulseaudio-utils libasound2-plugins libportaudio2"


def require_sound() -> None:
    """Skip, or in CI fail, when a part of the path from player to PortAudio is not installed."""
    require_tools(("pulseaudio", "pactl", "paplay"), PACKAGES)
    if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        missing("ALSA's PulseAudio plugin", PACKAGES)
    if ctypes.util.find_library("portaudio") is None:
        missing("PortAudio", PACKAGES)


class SoundServer:
    """Starts on entry, is gone on exit. `environment` makes a process hear it as its default microphone."""

    def __enter__(self) -> Self:
        # Not pytest's folder: a Unix socket's path must stay short.
        self._home = Path(tempfile.mkdtemp(prefix="ear-"))
        runtime = self._home / "run"
        runtime.mkdir(mode=0o700)
        alsa = self._home / "asound.conf"
        alsa.write_text(
            "pcm.!default { type asym\n"
            f'playback.pcm {{ type pulse device "{SINK}" }}\n'
            f'capture.pcm {{ type pulse device "{SINK}.monitor" }} }}\n'
            "ctl.!default { type pulse }\n"
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PULSE_")},
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(runtime),
            "ALSA_CONFIG_PATH": str(alsa),
        }
        self._server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
                "--load=module-native-protocol-unix",
            ],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_until_ready()
            self.plug_in()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        try:
            self._server.wait(180)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def plug_in(self) -> None:
        self._control("load-module", "module-null-sink", f"sink_name={SINK}")

    def unplug(self) -> None:
        self._control("unload-module", "module-null-sink")

    def play(self, path: Path) -> None:
        """Play to the end."""
        command = ["paplay", f"--device={SINK}", str(path)]
        subprocess.run(command, env=self.environment, check=True, timeout=180)

    def start_playing(self, path: Path) -> subprocess.Popen[bytes]:
        command = ["paplay", f"--device={SINK}", str(path)]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)

    def _control(self, *arguments: str) -> None:
        subprocess.run(
            ["pactl", *arguments], env=self.environment, check=True, timeout=180, stdout=subprocess.DEVNULL
        )

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            if self._server.poll() is not None:
                raise RuntimeError("PulseAudio did not start")
            asked = ["pactl", "info"]
            return not subprocess.run(
                asked, env=self.environment, capture_output=True, timeout=180, check=False
            ).returncode

        wait_until(ready)
