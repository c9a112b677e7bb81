"""Split names with a slice: `train`, `train[:500]`, `train[25022:]`, `[:10%]`.

One reader for every kind of source, with the meaning that TFDS gives them.
"""

import re
from collections.abc import Mapping

from effnet_jax.errors import UserError, near_names

_SPEC = re.compile(r'([\w-]+)(?:\[(-?[\d_]+%?)?:(-?[\d_]+%?)?\])?')


def parse_split(spec: str) -> tuple[str, str, str]:
  """Returns (name, start, stop) as text, the bounds empty where not given.

  Raises:
    UserError: `spec` does not read as NAME or NAME[START:STOP].
  """
  match = _SPEC.fullmatch(spec)
  if match is None or not any(c.isalnum() for c in match[1]):
    raise UserError(
      f'cannot read the split {spec!r}: write it as train, train[:500], '
      'train[25022:] or train[:10%]'
    )
  return match[1], match[2] or '', match[3] or ''


def resolve_split(spec: str, sizes: Mapping[str, int]) -> tuple[str, range]:
  """Reads `spec` against the splits that there are.

  Bounds are as in TFDS: whole numbers or percent, negative ones count from the
  end, percent round to the nearest example (ties to even).

  >>> resolve_split('train[:10%]', {'train': 1497})
  ('train', range(0, 150))

  Args:
    spec: the split, e.g. `test` or `train[-500:]`.
    sizes: examples by split name.

  Returns:
    The name of the split, and the indices within it.

  Raises:
    UserError: `spec` is malformed, the split unknown, a bound past the end, or
      no example left.
  """
  name, start, stop = parse_split(spec)
  if name not in sizes:
    raise UserError(f'no split {name!r}: {near_names(name, sizes)}')
  size = sizes[name]
  low = _bound(start, size, spec) if start else 0
  high = _bound(stop, size, spec) if stop else size
  if low >= high:
    raise UserError(
      f'the split {spec!r} is empty: {name} holds {size} examples and the '
      f'slice keeps [{low}:{high}]'
    )
  return name, range(low, high)


def _bound(text: str, size: int, spec: str) -> int:
  try:
    number = int(text.removesuffix('%'))
  except ValueError:  # '_' alone, or '1__0'
    raise UserError(f'cannot read {text!r} in the split {spec!r}') from None
  if text.endswith('%'):
    number = round(number * size / 100)
  if abs(number) > size:
    raise UserError(
      f'the split {spec!r} reaches past the end: there are {size} examples'
    )
  return number + size if number < 0 else number
