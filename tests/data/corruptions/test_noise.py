"""Noise against the distributions that it is drawn from."""

import math

import numpy as np
import pytest

from effnet_jax.data.corruptions.corruption import SEVERITIES, corrupt


def _rng(seed=0):
  return np.random.default_rng(seed)


def _flat(level, side=200):
  return np.full((side, side, 3), level, np.uint8)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_gaussian_noise_has_the_published_deviation(severity):
  sigma = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
  values = corrupt(_rng(), _flat(128), 'gaussian_noise', severity) / 255
  # Black is the normal's tail below 1, which is truncated to 0.
  black = 0.5 * math.erfc((128 - 1) / 255 / sigma / math.sqrt(2))
  assert np.mean(values == 0) == pytest.approx(black, abs=3e-3)
  inside = np.abs(values - 0.5) < sigma  # a share that clipping leaves alone
  assert inside.mean() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.015)
  if severity == 1:
    assert values.std() == pytest.approx(sigma, rel=0.01)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_shot_noise_is_poisson(severity):
  photons = (60, 25, 12, 5, 3)[severity - 1]
  values = corrupt(_rng(), _flat(51), 'shot_noise', severity) / 255
  # Of a fifth of white: mean and variance of the count are photons / 5.
  expected = np.exp(-photons / 5)
  assert np.mean(values == 0) == pytest.approx(expected, abs=5e-3)
  if photons >= 12:  # clipping is rare
    assert values.var() == pytest.approx(0.2 / photons, rel=0.03)
  assert set(np.unique(values * 255)) <= {
    float(int(min(k / photons, 1) * 255)) for k in range(photons + 1)
  }
  assert not corrupt(_rng(), _flat(0), 'shot_noise', severity).any()


@pytest.mark.parametrize('severity', SEVERITIES)
def test_impulse_noise_hits_the_published_share(severity):
  share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
  values = corrupt(_rng(), _flat(77), 'impulse_noise', severity)
  assert set(np.unique(values)) == {0, 77, 255}
  assert np.mean(values == 0) == pytest.approx(share / 2, abs=2e-3)
  assert np.mean(values == 255) == pytest.approx(share / 2, abs=2e-3)
  # Channel by channel: all three are hit in share cubed of the pixels.
  together = np.mean((values != 77).all(-1))
  assert together == pytest.approx(share**3, abs=2e-3)
