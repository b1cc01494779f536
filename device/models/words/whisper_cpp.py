"""whisper.cpp through its C API: one pass hears freely and weighs the sentences it is told to consider.

`whisper_full` runs up to eight decoders over one encoded utterance. Its logits callback lets us steer each:
the first follows the model's own best word, the others are made to say a given sentence while we note what
the model thought of every word. The encoder, by far the dearest part, runs once.
"""

from __future__ import annotations

import ctypes
import math
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.evidence.phrase import before_loop
from device.models.words.hearing import Heard, Sentence, Spoken, audio_frames, token_cap
from device.models.words.tokens import Vocabulary
from device.models.words.whisper_params import (
    LIBRARY_VERSION,
    ContextParams,
    FullParams,
    LogitsFilter,
    layout_agrees,
)
from sync.plain_file import open_plain

MAGIC = 0x67676D6C
MAX_VOCABULARY, MAX_FILTERS, MAX_WORD_BYTES = 52_000, 1 << 16, 256
MAX_DECODERS = 8
MAX_SENTENCES = MAX_DECODERS - 1
TEMPERATURE = 0.25
"""Above zero, or whisper.cpp runs a single decoder; a power of two, so that dividing by it is exact."""
_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


@dataclass(slots=True)
class _Slot:
    """What one decoder was told to say (None: whatever it likes) and what it has said so far."""

    script: tuple[int, ...] | None
    places: Mapping[int, npt.NDArray[np.intp]] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    rivals: list[float | None] = field(default_factory=list)
    keep: int | None = None
    """Set when it had to be stopped: how much of what it said counts."""

    def path(self) -> Spoken:
        kept = slice(self.keep)
        return Spoken(
            tuple(self.tokens[kept]),
            tuple(self.logprobs[kept]),
            tuple(self.best[kept]),
            tuple(self.rivals[kept]),
        )


