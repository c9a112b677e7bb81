"""What the tables of the README and of docs/ are written with."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / 'results'


def read(file: str) -> dict[str, Any]:
  """Returns a result file's contents."""
  return json.loads((RESULTS / file).read_text())


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
  line = lambda cells: f'| {" | ".join(cells)} |'
  head = tuple(head)
  return '\n'.join(
    [line(head), line(['---'] * len(head)), *(line(row) for row in rows)]
  )


def where(report: dict[str, Any], file: str) -> str:
  machine = report['machine']
  versions = ', '.join(
    f'{name} {version}' for name, version in report['versions'].items()
  )
  return (
    f'{machine["threads"]} threads of {machine["processor"]}; {versions} '
    f'([result](benchmarks/results/{file})).'
  )
