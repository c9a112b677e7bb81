"""Durations, the published learning rate, the moving average's decay."""

import math

import jax
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import schedules

# B0's published training: 1,281,167 images, batch 4096, hence 312.785 steps an
# epoch; .016 for 256 images.
IMAGES, BATCH = 1_281_167, 4096
PEAK = 0.256


@pytest.mark.parametrize(
  ('duration', 'steps'),
  [
    ('1000 steps', 1000),
    ('1 step', 1),
    ('2 epochs', 20),
    ('1 epoch', 10),
    ('2.4 epochs', 24),
    ('0.5 epochs', 5),
    ('640 examples', 6.4),
    ('5e6 examples', 50_000),
    ('1.5e2 steps', 150),
    ('3epochs', 30),
    ('  3 Epochs ', 30),
    ('0 epochs', 0),
  ],
)
def test_durations(duration, steps):
  assert schedules.to_steps(duration, 1000, 100) == pytest.approx(steps)


def test_durations_are_not_rounded():
  # 2.4 * 1281167 / 4096; the staircase falls at its multiples.
  steps = schedules.to_steps('2.4 epochs', IMAGES, BATCH)
  assert steps == pytest.approx(750.68378906, abs=1e-8)


@pytest.mark.parametrize(
  'duration',
  ['', '350', 'epochs', '-1 epochs', '1/2 epochs', '1.2.3 steps', '3 days',
   '1e-3 epochs', '2 epochs 3 steps', 'all epochs', '.5 epochs'],
)  # fmt: skip
def test_malformed_durations_name_their_key(duration):
  with pytest.raises(UserError) as caught:
    schedules.to_steps(duration, 1000, 100, 'log.every')
  assert f'config.log.every={duration!r}' in str(caught.value)
  assert '350 epochs' in str(caught.value)
  assert '\n' not in str(caught.value)


def _published(**changes):
  return schedules.learning_rate(
    'exponential',
    PEAK,
    warmup_steps=int(schedules.to_steps('5 epochs', IMAGES, BATCH)),
    total_steps=round(schedules.to_steps('350 epochs', IMAGES, BATCH)),
    decay_factor=0.97,
    decay_steps=schedules.to_steps('2.4 epochs', IMAGES, BATCH),
    **changes,
  )


@pytest.mark.parametrize(
  ('step', 'rate'),
  [
    (0, 0.0),
    (1, PEAK / 1563),
    (751, PEAK * 751 / 1563),  # 2.4 epochs: warm-up is not decayed
    (1562, PEAK * 1562 / 1563),  # the last step of warm-up, 5 epochs
    (1563, PEAK * 0.97**2),  # then as if the decay had run from step 0
    (2252, PEAK * 0.97**2),  # 7.2 epochs are 2252.05 steps
    (2253, PEAK * 0.97**3),
    (109_474, PEAK * 0.97**145),  # 350 epochs; 145.83 times 2.4
  ],
)
def test_the_published_learning_rate(step, rate):
  # Fact 7: .256 falls to .2409 at the end of warm-up.
  np.testing.assert_allclose(_published()(step), rate, rtol=1e-5)


def test_the_published_staircase_falls_at_its_steps_in_float32():
  steps = np.arange(1563, 109_475)
  rates = np.asarray(_published()(steps), np.float64)
  exponents = steps // (2.4 * IMAGES / BATCH)  # float64
  falls = lambda values: steps[1:][np.diff(values) != 0]
  ours = falls(rates)
  assert len(ours) == 145 - 2
  # Step 87,830 is 116.9999956 times 2.4 epochs, which float32 rounds to 117.
  assert set(ours) ^ set(falls(exponents)) == {87_830, 87_831}
  same = steps != 87_830
  np.testing.assert_allclose(
    rates[same], PEAK * 0.97 ** exponents[same], rtol=1e-5
  )


