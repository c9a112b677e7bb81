"""Every published recipe is a config that says and sets what was published."""

import functools
import importlib
import re
from pathlib import Path

import pytest

from effnet_jax import pretrained
from effnet_jax.data import augment
from effnet_jax.errors import UserError
from effnet_jax.models import published, variants
from effnet_jax.training import program

ROOT = Path(__file__).parents[2]
NAMES = tuple(name for name in variants.list_models() if name != 'micro')
ALL_21K = ('v2_b3', 'v2_s', 'v2_m', 'v2_l', 'v2_xl')


@pytest.fixture(scope='module', autouse=True)
def _configs_are_importable():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))  # as train.py has it
    yield


def _module(name):
  return importlib.import_module(f'configs.{name}')


def _recipes(name):
  """What the error about an unknown recipe lists."""
  with pytest.raises(UserError) as caught:
    _module(name).get_config('?')
  return str(caught.value).partition('known: ')[2].split(', ')


@functools.cache
def _config(name, recipe):
  return _module(name).get_config(recipe)


def _published(name):
  """Recipes that are trained, and their top-1."""
  found = published.top1_by_recipe(name)
  return {k: v for k, v in found.items() if k != 'in1k_int8'}


@pytest.mark.parametrize('name', NAMES)
def test_every_published_recipe_is_there_and_names_its_result(name):
  text = _module(name).__doc__
  recipes = _recipes(name)
  for recipe, top1 in _published(name).items():
    assert recipe in recipes
    assert re.search(
      rf'{name}\.py:{recipe} +{top1} %|{top1} % with `{recipe}`', text
    )
  if len(recipes) > 1:
    assert re.findall(rf'    {name}\.py:(\w+) ', text) == recipes
    stated = re.findall(r':(\w+) +[\d.]+ %', text)
    # The others' sources stand beside their numbers.
    assert set(stated) - set(_published(name)) <= {
      *('randaugment', 'large_batch', 'paper'),
    }


@pytest.mark.parametrize(
  ('name', 'recipe'), [(name, None) for name in NAMES], ids=NAMES
)
def test_every_recipe_is_a_whole_program(name, recipe):
  for recipe in _recipes(name):
    config = _config(name, recipe)
    spec = pretrained.spec_of_run(config)
    assert spec.name in (name, 'l2_475')
    stages = program.plan_stages(config, 1000)
    assert stages[-1].resolution == (spec.train_resolution or spec.resolution)
    program.check_values(config)
    data = config.data
    made = augment.create(
      data.augment, layers=data.augment_layers, cutout=data.cutout
    )
    assert bool(made) == bool(data.augment or data.cutout)
    assert config.data.train_split != config.data.eval_split


def test_the_magnitudes_of_randaugment():
  found = {
    name: _config(name, 'randaugment').data.augment_magnitude
    for name in (*(f'b{i}' for i in range(8)), 'b8')
  }
  assert found == {
    **{f'b{i}': 10 for i in (0, 1, 2, 3, 4, 6)},
    **{'b5': 17, 'b7': 28, 'b8': 28},
  }
  assert _config('b5', 'autoaugment').data.augment == 'autoaugment'
  assert _config('b5', 'baseline').data.augment == ''


def test_advprop_is_autoaugment_in_its_checkpoints_normalisation():
  for name in ('b0', 'b8'):
    config = _config(name, 'advprop')
    assert config.objective.name == 'advprop'
    assert config.data.augment == 'autoaugment'
    spec = pretrained.spec_of_run(config)
    assert (spec.mean, spec.std) == ((0.5,) * 3, (0.5,) * 3)
    attack = program.attack_of(config)
    assert (attack.epsilon, attack.steps, attack.step_size) == (4, 5, 1)


def test_a_large_batch_of_b5():
  config = _config('b5', 'large_batch')
  assert (config.batch_size, config.optimizer.name) == (65_536, 'lars')
  assert config.schedule.decay == 'polynomial'
  assert config.optimizer.decay_mask == 'kernels'
  # .081 for 256 images is 20.7 for all, above the end of the polynomial.
  assert config.schedule.learning_rate * 256 == pytest.approx(20.736)


