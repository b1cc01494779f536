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
        "DENIED_UNKNOWN",
        "DENIED_ERROR",
        "DENIED_CLAIM",
        "DENIED_OVERLAP",
        "DENIED_CONSENT",
        "DENIED_REVOKED",
        "LOCKOUT_MAX_ATTEMPTS",
        "PASSBACK_DETECTED",
        "DURESS",
        "STEP_UP",
        "AWAITING_SECOND_PERSON",
        "LOCK_DOWN",
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
        "ENROLLED",
        "FORGOTTEN",
        "CONSENT_EXPIRED",
        "POLICY_APPLIED",
        "MODELS_APPLIED",
        "MODELS_REFUSED",
        "COMMAND_APPLIED",
        "COMMAND_REFUSED",
        "KEYS_ROTATED",
        "FAULT",
    }
)

KINDS = DECISIONS | DOOR_EVENTS | UNIT_EVENTS

REASONS = frozenset(
    {
        "all_checks_passed",
        "phrase_mismatch",
        "voice_mismatch",
        "voice_weak",
        "spoof_suspected",
        "replay_suspected",
        "challenge_expired",
        "challenge_reused",
        "challenge_missing",
        "too_quiet",
        "too_noisy",
        "too_short",
        "too_long",
        "clipped",
        "two_voices",
        "outside_schedule",
        "door_not_allowed",
        "person_unknown",
        "person_not_enrolled",
        "person_revoked",
        "person_expired",
        "consent_missing",
        "consent_expired",
        "too_many_attempts",
        "passback",
        "duress_word",
        "second_person_needed",
        "second_person_missing",
        "lock_down",
        "emergency",
        "fire_input",
        "held_open",
        "forced",
        "case_opened",
        "request_to_exit",
        "operator",
        "schedule",
        "disk_full",
        "backlog_too_old",
        "backlog_too_large",
        "model_missing",
        "model_fault",
        "store_fault",
        "tpm_fault",
        "audio_fault",
        "clock_fault",
        "timeout",
        "internal_error",
        "started",
        "stopped",
        "new_version",
        "rollback_refused",
        "signature_refused",
        "counter_refused",
        "on_request",
        "retention_ended",
        "none",
    }
)
"""Why, in a word. The sentence a person reads is made from it where it is shown."""

KEYSTORES = frozenset({"tpm", "software"})
