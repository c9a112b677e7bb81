"""The state before the first step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from effnet_jax.training import state


def _created():
  variables = {
    'params': {'kernel': jnp.arange(3.0)},
    'batch_stats': {'mean': jnp.ones(2)},
  }
  return variables, state.create(variables, optax.sgd(0.1, momentum=0.9))


def test_the_averages_start_from_the_weights():
  variables, created = _created()
  assert created.step == 0
  assert created.step.dtype == jnp.int32
  for ema in (False, True):
    jax.tree.map(
      np.testing.assert_array_equal, created.variables(ema), variables
    )


def test_the_averages_are_other_variables():
  _, created = _created()
  created = created.replace(ema_params={'kernel': jnp.zeros(3)})
  assert np.array_equal(created.variables()['params']['kernel'], [0, 1, 2])
  assert np.array_equal(created.variables(True)['params']['kernel'], [0, 0, 0])


def test_no_buffer_appears_twice():
  # A buffer that is donated twice ends the process.
  _, created = _created()
  pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(created)]
  assert len(pointers) == 6
  assert len(set(pointers)) == len(pointers)
