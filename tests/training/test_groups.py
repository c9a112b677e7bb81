"""Groups by path: by hand, on the names of a real network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import groups, optimizer


def _params():
  leaf = lambda *shape: jnp.full(shape, -2.0)
  return {
    'stem_conv': {'kernel': leaf(3, 2)},
    'stem_bn': {'scale': leaf(2), 'bias': leaf(2)},
    'blocks_1': {'se': {'reduce': {'kernel': leaf(2, 1), 'bias': leaf(1)}}},
    'blocks_10': {'project_bn': {'scale': leaf(2), 'bias': leaf(2)}},
    'classifier': {'kernel': leaf(2, 3), 'bias': leaf(3)},
  }


def _chosen(tree, value):
  names = groups.paths(_params())
  pairs = zip(jax.tree.leaves(names), jax.tree.leaves(tree), strict=True)
  return {name for name, leaf in pairs if leaf == value}


@pytest.mark.parametrize(
  ('pattern', 'frozen'),
  [
    (
      'stem',
      {'stem_conv/kernel', 'stem_bn/scale', 'stem_bn/bias'},
    ),
    # Not blocks_10, though it begins so; not `class` of classifier.
    (
      'blocks_1|class',
      {'blocks_1/se/reduce/kernel', 'blocks_1/se/reduce/bias'},
    ),
    (
      '.*_bn',
      {
        *('stem_bn/scale', 'stem_bn/bias'),
        *('blocks_10/project_bn/scale', 'blocks_10/project_bn/bias'),
      },
    ),
    ('blocks_[0-9]+/se/reduce/bias', {'blocks_1/se/reduce/bias'}),
  ],
)
def test_a_pattern_matches_from_the_start_to_the_end_of_a_word(pattern, frozen):
  labels = groups.frozen_labels(_params(), pattern)
  assert _chosen(labels, groups.FROZEN) == frozen
  everything = set(jax.tree.leaves(groups.paths(_params())))
  assert _chosen(labels, groups.TRAINED) == everything - frozen


def test_the_first_pattern_that_matches_counts():
  rates = 'classifier/bias=0 classifier=10 stem|blocks_1=0.5'
  factors = groups.rate_factors(_params(), rates)
  assert _chosen(factors, 0) == {'classifier/bias'}
  assert _chosen(factors, 10) == {'classifier/kernel'}
  assert len(_chosen(factors, 0.5)) == 5
  assert len(_chosen(factors, 1.0)) == 2  # blocks_10


@pytest.mark.parametrize(
  ('rates', 'text'),
  [
    ('clasifier=10', "'clasifier' matches no parameter"),
    ('classifier=2 classifier/bias=3', "'classifier/bias' matches no"),
    ('classifier', "'classifier' must be PATTERN=FACTOR"),
    ('classifier=ten', 'must be PATTERN=FACTOR'),
    ('classifier=-1', 'the factor 0 or more'),
    ('classifier=nan', 'must be PATTERN=FACTOR'),
    ('(=2', 'is no regular expression'),
  ],
)
def test_mistakes_in_rates_are_one_line(rates, text):
  tx = optimizer.create('sgd', lambda step: 0.1, group_rates=rates)
  with pytest.raises(UserError) as caught:
    tx.init(_params())
  assert text in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('freeze', 'text'),
  [
    ('stme', 'a path begins with blocks_1, blocks_10, classifier, stem_bn'),
    ('.*', 'leaves no parameter to train'),
    ('[', 'is no regular expression'),
  ],
)
def test_mistakes_in_freeze_are_one_line(freeze, text):
  tx = optimizer.create('sgd', lambda step: 0.1, freeze=freeze)
  with pytest.raises(UserError) as caught:
    tx.init(_params())
  assert text in str(caught.value) and '\n' not in str(caught.value)


def _after(tx, params, gradients):
  state = tx.init(params)
  for gradient in gradients:
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def _gradients(count=3):
  rng = np.random.default_rng(0)
  return [
    jax.tree.map(
      lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), _params()
    )
    for _ in range(count)
  ]


@pytest.mark.parametrize('name', ['sgd', 'rmsprop'])
def test_a_group_learns_as_with_another_rate(name):
  rates = 'classifier=10'
  create = lambda rate, **rest: optimizer.create(
    name, lambda step: rate / (1 + step), weight_decay=1e-2, **rest
  )
  params, gradients = _params(), _gradients()
  grouped, _ = _after(create(0.01, group_rates=rates), params, gradients)
  slow, _ = _after(create(0.01), params, gradients)
  fast, _ = _after(create(0.1), params, gradients)
  for module in params:
    expected = (fast if module == 'classifier' else slow)[module]
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
      grouped[module],
      expected,
    )


@pytest.mark.parametrize('name', ['sgd', 'rmsprop'])
def test_what_is_frozen_has_no_update_no_decay_and_no_slots(name):
  create = lambda **rest: optimizer.create(
    name, lambda step: 0.1, weight_decay=0.1, **rest
  )
  params, gradients = _params(), _gradients()
  after, state = _after(create(freeze='stem|blocks'), params, gradients)
  free, whole = _after(create(), params, gradients)
  for module in params:
    expected = free if module == 'classifier' else params
    jax.tree.map(np.testing.assert_array_equal, after[module], expected[module])
  size = lambda tree: sum(x.size for x in jax.tree.leaves(tree) if x.ndim)
  slots = {'sgd': 1, 'rmsprop': 2}[name]
  assert size(state) == slots * size(params['classifier'])
  assert size(whole) == slots * size(params)


def test_clipping_is_by_what_is_trained():
  params = {'a': jnp.zeros(2), 'b': jnp.zeros(2)}
  gradient = {'a': jnp.array([300.0, 400.0]), 'b': jnp.array([3.0, 4.0])}
  tx = optimizer.create(
    'sgd',
    lambda step: 1.0,
    momentum=0.0,
    weight_decay=0.0,
    clip_norm=1.0,
    freeze='a',
  )
  updates, _ = tx.update(gradient, tx.init(params), params)
  np.testing.assert_allclose(updates['b'], [-0.6, -0.8], rtol=1e-6)
  np.testing.assert_array_equal(updates['a'], [0, 0])
