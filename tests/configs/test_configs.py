"""Every config is complete, and builds what was published."""

import dataclasses
import functools
import importlib
import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from effnet_jax import pretrained
from effnet_jax.errors import UserError
from effnet_jax.models import spec
from effnet_jax.training import program

ROOT = Path(__file__).parents[2]
FAMILY = tuple(f'b{i}' for i in range(8))
NATIVE = (224, 240, 260, 300, 380, 456, 528, 600)


@pytest.fixture(scope='module', autouse=True)
def _configs_are_importable():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))  # as train.py has it
    yield


def _names():
  """Dotted names of the modules under configs/ that define get_config."""
  return sorted(
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for path in (ROOT / 'configs').rglob('*.py')
    if 'def get_config(' in path.read_text()
  )


def _load(name, *arguments):
  name = name if '.' in name else f'configs.{name}'
  return importlib.import_module(name).get_config(*arguments)


def _keys(config):
  """Dotted keys of all leaves, and their values."""
  keys = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      keys.update({f'{key}.{k}': v for k, v in _keys(value).items()})
    else:
      keys[key] = value
  return keys


@functools.cache
def _base():
  return _load('base')


def test_there_is_a_config_for_every_published_variant():
  assert {'configs.base', 'configs.quickstart'} <= set(_names())
  assert {f'configs.{name}' for name in FAMILY} <= set(_names())


@pytest.mark.parametrize('name', _names())
def test_a_config_is_complete(name):
  config = _load(name)
  assert _keys(config).keys() == _keys(_base()).keys()
  # What a checkpoint and summary.json hold.
  assert json.loads(json.dumps(config.to_dict()))['seed'] == 0


@pytest.mark.parametrize('name', _names())
def test_a_config_refuses_other_keys_and_types(name):
  config = _load(name).lock()
  for section in ('', 'model', 'model.overrides', 'data', 'schedule'):
    part = functools.reduce(getattr, filter(None, section.split('.')), config)
    with pytest.raises(AttributeError):
      part.batch_sise = 1
  for section, key, value in (
    (config, 'batch_size', '4096'),
    (config, 'duration', 350),
    (config.data, 'num_classes', 'ten'),
    (config.data, 'crop_area', 0.5),
    (config.model.overrides, 'survival_probability', '0.8'),
    (config.optimizer, 'clip_norm', 'none'),
  ):
    with pytest.raises(TypeError):
      section[key] = value


def test_every_config_says_how_to_run_it():
  for name in _names():
    text = importlib.import_module(name).__doc__
    path = name.replace('.', '/') + '.py'
    assert name == 'configs.base' or f'train.py --config={path}' in text


def test_overrides_are_the_fields_of_a_model():
  fields = {field.name for field in dataclasses.fields(spec.ModelSpec)}
  overrides = _base().model.overrides
  # The others are keys of config.data.
  assert set(overrides) == fields - {
    *('name', 'num_classes', 'resampling', 'crop_padding'),
  }
  # None stands for the variant's own, whatever it is.
  assert not any(value is not None for value in overrides.values())


# What is built from a config, without its data.


def _devices():
  return jax.devices()[:4]


@functools.cache
def _built(name):
  config = _load(name)
  return config, program.build(config, _devices())


@pytest.mark.parametrize(
  ('name', 'resolution'), list(zip(FAMILY, NATIVE, strict=True))
)
def test_the_published_recipe(name, resolution):
  config, built = _built(name)
  assert built.model.spec.name == name
  assert built.model.spec.resolution == resolution
  assert built.model.spec.num_classes == 1000
  assert built.model.spec.survival_probability == 0.8
  assert built.model.dtype == 'bfloat16'
  assert config.batch_size == 4096
  # 25,022 of 1,281,167 images are held out: 306.676 steps an epoch.
  assert config.data.train_examples == 1_256_145
  assert config.data.train_split == 'train[25022:]'
  assert config.data.eval_split == 'train[:25022]'
  assert config.data.test_split == 'validation'
  assert built.total_steps == 107_337
  rate = lambda step: float(built.schedule(step))
  assert rate(0) == 0
  # Five epochs are 1533.38 steps; 2.4 are 736.02.
  assert rate(1532) == pytest.approx(0.256 * 1532 / 1533, rel=1e-5)
  assert rate(1533) == pytest.approx(0.256 * 0.97**2, rel=1e-5)
  assert rate(2209) == pytest.approx(0.256 * 0.97**3, rel=1e-5)
  assert (config.ema, config.objective.label_smoothing) == (0.9999, 0.1)
  assert config.optimizer.to_dict() == {
    'name': 'rmsprop',
    'momentum': 0.9,
    'rms_decay': 0.9,
    'epsilon': 1e-3,
    'weight_decay': 1e-5,
    'decay_mask': 'not_batch_norm',
    'clip_norm': None,
    'group_rates': '',
    'trust_coefficient': 1e-3,
  }


