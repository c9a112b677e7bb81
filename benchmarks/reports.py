"""Result files: their place, what they say beside figures, reading and writing.

A script that goes on where it stopped reads its file first, and writes it after
every case.
"""

import argparse
import contextlib
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / 'results'


def parser(doc: str, name: str, only: str = '') -> argparse.ArgumentParser:
  """Returns what every script takes.

  Args:
    doc: of the script.
    name: of its result file.
    only: an example of what `--only` chooses from; '': there is no `--only`.
  """
  made = argparse.ArgumentParser(description=doc.partition('\n')[0])
  if only:
    help_ = f'such as {only}'
    made.add_argument('--only', metavar='REGEX', default='', help=help_)
  made.add_argument('--out', type=Path, default=RESULTS / f'{name}.json')
  return made


def name_of(case: Sequence) -> str:
  """Returns what `--only` and the rows call a case, such as `b0-224-16`."""
  return '-'.join(map(str, case))


def matching(pattern: str, names: Iterable[str]) -> list[str]:
  """Returns the names in which `--only` finds its pattern.

  Raises:
    SystemExit: there is none.
  """
  names = list(dict.fromkeys(names))
  try:
    found = [name for name in names if re.search(pattern, name)]
  except re.error as error:
    raise SystemExit(f'--only={pattern}: {error}') from error
  if not found:
    raise SystemExit(f'--only={pattern} is in none of: {"; ".join(names)}')
  return found


def cores() -> str:
  """Returns `2 cores, x86_64`."""
  return f'{os.cpu_count()} cores, {platform.machine()}'


def machine() -> dict[str, Any]:
  """Returns what a time is to be read with."""
  cpu, model = Path('/proc/cpuinfo'), None
  if cpu.exists():
    model = re.search(r'^model name\s*:\s*(.*?)\s*$', cpu.read_text(), re.M)
  return {
    'processor': model[1] if model else 'unknown',
    'cores': os.cpu_count(),
  }


def versions(packages: Iterable[str]) -> dict[str, str]:
  """Returns the versions of packages that are installed, and of `python`."""
  found = {}
  for name in packages:
    with contextlib.suppress(metadata.PackageNotFoundError):
      python = name == 'python'
      found[name] = (
        platform.python_version() if python else metadata.version(name)
      )
  return found


def read(path: Path) -> dict[str, Any]:
  """Returns a report, {} if there is none yet."""
  return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, report: Mapping[str, Any]) -> None:
  """Writes a report whole or not at all."""
  part = path.with_suffix('.part')
  part.write_text(json.dumps(report, indent=2) + '\n')
  part.replace(path)
