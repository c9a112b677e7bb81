"""What the tables of the README and of docs/ are written with."""

from collections.abc import Iterable, Mapping
from typing import Any

import reports


def read(name: str) -> dict[str, Any]:
  """Returns a result file's contents, {} if there is none."""
  return reports.read(reports.RESULTS / f'{name}.json')


def table(
  head: Iterable[str], rows: Iterable[Iterable[str]], *below: str
) -> str:
  """Returns a table, and the lines that stand below it."""
  line = lambda cells: f'| {" | ".join(cells)} |'
  head = tuple(head)
  lines = [line(head), line(['---'] * len(head)), *(line(row) for row in rows)]
  return '\n'.join([*lines, *([''] if below else []), *below])


def result(name: str) -> str:
  """Returns the end of a sentence: a link to the file."""
  return f'([result](benchmarks/results/{name}.json)).'


def versions(of: Mapping[str, str]) -> str:
  return ', '.join(f'{name} {version}' for name, version in of.items())


def where(report: Mapping[str, Any], name: str) -> str:
  machine = report['machine']
  return (
    f'{machine["threads"]} threads of {machine["processor"]}; '
    f'{versions(report["versions"])} {result(name)}'
  )


def step(name: str, row: Mapping[str, Any]) -> str:
  """Returns which network's training step a row is of."""
  return f'{name}, {row["batch"]} x {row["resolution"]} pixels'