@pytest.mark.soak
def test_the_step_of_b0_traces_in_bfloat16():
  config, built = _built('b0')
  before = jax.eval_shape(built.init)
  batch = {
    'image': jax.ShapeDtypeStruct((4, 1024, 224, 224, 3), jnp.uint8),
    'label': jax.ShapeDtypeStruct((4, 1024), jnp.int32),
  }
  key = jax.eval_shape(lambda: jax.random.key(config.seed))
  lowered = built.train_step.lower(before, batch, key)
  after, metrics = lowered.out_info
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(after) == shapes(before)
  for leaf in jax.tree.leaves((after.params, after.batch_stats, metrics)):
    assert leaf.dtype == jnp.float32
  types = re.findall(
    r'stablehlo\.convolution.* -> tensor<[\dx]*x(\w+)>', lowered.as_text()
  )
  assert types
  assert set(types) == {'bf16'}


def _changed(**changes):
  """The quickstart config, its data counted and some keys set."""
  config = _load('quickstart')
  changes = {'data.num_classes': 10, 'data.train_examples': 1497, **changes}
  config.update_from_flattened_dict(changes)
  return config


def test_a_config_builds_once_its_data_is_counted():
  with pytest.raises(UserError, match=r'config\.data\.num_classes'):
    program.build(_load('quickstart'), _devices())
  config = _changed(
    **{
      'duration': '40 epochs',
      'batch_size': 64,
      'schedule.decay': 'cosine',
      'schedule.learning_rate': 0.04,
      'schedule.warmup': '2 epochs',
    }
  )
  built = program.build(config, _devices())
  assert built.model.spec.num_classes == 10
  assert built.total_steps == 936  # 40 * 1497 / 64
  assert built.steps('2 epochs', 'log.every') == 47  # 46.8
  assert built.steps('1 example', 'log.every') == 1  # never none
  # Warm-up is the whole steps in two epochs; then half a cosine from .01.
  expected = 0.005 * (1 + math.cos(math.pi * 46 / 936))
  assert float(built.schedule(46)) == pytest.approx(expected, rel=1e-5)
  assert float(built.schedule(23)) == pytest.approx(0.005, rel=1e-5)


def test_overrides_reach_the_model():
  config = _changed(
    **{
      'model.overrides.stages': 'r1_k3_s1_e1_o8 r1_k3_s2_e6_o16_se',
      'model.overrides.width': 1.0,
      'model.overrides.se_ratio': 0.5,
      'model.overrides.ninety_percent': False,
    }
  )
  found = pretrained.spec_of_run(config)
  assert ' '.join(map(str, found.stages)) == config.model.overrides.stages
  assert (found.width, found.se_ratio) == (1.0, 0.5)
  assert not found.ninety_percent
  # Through a checkpoint's JSON, tuples are lists.
  again = ConfigDict(json.loads(json.dumps(config.to_dict())))
  assert pretrained.spec_of_run(again) == found
  assert hash(pretrained.spec_of_run(again)) == hash(found)


@pytest.mark.parametrize(
  ('key', 'value', 'text'),
  [
    ('batch_size', 66, 'config.batch_size=66'),
    ('evaluation.batch_size', 3, 'config.evaluation.batch_size=3'),
    ('accumulate', 3, 'config.accumulate'),
    ('duration', 'forever', "config.duration='forever'"),
    ('schedule.warmup', '5', "config.schedule.warmup='5'"),
    ('schedule.decay_every', '', "config.schedule.decay_every=''"),
    ('schedule.decay', 'linear', 'config.schedule.decay'),
    ('model.name', 'b99', "'b99'"),
    ('model.dtype', 'float16', "'float16'"),
    ('model.depthwise', 'fast', "'fast'"),
    ('model.bn_groups', '3', "config.model.bn_groups='3'"),
    ('model.overrides.stages', 'r1', "'r1'"),
    ('model.overrides.se_ratio', -1.0, 'se_ratio'),
    ('objective.name', 'supervise', 'config.objective.name'),
    ('optimizer.name', 'adam', 'config.optimizer.name'),
  ],
)
def test_an_impossible_value_is_one_line(key, value, text):
  with pytest.raises(UserError) as caught:
    program.build(_changed(**{key: value}), _devices())
  assert text in str(caught.value)
  assert '\n' not in str(caught.value)


def test_an_unknown_recipe_names_the_known():
  assert _load('b0', 'baseline').to_dict() == _load('b0').to_dict()
  with pytest.raises(
    UserError, match='b5.py .* did you mean noisy_student'
  ) as caught:
    _load('b5', 'noisy')
  assert '\n' not in str(caught.value)
