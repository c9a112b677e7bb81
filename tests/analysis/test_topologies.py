"""Pods that are not there, described by a libtpu or by none."""

import types

import pytest
from jax.experimental import topologies as described

from effnet_jax.analysis import topologies
from effnet_jax.errors import UserError


@pytest.mark.parametrize(
  'found', [None, types.SimpleNamespace(origin=None)], ids=['none', 'directory']
)
def test_without_libtpu(monkeypatch, found):
  monkeypatch.setattr(
    topologies.importlib.util, 'find_spec', lambda name: found
  )
  with pytest.raises(
    UserError, match=r"pip install --upgrade 'effnet_jax\[tpu-compile\]"
  ):
    topologies.check('v5e:2x2')


@pytest.mark.parametrize(
  ('known', 'name', 'error', 'text'),
  [
    (
      ['v5e:2x2'],
      'v5e:3x5',
      RuntimeError('no such thing\nat 0xdeadbeef'),
      "libtpu has no topology 'v5e:3x5' (no such thing): write it like v4:2x2",
    ),
    # A libtpu that knows nothing is at fault itself, whatever it says.
    (
      [],
      'v6e:2x2',
      OSError('invalid ELF header'),
      'libtpu does not work with this JAX (invalid ELF header): install the '
      f'one that fits, {topologies.INSTALL}',
    ),
    (
      [],
      'v5e:2x2',
      AssertionError(),
      'libtpu does not work with this JAX (AssertionError): ',
    ),
  ],
)
def test_a_libtpu_that_refuses(monkeypatch, known, name, error, text):
  def describe(topology_name, **options):
    if topology_name not in known:
      raise error
    return types.SimpleNamespace(devices=[topology_name])

  library = types.SimpleNamespace(origin='libtpu/__init__.py')
  monkeypatch.setattr(topologies.importlib.util, 'find_spec', lambda _: library)
  monkeypatch.setattr(described, 'get_topology_desc', describe)
  with pytest.raises(UserError) as found:
    topologies.devices(name)
  assert str(found.value).startswith(text) and '\n' not in str(found.value)
  if known:
    assert topologies.devices(*known) == known
