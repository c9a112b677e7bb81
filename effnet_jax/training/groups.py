"""Groups of parameters by the patterns that their paths match.

A path joins the names of modules and leaf: `blocks_0/expand_conv/kernel`. A
pattern is a regular expression that matches from the path's start to the end of
a word: `stem` is of stem_conv and stem_bn, `blocks_1` not of blocks_10,
`.*_bn` of every batch norm.
"""

import math
import re
from typing import Any

import jax

from effnet_jax import errors

FROZEN, TRAINED = 'frozen', 'trained'


def paths(params: Any) -> Any:
  """Returns the tree with every leaf's path in its place."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path, simple=True, separator='/'),
    params,
  )


def frozen_labels(params: Any, pattern: str) -> Any:
  """Returns the tree of labels, `frozen` where the pattern matches.

  Raises:
    UserError: a pattern that is malformed, matches no parameter, or all.
  """
  matches, key = _compiled(pattern, 'freeze'), f'config.freeze={pattern!r}'
  names = paths(params)
  frozen = jax.tree.map(matches, names)
  if not any(jax.tree.leaves(frozen)):
    raise errors.UserError(f'{key} matches no parameter: {_modules(names)}')
  if all(jax.tree.leaves(frozen)):
    raise errors.UserError(f'{key} leaves no parameter to train')
  return jax.tree.map(lambda f: FROZEN if f else TRAINED, frozen)


def rate_factors(params: Any, rates: str) -> Any:
  """Returns the tree of factors on the learning rate, 1 where none is said.

  Args:
    params: of the network.
    rates: `PATTERN=FACTOR`, several with a space between; of those that match a
      parameter the first counts.

  Raises:
    UserError: what is malformed; a pattern that matches no parameter, or none
      that is trained and that an earlier one leaves.
  """
  names, used = paths(params), set()
  groups = parse_rates(rates)

  def factor(name):
    for pattern, matches, number in groups:
      if matches(name):
        used.add(pattern)
        return number
    return 1.0

  factors = jax.tree.map(factor, names)
  for pattern, _, _ in groups:
    if pattern not in used:
      raise errors.UserError(
        f'config.optimizer.group_rates: {pattern!r} matches no parameter that '
        f'is trained and that an earlier pattern leaves: {_modules(names)}'
      )
  return factors


def parse_rates(rates: str) -> list[tuple[str, Any, float]]:
  """Returns (pattern, whether a path matches it, factor) of each group."""
  groups = []
  for group in rates.split():
    pattern, _, number = group.rpartition('=')
    try:
      factor = float(number)
    except ValueError:
      factor = math.nan
    if not pattern or not 0 <= factor < math.inf:
      raise errors.UserError(
        f'config.optimizer.group_rates: {group!r} must be PATTERN=FACTOR, the '
        'factor 0 or more, as in "classifier=10 blocks_[0-5]=0.1"'
      )
    matches = _compiled(pattern, 'optimizer.group_rates')
    groups.append((pattern, matches, factor))
  return groups


def _compiled(pattern, key):
  try:
    re.compile(pattern)  # alone: the brackets below could complete it
    compiled = re.compile(f'(?:{pattern})(?=[/_]|$)')
  except re.error as error:
    raise errors.UserError(
      f'config.{key}: {pattern!r} is no regular expression ({error})'
    ) from None
  return lambda name: compiled.match(name) is not None


def _modules(names):
  """The first names of all paths, for whoever mistyped one."""
  modules = {name.partition('/')[0]: None for name in jax.tree.leaves(names)}
  return f'a path begins with {", ".join(modules)}'
