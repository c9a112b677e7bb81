"""The report of inference.py and of training_step.py, written case by case."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import interleaved
import reports


def parse(
  doc: str, name: str, only: str, rounds: int, seconds: float, some: str
) -> argparse.Namespace:
  """Returns the arguments of a script.

  Args:
    doc: of the script; also `name` and `only`, see `reports.parser`.
    rounds: the default, as `seconds`.
    some: the name of the flag that leaves competitors out.
  """
  parser = reports.parser(doc, name, only)
  add = parser.add_argument
  add('--again', action='store_true', help='what has been measured too')
  add('--rounds', type=int, default=rounds, metavar='N')
  help_ = 'of each competitor in a case'
  add('--seconds', type=float, default=seconds, help=help_)
  help_ = 'some only, to try; needs --out'
  add(f'--{some}', metavar='REGEX', default='', help=help_)
  arguments = parser.parse_args()
  if vars(arguments)[some] and arguments.out == parser.get_default('out'):
    parser.error(f'--{some} leaves ratios out: give another --out')
  return arguments


class Report:
  """A result file with a row for every case; it goes on with what it has.

  Args:
    arguments: of `parse`.
    cases: all there are, in the order of the file.
    head: what the file says besides: the first keys.
    packages: those with which a case is measured; with others it is again.
    summary: of the rows.
  """

  def __init__(
    self,
    arguments: argparse.Namespace,
    cases: Iterable[Sequence],
    head: Mapping[str, Any],
    packages: Iterable[str],
    summary: Callable[[list[dict]], dict[str, dict]],
  ):
    rows = reports.read(arguments.out).get('rows', [])
    self._rows = {row['case']: row for row in rows}
    self._arguments, self._head, self._summary = arguments, head, summary
    self._cases = {reports.name_of(case): case for case in cases}
    self._versions = reports.versions(('python', *packages))

  def wanted(self) -> list[Sequence]:
    """Returns the cases that are to be measured."""
    return [
      self._cases[name]
      for name in reports.matching(self._arguments.only, self._cases)
      if self._arguments.again
      or self._rows.get(name, {}).get('versions') != self._versions
    ]

  def add(self, row: dict[str, Any]) -> None:
    """Writes the file with a case that is measured."""
    self._rows[row['case']] = {**row, 'versions': self._versions}
    reports.write(
      self._arguments.out,
      {
        **self._head,
        'machine': interleaved.machine(),
        'versions': self._versions,
        'summary': self.summary(),
        'rows': self.rows(),
      },
    )

  def rows(self) -> list[dict[str, Any]]:
    return [self._rows[name] for name in self._cases if name in self._rows]

  def summary(self) -> dict[str, dict]:
    return self._summary(self.rows())
