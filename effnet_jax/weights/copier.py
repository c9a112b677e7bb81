"""Strict copying of arrays between a layout's keys and our variables."""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights import raw
from effnet_jax.weights.layouts.layout import Arrays, Entry, Layout, Path

_SHOWN = 8


def read(
  arrays: Arrays,
  layout: Layout,
  entries: Sequence[Entry],
  shapes: dict[str, Any],
  source: str,
  name: str = 'this network',
) -> dict[str, Any]:
  """Returns our variables, filled from a layout's arrays.

  Args:
    arrays: by their keys in the table, see `Layout.prepare`.
    layout: says which keys hold no weights.
    entries: the table. A leaf of `shapes` that has no entry is left out.
    shapes: of our variables, from `efficientnet.shapes`.
    source: what an error calls the file.
    name: what an error calls the network.

  Returns:
    `params` and `batch_stats`, float32 numpy arrays.

  Raises:
    UserError: a key that is missing, left over or used twice, another shape,
      numbers that are not finite; all such keys are named.
  """
  wanted = _by_path(shapes)
  keys = [entry.key for entry in entries]
  twice = {key for key, n in collections.Counter(keys).items() if n > 1}
  missing = [key for key in keys if key not in arrays]
  left = [
    key
    for key in arrays
    if key not in set(keys) and not layout.ignored.fullmatch(key)
  ]
  filled, misfits, infinite = {}, [], []
  for entry in entries:
    if entry.key not in arrays:
      continue
    theirs, shape = arrays[entry.key], wanted[entry.path]
    try:
      ours = entry.transform.read(theirs, shape)
    except ValueError:  # another number of axes
      ours = None
    if ours is None or ours.shape != shape:
      misfits.append(
        f'{entry.key} {list(theirs.shape)} for {"/".join(entry.path[1:])} '
        f'{list(shape)}'
      )
      continue
    # A copy: the array may be a view of a file that changes.
    filled[entry.path] = np.array(ours, np.float32, order='C')
    if not np.isfinite(filled[entry.path]).all():
      infinite.append(entry.key)
  problems = [
    f'{what}: {_listed(names)}'
    for what, names in (
      ('missing', missing),
      ('left over', left),
      ('of another shape', misfits),
      ('used twice', sorted(twice)),
      ('not finite', infinite),
    )
    if names
  ]
  if problems:
    raise UserError(
      f'{source} ({layout.name} layout) does not fit {name}; '
      f'{"; ".join(problems)}'
    )
  return _tree(filled)


def write(variables: dict[str, Any], entries: Sequence[Entry]) -> Arrays:
  """Returns a layout's arrays, filled from our variables."""
  ours = {
    path: np.asarray(leaf, np.float32) for path, leaf in _leaves(variables)
  }
  return {
    entry.key: np.ascontiguousarray(entry.transform.write(ours[entry.path]))
    for entry in entries
  }


def _listed(names: Sequence[str]) -> str:
  """`a, b, ... (9 more)`."""
  shown = ', '.join(map(raw.shown, names[:_SHOWN]))
  more = len(names) - _SHOWN
  return f'{shown} and {more} more' if more > 0 else shown


def _leaves(tree: dict[str, Any]) -> list[tuple[Path, Any]]:
  return [
    (tuple(key.key for key in path), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _by_path(shapes: dict[str, Any]) -> dict[Path, tuple[int, ...]]:
  return {path: tuple(leaf.shape) for path, leaf in _leaves(shapes)}


def _tree(filled: dict[Path, np.ndarray]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for path, leaf in filled.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
    node[path[-1]] = leaf
  return tree
