"""The parameter block of whisper.cpp's `whisper_full`, for ctypes, checked against the library's defaults."""

from __future__ import annotations

import ctypes
import math
from typing import Any

LIBRARY_VERSION = "1.8.5"
"""The block has no version of its own, so another library is refused rather than guessed at."""

_POINTER = ctypes.c_void_p
LogitsFilter = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _POINTER, ctypes.c_int, _POINTER, _POINTER)


def _fields(*groups: tuple[Any, str]) -> list[tuple[str, Any]]:
    """Names and types in the order of whisper.h, from groups of one type."""
    return [(name, kind) for kind, names in groups for name in names.split()]


class ContextParams(ctypes.Structure):
    _fields_ = _fields(
        (ctypes.c_bool, "use_gpu flash_attn"),
        (ctypes.c_int, "gpu_device"),
        (ctypes.c_bool, "dtw_token_timestamps"),
        (ctypes.c_int, "dtw_aheads_preset dtw_n_top"),
        (ctypes.c_size_t, "dtw_n_heads"),
        (ctypes.c_void_p, "dtw_heads"),
        (ctypes.c_size_t, "dtw_mem_size"),
    )


class VadParams(ctypes.Structure):
    _fields_ = _fields(
        (ctypes.c_float, "threshold"),
        (ctypes.c_int, "min_speech_duration_ms min_silence_duration_ms"),
        (ctypes.c_float, "max_speech_duration_s"),
        (ctypes.c_int, "speech_pad_ms"),
        (ctypes.c_float, "samples_overlap"),
    )


class FullParams(ctypes.Structure):
    _fields_ = _fields(
        (ctypes.c_int, "strategy n_threads n_max_text_ctx offset_ms duration_ms"),
        (ctypes.c_bool, "translate no_context no_timestamps single_segment print_special print_progress"),
        (ctypes.c_bool, "print_realtime print_timestamps token_timestamps"),
        (ctypes.c_float, "thold_pt thold_ptsum"),
        (ctypes.c_int, "max_len"),
        (ctypes.c_bool, "split_on_word"),
        (ctypes.c_int, "max_tokens"),
        (ctypes.c_bool, "debug_mode"),
        (ctypes.c_int, "audio_ctx"),
        (ctypes.c_bool, "tdrz_enable"),
        (ctypes.c_char_p, "suppress_regex initial_prompt"),
        (ctypes.c_bool, "carry_initial_prompt"),
        (ctypes.POINTER(ctypes.c_int32), "prompt_tokens"),
        (ctypes.c_int, "prompt_n_tokens"),
        (ctypes.c_char_p, "language"),
        (ctypes.c_bool, "detect_language suppress_blank suppress_nst"),
        (ctypes.c_float, "temperature max_initial_ts length_penalty temperature_inc"),
        (ctypes.c_float, "entropy_thold logprob_thold no_speech_thold"),
        (ctypes.c_int, "greedy_best_of beam_size"),
        (ctypes.c_float, "beam_patience"),
        (ctypes.c_void_p, "new_segment_callback new_segment_callback_user_data"),
        (ctypes.c_void_p, "progress_callback progress_callback_user_data"),
        (ctypes.c_void_p, "encoder_begin_callback encoder_begin_callback_user_data"),
        (ctypes.c_void_p, "abort_callback abort_callback_user_data"),
        (LogitsFilter, "logits_filter_callback"),
        (ctypes.c_void_p, "logits_filter_callback_user_data grammar_rules"),
        (ctypes.c_size_t, "n_grammar_rules i_start_rule"),
        (ctypes.c_float, "grammar_penalty"),
        (ctypes.c_bool, "vad"),
        (ctypes.c_char_p, "vad_model_path"),
        (VadParams, "vad_params"),
    )


def layout_agrees(defaults: FullParams) -> bool:
    """True when the library's defaults lie where this block expects them, from first field to last."""
    return (
        (defaults.n_max_text_ctx, defaults.audio_ctx, defaults.greedy_best_of) == (16384, 0, 5)
        and defaults.language == b"en"
        and defaults.no_context
        and defaults.suppress_blank
        and math.isclose(defaults.thold_pt, 0.01, rel_tol=1e-5)
        and math.isclose(defaults.temperature_inc, 0.2, rel_tol=1e-5)
        and math.isclose(defaults.grammar_penalty, 100.0)
        and math.isclose(defaults.vad_params.threshold, 0.5)
        and math.isclose(defaults.vad_params.samples_overlap, 0.1, rel_tol=1e-5)
        and not (defaults.logits_filter_callback or defaults.abort_callback or defaults.vad)
    )
