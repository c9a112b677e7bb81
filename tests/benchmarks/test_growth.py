"""How time grows: the sizes, and the slopes."""

import pytest

from effnet_jax.models import variants


@pytest.fixture
def growth(script):
  return script('growth')


def test_every_size_is_another_network(growth):
  for axis, sizes in growth.AXES.items():
    specs = {
      variants.get_spec('b0', **growth.overrides(axis, size, 224))
      for size in sizes
    }
    assert len(specs) == (1 if axis == 'batch' else len(sizes))


def test_compound_scaling_is_the_papers(growth):
  assert growth.overrides('phi', 2, 224) == {
    'depth': pytest.approx(1.44),
    'width': pytest.approx(1.21),
    'resolution': 296,
  }


def test_slopes_are_exponents(growth):
  rows = [
    {'work': 'inference', 'axis': axis, 'size': n, 'batch': 2**n}
    | {'macs': 3 * 2**n, 'milliseconds': 5 * 2 ** (n * power)}
    for axis, power in (('batch', -0.5), ('width', 0.8), ('phi', 1.25))
    for n in range(4)
  ]
  batch, width, phi = growth.slopes(rows)
  assert (batch['on'], batch['slope'], batch['r2']) == ('batch', -0.5, 1)
  assert (width['on'], width['slope'], width['r2']) == ('macs', 0.8, 1)
  assert phi['time_a_phi'] == pytest.approx(2**1.25, abs=1e-3)
  assert phi['macs_a_phi'] == 2
  noisy = [{**row, 'milliseconds': 1 + row['size'] % 2} for row in rows[4:8]]
  assert growth.slopes(noisy)[0]['r2'] == pytest.approx(0.2, abs=1e-3)
