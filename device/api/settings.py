"""What can be set about the REST facade, with limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Defaults are a unit's: a loopback address, mutual TLS, and room for one busy integration."""

    host: str = "127.0.0.1"
    port: int = field(default=8443, metadata={"low": 0, "high": 65_535})
    certificate: Path | None = None
    """PEM chain of this server, and its key; both and `client_ca`, or the server does not start."""
    key: Path | None = None
    client_ca: Path | None = None
    """Who signs the certificates of callers."""
    max_body_bytes: int = field(default=8 << 20, metadata={"low": 4096, "high": 32 << 20})
    max_waiting: int = field(default=128, metadata={"low": 1, "high": 4096})
    """Requests with audio that are read, waiting or judged; the next one is told to come back."""
    max_waiting_bytes: int = field(default=64 << 20, metadata={"low": 4096, "high": 1 << 30})
    body_timeout_s: float = field(default=15.0, metadata={"low": 0.1, "high": 120.0})
    answer_within_s: float = field(default=30.0, metadata={"low": 0.0, "high": 120.0})
    """A request that takes longer is answered 202; its result is fetched later."""
    result_lifetime_s: float = field(default=3600.0, metadata={"low": 1.0, "high": 604_800.0})
    """How long a result can be fetched. Its transaction id stays taken for as long again."""
    max_results: int = field(default=50_000, metadata={"low": 10, "high": 5_000_000})
    code_lifetime_s: float = field(default=60.0, metadata={"low": 2.0, "high": 120.0})
    """From the answer of /otp to the arrival of /verify: speaking, encoding and sending included."""
    requests_per_s: float = field(default=20.0, metadata={"low": 0.1, "high": 10_000.0})
    """Of one caller, sustained."""
    burst: int = field(default=200, metadata={"low": 1, "high": 100_000})
    checks_per_person_per_min: float = field(default=20.0, metadata={"low": 0.1, "high": 100_000.0})
    """Of one person's voice, whoever asks: scores are an oracle for tuning an attack."""
    max_token_min: float = field(default=60.0, metadata={"low": 1.0, "high": 1440.0})

    def __post_init__(self) -> None:
        if self.max_body_bytes > self.max_waiting_bytes:
            raise ValueError("max_body_bytes must not exceed max_waiting_bytes, or nothing could ever wait")
        given = [item is not None for item in (self.certificate, self.key, self.client_ca)]
        if any(given) and not all(given):
            raise ValueError("certificate, key and client_ca go together")

    @property
    def tls(self) -> tuple[Path, Path, Path] | None:
        """(certificate, key, CA of the callers), or None when TLS is not set up."""
        if self.certificate is None or self.key is None or self.client_ca is None:
            return None
        return self.certificate, self.key, self.client_ca
