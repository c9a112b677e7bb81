"""The one exception for bad input: a single line that names the way out."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """Something that the user gave, or that the machine lacks, is wrong.

  `str(error)` is one line that names the thing and what to do about it.
  `train.py` and the commands print that line and exit with status 2; called
  from a notebook it is an ordinary exception.
  """


def first_line(error: BaseException) -> str:
  """Returns what an error says up to the first line break, or its type."""
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__


def near_names(name: str, names: Iterable[str], count: int = 3) -> str:
  """Returns `did you mean a, b?`, or all names where none is near.

  >>> near_names('b00', ['b0', 'b1', 'micro'])
  'did you mean b0, b1?'
  >>> near_names('resnet', ['b0', 'micro'])
  'known: b0, micro'
  """
  names = list(names)
  near = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
  if near:
    return f'did you mean {", ".join(near)}?'
  return f'known: {", ".join(names)}'
