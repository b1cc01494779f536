"""What the context of an utterance says about a live person: heard before, one voice throughout.

Each piece of evidence is a log-likelihood ratio of its own with a name of its own; the policy sees them one
by one (`device/access/policy.py`), the audit event names them one by one (`sync/vocabulary.py`).
"""

from device.liveness.errors import LivenessError, MemoryRollbackError
from device.liveness.evidence import NO_CONTEXT_EVIDENCE, ContextEvidence
from device.liveness.fingerprint import Fingerprint, Fingerprinter

__all__ = [
    "NO_CONTEXT_EVIDENCE",
    "ContextEvidence",
    "Fingerprint",
    "Fingerprinter",
    "LivenessError",
    "MemoryRollbackError",
]
