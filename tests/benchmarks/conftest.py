"""The scripts import what lies beside them: so do their tests."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'


@pytest.fixture
def script(monkeypatch):
  """Imports a script by its name."""
  monkeypatch.syspath_prepend(str(BENCHMARKS))
  return importlib.import_module
