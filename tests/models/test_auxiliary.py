"""The second set of batch norms, over the whole family's trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.models import auxiliary, efficientnet, variants

NAMES = ('b0', 'lite0', 'edgetpu_s', 'condconv_b0_4e', 'v2_s', 'micro')


@pytest.fixture(scope='module', params=NAMES)
def variables(request):
  shapes = efficientnet.shapes(
    efficientnet.build(variants.get_spec(request.param))
  )
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def _paths(tree):
  return {
    jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  }


def test_a_second_set_is_all_batch_norms_and_nothing_else(variables):
  both = jax.eval_shape(auxiliary.add, variables)
  norms = {path for path in _paths(variables['params']) if "_bn']" in path}
  assert _paths(both['params'][auxiliary.NAME]) == norms
  assert _paths(both['batch_stats'][auxiliary.NAME]) == _paths(
    variables['batch_stats']
  )
  structure = jax.tree.structure
  assert structure(auxiliary.main(both)) == structure(variables)
  assert structure(auxiliary.other(both)) == structure(variables)
  assert auxiliary.main(variables) == variables


def test_the_other_set_replaces_batch_norms_alone(variables):
  both = auxiliary.add(variables)
  for collection in both.values():
    collection[auxiliary.NAME] = jax.tree.map(
      lambda x: x + 1, collection[auxiliary.NAME]
    )
  for path, leaf in jax.tree_util.tree_leaves_with_path(auxiliary.other(both)):
    expected = "_bn']" in jax.tree_util.keystr(path)
    assert (np.asarray(leaf) == expected).all(), path
  for name, collection in both.items():
    joined = auxiliary.join(
      auxiliary.main(both)[name], auxiliary.other(both)[name]
    )
    assert jax.tree.structure(joined) == jax.tree.structure(collection)
    for found, right in zip(
      jax.tree.leaves(joined), jax.tree.leaves(collection), strict=True
    ):
      assert np.array_equal(found, right)


def test_the_second_set_is_a_copy():
  variables = {'params': {'stem_bn': {'scale': jnp.ones(3)}}}
  both = auxiliary.add(variables)
  copy = both['params'][auxiliary.NAME]['stem_bn']['scale']
  first = both['params']['stem_bn']['scale']
  # A donated buffer must not appear twice.
  assert copy.unsafe_buffer_pointer() != first.unsafe_buffer_pointer()
