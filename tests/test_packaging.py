"""What goes into the package: the product's part of the lock file, and nothing that only tests need."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def packaging() -> ModuleType:
    """The script, which is no part of the product and so no module of it."""
    path = ROOT / "packaging" / "product_requirements.py"
    spec = importlib.util.spec_from_file_location("product_requirements", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_package_holds_what_the_product_needs_with_its_hashes_and_no_test_tool(
    packaging: ModuleType,
) -> None:
    found = packaging.product_requirements(
        (ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text()
    )
    for name in ("onnxruntime==", "tpm2-pytss==", "uvicorn==", "psycopg-binary==", "pycparser=="):
        assert f"\n{name}" in f"\n{found}", name
    for name in ("pytest==", "mypy==", "playwright==", "hypothesis==", "matplotlib==", "torch=="):
        assert f"\n{name}" not in f"\n{found}", name
    assert found.count("--hash=sha256:") > 100


def test_a_dependency_that_was_not_locked_stops_the_build(packaging: ModuleType) -> None:
    project = '[project]\ndependencies = ["a", "b>=1"]\noptional-dependencies = {api = [], registry = []}\n'
    with pytest.raises(ValueError, match="lacks b"):
        packaging.product_requirements(project, "a==1 \\\n    --hash=sha256:00\n    # via ostiary\n")