def test_cosine_ends_at_its_final_fraction():
  rate = schedules.learning_rate(
    'cosine', 2.0, warmup_steps=10, total_steps=100, final_fraction=0.1
  )
  assert float(rate(5)) == pytest.approx(1.0)
  at = lambda progress: (
    2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
  )
  for step in (10, 25, 50, 75):
    assert float(rate(step)) == pytest.approx(at(step / 100), rel=1e-6)
  assert float(rate(50)) == pytest.approx(2 * 0.55)
  assert float(rate(100)) == pytest.approx(0.2)
  assert float(rate(1000)) == pytest.approx(0.2)  # no second wave


# The large batch of arXiv 2011.00071: LARS at .081 for 256 of 65,536 images.
def _polynomial(**changes):
  options = {'warmup_steps': 840, 'total_steps': 6840, 'end_rate': 0.1}
  return schedules.learning_rate('polynomial', 20.736, **options | changes)


@pytest.mark.parametrize(
  ('step', 'rate'),
  [
    (420, 10.368),  # half of the warm-up
    # tf.train.polynomial_decay of max(1, step - 840) over 6001 steps.
    (840, 0.1 + 20.636 * (6000 / 6001) ** 2),
    (841, 0.1 + 20.636 * (6000 / 6001) ** 2),
    (842, 0.1 + 20.636 * (5999 / 6001) ** 2),
    (3840, 0.1 + 20.636 * (3001 / 6001) ** 2),
    (6839, 0.1 + 20.636 * (2 / 6001) ** 2),
    (6841, 0.1),
    (9000, 0.1),
  ],
)
def test_polynomial_counts_from_the_end_of_warmup(step, rate):
  np.testing.assert_allclose(_polynomial()(step), rate, rtol=1e-5)


def test_power_of_the_polynomial():
  rate = _polynomial(power=1.0, end_rate=0.0)(840 + 1500)
  np.testing.assert_allclose(rate, 20.736 * 4501 / 6001, rtol=1e-5)


def test_a_polynomial_must_fall():
  with pytest.raises(UserError, match=r'end_rate=30 must be in 0\.\.20\.736'):
    _polynomial(end_rate=30.0)


def test_constant():
  rate = schedules.learning_rate(
    'constant', 0.3, warmup_steps=3, total_steps=100
  )
  rates = [float(rate(step)) for step in (0, 1, 2, 3, 99, 10_000)]
  np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.3, 0.3], rtol=1e-6)


@pytest.mark.parametrize('decay', ['exponential', 'cosine', 'constant'])
def test_without_warmup_the_first_step_has_the_peak(decay):
  rate = schedules.learning_rate(decay, 0.5, warmup_steps=0, total_steps=10)
  assert float(rate(0)) == 0.5


@pytest.mark.parametrize('decay', schedules.DECAYS)
def test_rates_are_float32_under_jit(decay):
  rate = schedules.learning_rate(decay, 0.5, warmup_steps=2, total_steps=10)
  traced = jax.jit(rate)(np.int32(7))
  assert traced.dtype == np.float32
  assert traced == rate(7)


def test_an_unknown_decay_names_the_near_ones():
  with pytest.raises(UserError, match=r"schedule.decay 'cosin': .* cosine"):
    schedules.learning_rate('cosin', 1.0, warmup_steps=0, total_steps=1)


@pytest.mark.parametrize(
  ('step', 'decay'),
  [
    (0, 0.1),
    (10, 0.55),
    (90, 0.91),
    (980, 981 / 990),
    (89_989, 0.9999),  # 89990 / 89999, 1e-9 below the limit
    (89_990, 0.9999),
    (5_000_000, 0.9999),
  ],
)
def test_decay_of_the_moving_average(step, decay):
  value = schedules.ema_decay(np.int32(step), 0.9999)
  assert value.dtype == np.float32
  assert float(value) == pytest.approx(decay, rel=1e-7)


def test_float32_holds_the_share_of_the_new():
  # What enters the average is 1 - .9999, of which float32 keeps three digits.
  share = 1 - schedules.ema_decay(10**6, 0.9999)
  assert float(share) == pytest.approx(1e-4, rel=5e-4)
  # A smaller limit is reached sooner: (1 + 8) / (10 + 8) = .5.
  limited = [float(schedules.ema_decay(n, 0.5)) for n in (7, 8, 9)]
  np.testing.assert_allclose(limited, [8 / 17, 0.5, 0.5], rtol=1e-6)
