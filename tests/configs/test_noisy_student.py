"""The students' configs against the authors' script and against each other."""

import importlib
from pathlib import Path

import jax
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import program


@pytest.fixture(scope='module')
def module():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2]))
    yield importlib.import_module('configs.noisy_student')


def _built(config):
  return program.build(config, jax.devices()[:1])


def test_lengths_and_ratios(module):
  students = module.STUDENTS
  assert [s.magnitude for s in students.values()] == [
    *(None, None, 6, 12, 15, 18, 24, 27, 27),
  ]
  b0, b4, b5 = (module.get_config(name) for name in ('b0', 'b4', 'b5'))
  ratios = [c.data.unlabelled_ratio for c in (b0, b4, b5)]
  assert ratios == [1, 3, 3]
  # 350 and 700 epochs of 1,256,145 images, 4,096 a step.
  assert [_built(c).total_steps for c in (b0, b4, b5)] == [
    *(214_673, 214_673, 107_337),
  ]
  assert (b0.schedule.decay_every, b5.schedule.decay_every) == (
    *('4.8 epochs', '2.4 epochs'),
  )


@pytest.mark.parametrize('variant', ['b0', 'b7', 'l2_475'])
def test_the_last_epochs_go_on_at_the_rate_where_training_ends(module, variant):
  whole = _built(module.get_config(variant))
  last = module.get_config(f'{variant},fixres')
  short = _built(last)
  assert short.total_steps == 460  # 1.5 * 306.676
  end = whole.total_steps - 460
  for step in (0, 230, 459):
    assert float(short.schedule(step)) == pytest.approx(
      float(whole.schedule(end + step)), rel=1e-4
    )
  assert last.objective.name == 'supervised'
  assert (last.data.crop_area, last.data.flip) == ((), False)
  side = {'b0': 224, 'b7': 600, 'l2_475': 800}[variant]
  assert short.model.spec.resolution == side


@pytest.mark.parametrize(
  ('argument', 'text'),
  [('b8', 'no published student'), ('b0,fixed', 'write b0, or b0,fixres')],
)
def test_what_was_not_published_is_refused(module, argument, text):
  with pytest.raises(UserError, match=text):
    module.get_config(argument)
