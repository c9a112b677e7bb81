"""What training begins with, from a config's `init_from`."""

import jax
import numpy as np
import pytest

from configs import quickstart
from effnet_jax import pretrained
from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, variants
from effnet_jax.training import initial, program
from effnet_jax.weights import native


def _config(**overrides):
  config = quickstart.get_config()
  config.data.num_classes = 10
  config.update_from_flattened_dict(overrides)
  return config


def _write(directory, **overrides):
  spec = variants.get_spec('micro', **{'num_classes': 10, **overrides})
  variables = efficientnet.init(efficientnet.build(spec), seed=5)
  native.write(directory, spec, variables)
  return variables


def _variables(config):
  model = efficientnet.build(pretrained.spec_of_run(config))
  return initial.variables(config, model)


def _equal(a, b):
  return jax.tree.all(jax.tree.map(np.array_equal, dict(a), dict(b)))


@pytest.fixture
def quickstart_spec():
  return pretrained.spec_of_run(_config())


def test_fresh_weights(quickstart_spec):
  model = efficientnet.build(quickstart_spec)
  assert _equal(_variables(_config(seed=3)), efficientnet.init(model, 3))


@pytest.fixture
def state():
  config = _config()
  config.data.train_examples = 1000
  return program.build(config, jax.devices()[:1]).init()


def test_no_buffer_of_the_state_appears_twice(state):
  # A buffer that is donated twice ends the process.
  leaves = jax.tree.leaves(state)
  assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_few_programs_are_compiled_for_the_state(caplog, request):
  # One a shape, they were two hundred for B0: seconds, and 400 MiB.
  jax.clear_caches()
  with jax.log_compiles(), caplog.at_level('WARNING', logger='jax'):
    made = request.getfixturevalue('state')
  compiled = [m for m in caplog.messages if m.startswith('Compiling ')]
  shapes = {leaf.shape for leaf in jax.tree.leaves(made)}
  assert 0 < len(compiled) <= 6 < len(shapes)


def _like_quickstart(spec):
  return {'mean': spec.mean, 'std': spec.std}


def test_weights_of_a_conversion(tmp_path, quickstart_spec):
  saved = _write(tmp_path, **_like_quickstart(quickstart_spec))
  assert _equal(_variables(_config(init_from=str(tmp_path))), saved)


def test_a_new_head_on_request(tmp_path, quickstart_spec):
  saved = _write(tmp_path, num_classes=7, **_like_quickstart(quickstart_spec))
  with pytest.raises(UserError, match='7 classes, not 10'):
    _variables(_config(init_from=str(tmp_path)))
  config = _config(init_from=str(tmp_path), init_head='new', seed=3)
  variables = _variables(config)
  fresh = _variables(_config(seed=3))
  for name, module in variables['params'].items():
    expected = fresh if name == 'classifier' else saved
    assert _equal(module, expected['params'][name])
  assert _equal(variables['batch_stats'], saved['batch_stats'])


def test_a_head_of_zeros(tmp_path, quickstart_spec):
  saved = _write(tmp_path, num_classes=7, **_like_quickstart(quickstart_spec))
  variables = _variables(_config(init_from=str(tmp_path), init_head='zero'))
  head = variables['params']['classifier']
  assert head['kernel'].shape[-1] == 10
  assert not any(leaf.any() for leaf in jax.tree.leaves(head))
  assert _equal(variables['params']['head_conv'], saved['params']['head_conv'])


def test_what_weights_were_trained_with_must_be_in_the_config(tmp_path):
  _write(tmp_path, padding='symmetric', bn_epsilon=1e-5, mean=(0.5, 0.4, 0.3))
  with pytest.raises(UserError) as caught:
    _variables(_config(init_from=str(tmp_path)))
  message = str(caught.value)
  for flag in (
    '--config.model.overrides.padding=symmetric',
    '--config.model.overrides.bn_epsilon=1e-05',
    "--config.model.overrides.mean='(0.5,0.4,0.3)'",
  ):
    assert flag in message
  assert '\n' not in message


def test_another_network(tmp_path, quickstart_spec):
  _write(tmp_path, width=0.25, **_like_quickstart(quickstart_spec))
  config = _config(init_from=str(tmp_path))
  with pytest.raises(UserError, match='another network than config.model'):
    _variables(config)


def test_no_weights_there(tmp_path):
  with pytest.raises(UserError, match="no file '.*nothing.pth'"):
    _variables(_config(init_from=str(tmp_path / 'nothing.pth')))


def test_an_unknown_head():
  with pytest.raises(UserError, match="'fresh' must be same, new or zero"):
    program.check_values(_config(init_head='fresh'))
