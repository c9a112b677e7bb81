"""A second set of batch norms, for images of another distribution.

AdvProp (Xie et al. 2020, section 4) normalises attacked images apart. The set
is a part of the variables, `auxiliary` in `params` and in `batch_stats`, which
holds the batch norms under their own paths. So the network itself does not
know of it: one takes out of the variables those with which it is to run.
"""

from typing import Any

import jax
import jax.numpy as jnp

NAME = 'auxiliary'
Variables = dict[str, Any]


def add(variables: Variables) -> Variables:
  """Returns variables with a second set that begins as the first."""
  return {
    collection: {**tree, NAME: jax.tree.map(jnp.array, _norms(tree))}
    for collection, tree in variables.items()
  }


def main(variables: Variables) -> Variables:
  """Returns the network's own variables, with or without another set."""
  return {
    collection: {name: part for name, part in tree.items() if name != NAME}
    for collection, tree in variables.items()
  }


def other(variables: Variables) -> Variables:
  """Returns the network's variables with the second set in place of the first.

  All but the batch norms are those of `main`.
  """
  return {
    collection: _replaced(tree, variables[collection][NAME])
    for collection, tree in main(variables).items()
  }


def join(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
  """Returns one collection of `main` and of `other` as `add` lays it out."""
  return {**first, NAME: _norms(second)}


def _norms(tree):
  """The subtrees of batch norms, in their places."""
  found = {
    name: part if name.endswith('_bn') else _norms(part)
    for name, part in tree.items()
    if isinstance(part, dict)
  }
  return {name: part for name, part in found.items() if part}


def _replaced(tree, norms):
  return {
    name: part
    if name not in norms
    else norms[name]
    if name.endswith('_bn')
    else _replaced(part, norms[name])
    for name, part in tree.items()
  }