class WhisperCpp:
    """A SpeechModel. Calls are serialised; the interpreter is free while native code works. Raises
    DeviceError when the library is not the pinned one or the file is not a model it reads."""

    def __init__(self, model: Path, *, threads: int = 2) -> None:
        self._library = _load_library()
        self._lock = threading.Lock()
        self._threads = threads
        words = _read_vocabulary(model)
        options = self._library.whisper_context_default_params()
        options.use_gpu = False
        # Flash attention pads the audio context to 256 frames with whatever the last utterance left there,
        # so the same sound would score differently each time (measured, whisper.cpp 1.8.5).
        options.flash_attn = False
        self._context = self._library.whisper_init_from_file_with_params(str(model).encode(), options)
        if not self._context:
            raise DeviceError(f"cannot load {model.name}; run `ostiary models build`")
        self._vocabulary = self._library.whisper_n_vocab(self._context)
        self._end = self._library.whisper_token_eot(self._context)
        self._no_timestamps = self._library.whisper_token_not(self._context)
        # The library's own speller takes the longest piece that fits and not the ones that training merged
        # (" spa|des" for " sp|ades"), which a model finds thousands of times less likely.
        self._words = Vocabulary(words[: self._end])

    def tokens(self, text: str) -> tuple[int, ...]:
        return self._words.tokens(text)

    def text(self, tokens: Sequence[int]) -> str:
        return self._words.text(tokens)

    def listen(self, wave: Wave, sentences: Sequence[Sentence]) -> Heard:
        """Sentences beyond MAX_SENTENCES take further passes, each over the sound anew."""
        first = self._weigh(wave, sentences[:MAX_SENTENCES])
        weighed = [*first.sentences]
        while len(weighed) < len(sentences):
            more = sentences[len(weighed) : len(weighed) + MAX_SENTENCES]
            weighed.extend(self._weigh(wave, more).sentences)
        return Heard(first.free, tuple(weighed), first.looped)

    def _weigh(self, wave: Wave, sentences: Sequence[Sentence]) -> Heard:
        slots = [_Slot(None), *(_Slot((*one.tokens, self._end), one.rivals) for one in sentences)]
        cap = token_cap(len(wave))
        longest = max((len(one.tokens) + 1 for one in sentences), default=0)
        with self._lock:
            self._run(wave, slots, free_cap=cap, cap=max(cap, longest))
        if not all(slot.tokens for slot in slots):
            raise DeviceError("the transcriber stopped early; try again")
        return Heard(slots[0].path(), tuple(slot.path() for slot in slots[1:]), slots[0].keep is not None)

    def close(self) -> None:
        with self._lock:
            if self._context:
                self._library.whisper_free(self._context)
                self._context = None

    def _run(self, wave: Wave, slots: list[_Slot], *, free_cap: int, cap: int) -> None:
        context = self._opened()
        assigned: dict[int, tuple[_Slot, npt.NDArray[np.float32]]] = {}
        failures: list[Exception] = []
        turn = threading.Lock()  # the library asks for its decoders from several threads at once

        def steer(_ctx: int, _state: int, _tokens: int, spoken: int, address: int, _data: int) -> None:
            # An exception must not cross the C frames; it is raised again once they have returned.
            try:
                if spoken == 0:
                    # All decoders share the first step, so it says what they have in common.
                    _only(self._logits(address), self._no_timestamps)
                    return
                with turn:
                    if address not in assigned:
                        assigned[address] = (slots[len(assigned)], self._logits(address))
                    slot, logits = assigned[address]
                _note_and_force(slot, logits, spoken - 1, self._end, free_cap)
            except Exception as err:  # noqa: BLE001 - see above
                failures.append(err)

        params = self._library.whisper_full_default_params(0)
        params.n_threads = self._threads
        params.no_context = True
        params.single_segment = True
        params.print_progress = params.print_timestamps = False
        params.max_tokens = cap + 1
        params.audio_ctx = audio_frames(len(wave))
        params.temperature, params.temperature_inc = TEMPERATURE, 0.0
        params.greedy_best_of = len(slots)
        callback = LogitsFilter(steer)
        params.logits_filter_callback = callback
        samples = np.ascontiguousarray(wave, dtype=np.float32)
        status = self._library.whisper_full(
            context, params, samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), len(samples)
        )
        if failures:
            raise DeviceError(f"the transcriber failed ({failures[0]})") from failures[0]
        if status != 0:
            raise DeviceError(f"the transcriber failed (whisper.cpp status {status})")

    def _opened(self) -> int:
        if not self._context:
            raise DeviceError("the transcriber was closed")
        return int(self._context)

    def _logits(self, address: int) -> npt.NDArray[np.float32]:
        return np.frombuffer((ctypes.c_float * self._vocabulary).from_address(address), dtype=np.float32)


def _note_and_force(slot: _Slot, logits: npt.NDArray[np.float32], at: int, end: int, free_cap: int) -> None:
    """Note what the model thought of the next word, then leave it no choice but that word."""
    # The library offers times although the text began by leaving them out; the other runtime has none.
    logits[end + 1 :] = -np.inf
    if slot.script is None and at == 0:
        logits[end] = -np.inf  # as every Whisper decoder does: something was said, and we are to say what
    best = int(logits.argmax())
    top = float(logits[best])
    log_sum = math.log(float(np.exp((logits - top) * np.float32(TEMPERATURE)).sum()))
    if slot.script is None:
        slot.keep = before_loop(slot.tokens) if at < free_cap else at
        token = best if slot.keep is None else end
    else:
        token = slot.script[at]
    if len(slot.tokens) == at:
        slot.tokens.append(token)
        slot.logprobs.append((float(logits[token]) - top) * TEMPERATURE - log_sum)
        slot.best.append(-log_sum)
        slot.rivals.append(_mean_logprob(logits, slot.places.get(at), top, log_sum))
    _only(logits, token)


