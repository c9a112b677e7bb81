"""Stages of progressive learning, against the published numbers."""

import dataclasses

import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.models import variants
from effnet_jax.training import stages


def _plan(ladder='released', count=4, total_steps=1000, **last):
  values = {
    'first_step': 0,
    'resolution': 300,
    'magnitude': 10.0,
    'mixup': 0.0,
    'cutmix': 0.0,
    'dropout': 0.3,
  }
  return stages.plan(
    ladder,
    count,
    total_steps,
    last=stages.Stage(**values | last),
    min_resolution=128,
    min_magnitude=5.0,
    min_dropout=0.1,
  )


def _values(plan, name):
  return [getattr(stage, name) for stage in plan]


@pytest.mark.parametrize(
  ('variant', 'sizes'),
  [
    ('v2_s', [171, 214, 257, 300]),
    ('v2_m', [192, 256, 320, 384]),
    ('v2_l', [192, 256, 320, 384]),
    ('v2_xl', [192, 256, 320, 384]),
    ('v2_b0', [144, 160, 176, 192]),
    ('v2_b1', [144, 160, 176, 192]),
    ('v2_b2', [148, 168, 188, 208]),
    ('v2_b3', [156, 184, 212, 240]),
  ],
)
def test_released_sizes(variant, sizes):
  spec = variants.get_spec(variant)
  assert _values(_plan(resolution=spec.train_resolution), 'resolution') == sizes


def test_released_regularisation():
  # V2-M and V2-L: numpy.linspace of four values in the authors' code.
  for magnitude, alpha in ((15, 0.2), (20, 0.5)):
    plan = _plan(magnitude=magnitude, mixup=alpha, cutmix=alpha)
    np.testing.assert_allclose(
      _values(plan, 'magnitude'), np.linspace(5, magnitude, 4)
    )
    for name in ('mixup', 'cutmix'):
      np.testing.assert_allclose(_values(plan, name), np.linspace(0, alpha, 4))
      assert (_values(plan, name)[0], _values(plan, name)[-1]) == (0, alpha)
    assert _values(plan, 'dropout') == [0.3] * 4


def test_the_papers_ladder():
  # Table 6, V2-M: size 128 to 380, RandAugment 5 to 20, mixup 0 to .2, dropout
  # .1 to .4; by Algorithm 1 the first of four stages has the least of each.
  plan = _plan('paper', resolution=380, magnitude=20, mixup=0.2, dropout=0.4)
  assert _values(plan, 'resolution') == [128, 212, 296, 380]
  close = np.testing.assert_allclose
  close(_values(plan, 'magnitude'), [5, 10, 15, 20])
  close(_values(plan, 'mixup'), [0, 0.2 / 3, 0.4 / 3, 0.2])
  close(_values(plan, 'dropout'), [0.1, 0.2, 0.3, 0.4])
  assert _values(plan, 'cutmix') == [0] * 4


@pytest.mark.parametrize('ladder', stages.LADDERS)
@pytest.mark.parametrize('total', [4, 7, 1000, 107_331])
def test_borders_are_those_of_equal_parts(ladder, total):
  plan = _plan(ladder, total_steps=total)
  # int(ratio * total) in the authors' code.
  ends = [int(part / 4 * total) for part in range(5)]
  assert _values(plan, 'first_step') == ends[:-1]
  found = [stages.index_at(plan, step) for step in range(min(total, 1000))]
  expected = np.repeat(range(4), np.diff(ends))
  assert found == expected[: len(found)].tolist()
  assert stages.index_at(plan, total - 1) == 3


@pytest.mark.parametrize('ladder', stages.LADDERS)
def test_one_stage_has_the_last_values(ladder):
  for resolution in (300, 8):  # also below the least size
    (stage,) = _plan(ladder, count=1, resolution=resolution, mixup=0.2)
    assert stage == stages.Stage(0, resolution, 10.0, 0.2, 0.0, 0.3)


def test_without_randaugment():
  assert _values(_plan(magnitude=None), 'magnitude') == [None] * 4


def test_a_line_for_people():
  plan = _plan(magnitude=15, mixup=0.2, cutmix=0.2)
  assert stages.describe(plan, 1) == (
    'stage 2 of 4: 214 pixels, RandAugment 8.33, mixup 0.067, cutmix 0.067, '
    'dropout 0.3'
  )
  plain = [dataclasses.replace(plan[0], magnitude=None)]
  assert stages.describe(plain, 0) == (
    'stage 1 of 1: 171 pixels, mixup 0, cutmix 0, dropout 0.3'
  )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'ladder': 'papr'}, "stages.ladder 'papr': .* paper"),
    ({'count': 0}, r'stages.count=0 must be in 1\.\.1000'),
    ({'count': 5, 'total_steps': 4}, r'stages.count=5 must be in 1\.\.4'),
    ({'resolution': 100}, r'min_resolution=128 must be in 0\.\.100'),
    ({'magnitude': 3.0}, r'min_magnitude=5.0 must be in 0\.\.3.0'),
    ({'ladder': 'paper', 'dropout': 0.0}, r'min_dropout=0.1 .* 0\.\.0.0'),
  ],
)
def test_bad_values_name_their_key(arguments, message):
  with pytest.raises(UserError, match=message) as error:
    _plan(**arguments)
  assert '\n' not in str(error.value)
