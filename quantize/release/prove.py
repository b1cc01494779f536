"""The proof of a release: every model is built anew and compared with float, on one class of processor.

A report says which machine it was and stays in the repository (`quantize/proof`). On a second class of
processor the same bytes are proven again, for such a machine may multiply otherwise.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from device.model_store.answers import ROLE
from device.model_store.processor import processor_class
from device.models.second_words_answers import ANSWERS_ROLE as SECOND_ANSWERS_ROLE
from device.models.segmentation_answers import ANSWERS_ROLE
from quantize.errors import QuantizeError
from quantize.evaluate.figures.machine import describe_machine
from quantize.parity import FLIPS, FLIPS_LIMIT
from quantize.recipe import BuildContext, Recipe, ReportProgress
from quantize.release.answers import write_answers, write_second_answers, write_segmentation_answers
from quantize.release.build import chosen_recipes
from quantize.release.catalogue import RECIPES
from quantize.release.proven import PROVEN_FILE, Proven, proven_bytes, read_proven
from quantize.upstream.fetch import sha256_of
from sync.durable import replace_file
from sync.plain_file import plain_bytes

PROOF_FOLDER = Path(__file__).parents[1] / "proof"


@dataclass(frozen=True, slots=True)
class Proof(Proven):
    """One file and its metrics on this class of processor."""

    def decisions(self) -> tuple[str, str, str]:
        """How many decisions, how many turned over, and the upper limit, for a table."""
        pairs = self.metrics.get("parity_pairs")
        if pairs is None:
            return "-", "-", "-"
        flips, limit = round(self.metrics[FLIPS] * pairs), self.metrics[FLIPS_LIMIT]
        return f"{pairs:,.0f}", f"{flips}", f"{limit:.2%}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was proven on which machine, and when."""

    processor: str
    machine: str
    date: str
    tools: Mapping[str, str]
    files: Mapping[str, Proof]

    def to_bytes(self) -> bytes:
        files = {
            role: {"sha256": one.sha256, "metrics": dict(one.metrics)} for role, one in self.files.items()
        }
        document = {
            "processor": self.processor, "machine": self.machine, "date": self.date,
            "tools": dict(self.tools), "files": files,
        }  # fmt: skip
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Report:
        """Raises ValueError, KeyError or TypeError for anything but what `to_bytes` writes."""
        document = json.loads(data)
        files = {role: Proof(one["sha256"], one["metrics"]) for role, one in document.pop("files").items()}
        return cls(**document, files=files)


def prove_models(
    *,
    only: Iterable[str] = (),
    every: bool = False,
    release: bool = False,
    progress: ReportProgress = lambda text, done: None,
    recipes: Sequence[Recipe] = RECIPES,
    proven_file: Path = PROVEN_FILE,
    folder: Path = PROOF_FOLDER,
) -> Report:
    """Build and prove; write the report of this class of processor into `folder` and return it.

    With `release` the bytes made here become what every build must end with; without it they must be that
    already. Raises QuantizeError where they are not, and for a model that strays.
    """
    known = read_proven(proven_file)
    asked = set(only)
    chosen = chosen_recipes(only, (), recipes, every)
    processor = processor_class()
    path = folder / f"{processor}.json"
    before = Report.from_bytes(plain_bytes(path)).files if path.is_file() else {}
    files = {role: one for role, one in before.items() if role in known and known[role].fits(one.sha256)}
    tools = {name: version(name) for name in ("numpy", "onnx", "onnxruntime", "ai-edge-litert")}
    date = datetime.now(UTC).date().isoformat()
    report = Report(processor, describe_machine(), date, tools, files)
    with tempfile.TemporaryDirectory(prefix="ostiary-proof-") as work:
        made: dict[str, Path] = {}
        for recipe in chosen:
            context = BuildContext(None, progress, False, made)
            out = Path(work) / recipe.file
            if release and recipe.role == ROLE:
                progress("asking what the self-test will ask", 0.5)
                write_answers()
            if release and recipe.role == ANSWERS_ROLE:
                write_segmentation_answers()
            if release and recipe.role == SECOND_ANSWERS_ROLE:
                write_second_answers()
            recipe.make(out, context)
            sha256 = sha256_of(out)
            if not release and not (recipe.role in known and known[recipe.role].fits(sha256)):
                raise QuantizeError(f"{recipe.file} came out as {sha256[:12]}, which is not what is pinned")
            made[recipe.role] = out
            same = recipe.role in files and files[recipe.role].fits(sha256)
            if asked and recipe.role not in asked and same:
                continue  # only made because another needs it
            metrics = recipe.prove(out, context) if recipe.prove is not None else {}
            files[recipe.role] = Proof(sha256, metrics)
            # At once: a model that strays does not take with it what was proven before.
            report = Report(processor, describe_machine(), date, tools, dict(sorted(files.items())))
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, report.to_bytes(), 0o644)
            if release:
                known[recipe.role] = Proven(sha256, metrics)
                replace_file(proven_file, proven_bytes(known), 0o644)
    return report
