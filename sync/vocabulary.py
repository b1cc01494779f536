"""Every word an audit event may contain. A word that is not listed here cannot leave the unit."""

from __future__ import annotations

DECISIONS = frozenset(
    {
        "GRANTED",
        "DENIED_PHRASE",
        "DENIED_VOICE",
        "DENIED_SPOOF",
        "DENIED_REPLAY",
        "DENIED_EXPIRED",
        "DENIED_QUALITY",
        "DENIED_SCHEDULE",
        "DENIED_RULE",
        "DENIED_UNKNOWN",
        "DENIED_FAULT",
        "STEP_UP",
        "AWAITING_SECOND_PERSON",
        "LOCKOUT_MAX_ATTEMPTS",
        "PASSBACK_DETECTED",
        "LOCK_DOWN",
        "DURESS",
    }
)
"""What a policy may decide about one attempt."""

DOOR_EVENTS = frozenset(
    {
        "DOOR_FORCED_OPEN",
        "DOOR_OPEN_TOO_LONG",
        "DOOR_OPENED",
        "DOOR_CLOSED",
        "EMERGENCY_RELEASE",
        "EGRESS",
        "TAMPER",
        "TAMPER_ENDED",
        "UNLOCKED",
        "RELOCKED",
    }
)

UNIT_EVENTS = frozenset(
    {
        "BOOT",
        "SHUTDOWN",
        "CLOCK_SET",
        "OUTBOX_OVERFLOW",
        "ENROLMENT_BEGUN",
        "ENROLLED",
        "ERASURE_BEGUN",
        "FORGOTTEN",
        "CONSENT_EXPIRED",
        "POLICY_APPLIED",
        "POLICY_REFUSED",
        "CHANGE_TAKEN_BACK",
        "MODELS_APPLIED",
        "MODELS_REFUSED",
        "THREATS_APPLIED",
        "COMMAND_APPLIED",
        "COMMAND_REFUSED",
        "KEYS_ROTATED",
        "SUCCESSOR_HEARD",
        "SUCCESSOR_READY",
        "SUCCESSOR_DROPPED",
        "VOICE_OFTEN_REFUSED",
        "VOICE_FOLLOWED",
        "VOICE_FOLLOWS_DROPPED",
        "LOG_ROTATED",
        "FAULT",
    }
)

KINDS = DECISIONS | DOOR_EVENTS | UNIT_EVENTS

DECISION_REASONS = frozenset(
    {
        "all_factors_passed",
        "already_inside",
        "badge_unreadable",
        "challenge_before_restart",
        "challenge_expired",
        "challenge_forged",
        "challenge_other_door",
        "challenge_other_person",
        "challenge_unknown",
        "challenge_used",
        "check_failed",
        "clipped",
        "disabled_after_failures",
        "disturbed",
        "duress_word",
        "empty_rule",
        "fire_input",
        "heard_before",
        "history_fault",
        "internal_fault",
        "invalid_evidence",
        "locked_down",
        "log_fault",
        "clock_behind",
        "must_wait",
        "narrow_band",
        "no_claim",
        "no_evidence",
        "no_such_door",
        "no_such_person",
        "not_allowed",
        "not_enrolled",
        "not_live",
        "other_voice",
        "outside_schedule",
        "person_disabled",
        "same_person_twice",
        "same_voice_twice",
        "second_person_needed",
        "sound_lost",
        "too_early",
        "too_little_speech",
        "too_noisy",
        "unknown_condition",
        "unusable_audio",
        "visit_ended",
        "visit_not_begun",
        "voice_changes",
        "pasted",
        "weak_score",
        "whispered",
        "known_attack",
        "wrong_words",
    }
)

UNIT_REASONS = frozenset(
    {
        "disk_full",
        "disk_read_only",
        "unrecorded_starts",
        "backlog_too_large",
        "backlog_too_old",
        "model_fault",
        "software_keystore",
        "store_fault",
        "tpm_fault",
        "tpm_locked",
        "tpm_refused",
        "audio_fault",
        "clock_fault",
        "timeout",
        "held_open",
        "forced",
        "case_opened",
        "case_closed",
        "door_fault",
        "exit_stuck",
        "install_mode",
        "install_mode_ended",
        "key_refused",
        "key_set",
        "microphone_clipped",
        "microphone_dead_channel",
        "microphone_inverted",
        "microphone_offset",
        "microphone_rate",
        "microphone_stuck",
        "network_reachable",
        "certificate_ends",
        "panel_back",
        "panel_lost",
        "request_to_exit",
        "operator",
        "schedule",
        "consent_expired",
        "started",
        "stopped",
        "new_version",
        "rollback_refused",
        "signature_refused",
        "counter_refused",
        "on_request",
        "fleet",
        "locks_everybody_out",
        "not_confirmed",
        "restarted",
        "rules_refused",
        "voices_differ",
        "well_inside",
        "enrol_again",
        "follows_no_more",
        "command_expired",
        "command_failed",
        "command_interrupted",
        "command_unknown",
        "retention_ended",
        "none",
    }
)

FORMER_REASONS = frozenset({"other_surroundings", "unusual_timing"})
"""Of units up to version 0.1.0, whose logs must still verify."""
REASONS = DECISION_REASONS | UNIT_REASONS | FORMER_REASONS
"""Why, in a word; where it is shown it becomes a sentence."""

SCORES = frozenset(
    {
        "second_speaker_llr",
        "phrase_before_llr",
        "replay_llr",
        "synthetic_llr",
        "envelopes_llr",
        "cadence_llr",
        "loudspeaker_llr",
        "frame_rate_hz",
        "reuse_llr",
        "timing_llr",  # of units up to 0.1.0
        "consistency_llr",
        "joins_llr",
        "surroundings_llr",  # of units up to 0.1.0
        "reused_share",
        "reuse_sources",
        "campaign",
        "campaign_likeness",
        "snr_db",
        "speech_s",
    }
)
"""What else the judge may have found about one attempt: `AuditEvent.more_scores`."""

KEYSTORES = frozenset({"tpm", "software"})
