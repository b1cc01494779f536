"""Settings of the store, with limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROFILES = ("laptop", "production")
KEYSTORES = ("tpm", "software")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Defaults are a unit's. `docs/adr/0003-sealing-policy.md` says how to choose `pcrs`."""

    profile: str = "production"
    keystore: str = "tpm"
    tcti: str = "device:/dev/tpmrm0"
    """`device:/dev/tpmrm0`, `tabrmd`, or `swtpm:host=127.0.0.1,port=2321`."""
    pcrs: tuple[int, ...] = (0, 2, 4, 7)
    policy_authority: Path | None = None
    """PEM public key whose signature moves the sealing policy. A laptop makes its own."""
    nv_base: int = 0x0180_5A00
    """First of eight consecutive NV indices and, with another prefix, of the persistent handle."""
    consent_text_version: str = "2026-01"
    retention_days: int = 365
    max_retention_days: int = 1095
    rotate_on_forget: bool = True
    """A new epoch key with every deletion: an old disk image and the TPM then bring nobody back."""

    def __post_init__(self) -> None:
        wrong = []
        if self.profile not in PROFILES:
            wrong.append(f"profile is one of {', '.join(PROFILES)}, not {self.profile!r}")
        if self.keystore not in KEYSTORES:
            wrong.append(f"keystore is one of {', '.join(KEYSTORES)}, not {self.keystore!r}")
        if self.keystore == "software" and self.profile == "production":
            wrong.append('a software keystore is refused in production; use a TPM or profile = "laptop"')
        if not self.pcrs or len(set(self.pcrs)) != len(self.pcrs) or not all(0 <= p <= 23 for p in self.pcrs):
            wrong.append("pcrs are different numbers from 0 to 23, at least one")
        if not 0x0180_0000 <= self.nv_base <= 0x01BF_FFF0:
            wrong.append("nv_base lies in the owner's range, 0x01800000 to 0x01bffff0")
        if not 1 <= self.retention_days <= self.max_retention_days <= 3650:
            wrong.append("1 <= retention_days <= max_retention_days <= 3650")
        if wrong:
            raise ValueError("store settings: " + "; ".join(wrong))