def _mean_logprob(
    logits: npt.NDArray[np.float32], places: npt.NDArray[np.intp] | None, top: float, log_sum: float
) -> float | None:
    if places is None or not len(places):
        return None
    chances = np.exp((logits[places].astype(np.float64) - top) * TEMPERATURE)
    return math.log(float(chances.mean()) + 1e-30) - log_sum


def _only(logits: npt.NDArray[np.float32], token: int) -> None:
    logits.fill(-np.inf)
    logits[token] = 0.0


def _read_vocabulary(model: Path) -> list[bytes]:
    """The words of a model file, in order. whisper.cpp ends the whole process on some damaged files, so
    the sizes are looked at first."""
    try:
        with open_plain(model) as stream:
            found = struct.unpack("<12i", stream.read(48))
            magic, vocabulary, audio_ctx, _, _, _, text_ctx, _, _, _, mels, _ = found
            small = all(0 < size <= 2048 for size in found[2:11])
            known = (magic, audio_ctx, text_ctx, mels) == (MAGIC, 1500, 448, 80)
            if not known or not small or vocabulary > MAX_VOCABULARY:
                raise DeviceError(f"{model.name} is no whisper.cpp model; run `ostiary models build`")
            rows, columns = struct.unpack("<2i", stream.read(8))
            if not 0 < rows * columns <= MAX_FILTERS:
                raise DeviceError(f"{model.name} is no whisper.cpp model; run `ostiary models build`")
            stream.seek(4 * rows * columns, os.SEEK_CUR)
            (count,) = struct.unpack("<i", stream.read(4))
            if not 0 < count <= vocabulary:
                raise DeviceError(f"{model.name} lists no vocabulary; run `ostiary models build`")
            lengths = (struct.unpack("<I", stream.read(4))[0] for _ in range(count))
            return [stream.read(min(length, MAX_WORD_BYTES)) for length in lengths]
    except (OSError, struct.error) as err:
        raise DeviceError(f"cannot read {model.name}; run `ostiary models build`") from err


def _load_library() -> ctypes.CDLL:
    """The libwhisper that pywhispercpp's extension has loaded, with typed entry points and a silent log."""
    # OpenMP threads that spin while they wait for each other stall for seconds when the cores are busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import _pywhispercpp  # noqa: F401 - loading it loads the library and its OpenMP runtime
    except ImportError as err:
        raise DeviceError("pywhispercpp cannot be loaded; run scripts/setup") from err
    loaded = {
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libwhisper" in line
    }
    if len(loaded) != 1:
        raise DeviceError("pywhispercpp carries no libwhisper; run scripts/setup")
    library = ctypes.CDLL(loaded.pop())
    library.whisper_version.restype = ctypes.c_char_p
    found = library.whisper_version().decode()
    if found != LIBRARY_VERSION:
        raise DeviceError(f"whisper.cpp {found} found, {LIBRARY_VERSION} needed; run scripts/setup")
    library.whisper_full_default_params.restype = FullParams
    if not layout_agrees(library.whisper_full_default_params(0)):
        raise DeviceError("this build of whisper.cpp lays its parameters out differently; run scripts/setup")
    library.whisper_context_default_params.restype = ContextParams
    library.whisper_init_from_file_with_params.restype = ctypes.c_void_p
    library.whisper_init_from_file_with_params.argtypes = [ctypes.c_char_p, ContextParams]
    for name in ("whisper_n_vocab", "whisper_token_eot", "whisper_token_not", "whisper_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.whisper_full.argtypes = [
        ctypes.c_void_p, FullParams, ctypes.POINTER(ctypes.c_float), ctypes.c_int,
    ]  # fmt: skip
    library.whisper_log_set.argtypes = [_LOG_CALLBACK, ctypes.c_void_p]
    library.whisper_log_set(_SILENT, None)
    return library


def _ignore(_level: int, _message: bytes, _data: int) -> None:
    """whisper.cpp prints a page per model; failures reach us as return values."""


_SILENT = _LOG_CALLBACK(_ignore)
