"""Counters of this process as Prometheus text. No label names a person, caller or transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Kept by the event loop alone."""

    def __init__(self) -> None:
        self._responses: Counter[tuple[str, int]] = Counter()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._waited_s = 0.0
        self._jobs = 0

    def responded(self, path: str, status: int) -> None:
        """`path` is a route's template, not what a caller typed."""
        self._responses[path, status] += 1

    def finished(self, kind: str, outcome: str, took_s: float) -> None:
        """One job, from its arrival to its result."""
        self._outcomes[kind, outcome] += 1
        self._jobs += 1
        self._waited_s += took_s
        for bound in BUCKETS_S:
            if took_s <= bound:
                self._buckets[bound] += 1

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Every figure; `gauges` maps a name to its help and its value now."""
        lines = [
            "# HELP ostiary_api_responses_total Responses.",
            "# TYPE ostiary_api_responses_total counter",
        ]
        for (path, status), count in sorted(self._responses.items()):
            lines.append(f'ostiary_api_responses_total{{path="{path}",status="{status}"}} {count}')
        lines += ["# HELP ostiary_api_jobs_total Jobs finished.", "# TYPE ostiary_api_jobs_total counter"]
        for (kind, outcome), count in sorted(self._outcomes.items()):
            lines.append(f'ostiary_api_jobs_total{{kind="{kind}",outcome="{outcome}"}} {count}')
        lines += [
            "# HELP ostiary_api_job_seconds From a job's arrival to its result.",
            "# TYPE ostiary_api_job_seconds histogram",
            *(f'ostiary_api_job_seconds_bucket{{le="{b:g}"}} {self._buckets[b]}' for b in BUCKETS_S),
            f'ostiary_api_job_seconds_bucket{{le="+Inf"}} {self._jobs}',
            f"ostiary_api_job_seconds_sum {self._waited_s:.6f}",
            f"ostiary_api_job_seconds_count {self._jobs}",
        ]
        for name, (told, value) in gauges.items():
            lines += [f"# HELP {name} {told}", f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