# Sizes of the released ladder, last magnitude, alpha of mixup and cutmix.
RELEASED = {
  'v2_s': ((171, 214, 257, 300), 10, 0.0),
  'v2_m': ((192, 256, 320, 384), 15, 0.2),
  'v2_l': ((192, 256, 320, 384), 20, 0.5),
  'v2_b0': ((144, 160, 176, 192), None, 0.0),
  'v2_b1': ((144, 160, 176, 192), None, 0.0),
  'v2_b2': ((148, 168, 188, 208), None, 0.0),
  'v2_b3': ((156, 184, 212, 240), None, 0.0),
}


@pytest.mark.parametrize('name', RELEASED)
def test_the_released_ladder(name):
  sizes, magnitude, alpha = RELEASED[name]
  config = _config(name, 'in1k')
  stages = program.plan_stages(config, 107_337)
  assert tuple(stage.resolution for stage in stages) == sizes
  assert stages[-1].magnitude == magnitude
  assert stages[-1].mixup == stages[-1].cutmix == alpha
  if magnitude:
    assert (stages[0].magnitude, stages[0].mixup) == (5, 0)
    assert config.data.crop_area == (0.05, 1.0)
    assert config.data.min_covered == 0
  else:
    assert config.data.augment == 'autoaugment'
    assert config.data.crop_area == (0.08, 1.0)
  spec = pretrained.spec_of_run(config)
  assert {stage.dropout for stage in stages} == {spec.dropout_rate}
  assert (spec.bn_momentum, config.optimizer.decay_mask) == (0.9, 'kernels')
  # Their own normalisation: B0 to B3 as V1, the others less 128 over 128.
  expected = 128 / 255 if magnitude else 0.485
  assert spec.mean[0] == pytest.approx(expected)


@pytest.mark.parametrize(
  ('name', 'size', 'magnitude', 'mixup', 'dropout'),
  [
    ('v2_s', 300, 15, 0.0, 0.3),
    ('v2_m', 380, 20, 0.2, 0.4),
    ('v2_l', 380, 25, 0.5, 0.5),
  ],
)
def test_the_papers_table_6(name, size, magnitude, mixup, dropout):
  config = _config(name, 'paper')
  first, *_, last = program.plan_stages(config, 1000)
  assert (first.resolution, last.resolution) == (128, size)
  assert (first.magnitude, last.magnitude) == (5, magnitude)
  assert (first.mixup, last.mixup, last.cutmix) == (0, mixup, 0)
  assert (first.dropout, last.dropout) == (0.1, dropout)
  assert pretrained.spec_of_run(config).resolution == (
    384 if name == 'v2_s' else 480
  )


@pytest.mark.parametrize('name', ALL_21K)
def test_21k_and_the_fine_tuning_after_it(name):
  before, after = _config(name, 'in21k'), _config(name, 'in21k_ft_in1k')
  assert before.data.num_classes == 21_843
  assert pretrained.spec_of_run(before).survival_probability == 1
  assert before.objective.label_smoothing == 0
  assert (after.batch_size, after.ema) == (512, 0.9996)
  assert (after.init_head, after.data.num_classes) == ('new', 1000)
  spec = pretrained.spec_of_run(after)
  assert spec.resolution == variants.get_spec(name).resolution
  assert spec.train_resolution is None
  assert after.data.cutout == 0.5 and not after.data.crop_area


def test_students_have_the_recipes_of_their_teachers_code():
  for name, magnitude, ratio in (('b0', None, 1), ('b2', 6, 3), ('b7', 27, 3)):
    config = _config(name, 'noisy_student')
    assert config.objective.name == 'noisy_student'
    assert config.data.unlabelled_ratio == ratio
    assert config.data.augment == ('randaugment' if magnitude else '')
    if magnitude:
      assert config.data.augment_magnitude == magnitude
  last = _config('l2', 'noisy_student')
  assert pretrained.spec_of_run(last).resolution == 800
  assert last.duration == '1.5 epochs'
