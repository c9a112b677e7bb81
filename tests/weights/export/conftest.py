"""Small networks that hold every operation, and what they should give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.models import efficientnet, spec
from effnet_jax.models.normalize import normalize

# Fused with and without expansion, residual and not, gated and not, strides 1
# and 2, kernels of 3 and 5, two and three experts.
_STAGES = """
r2_k3_s1_e1_o8_fused
r2_k3_s2_e4_o8_fused_i16
r2_k5_s2_e2_o16_se
r2_k3_s1_e1_o16_cc3
r1_k5_s2_e2_o24_se_cc2
"""


def _draw_variables(model):
  """Random throughout, of a size that keeps the signal in bounds."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    name = path[-1].key
    if name in ('scale', 'var'):
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    if name in ('bias', 'mean'):
      return (rng.normal(size=leaf.shape) / 4).astype(np.float32)
    kernel = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[-4:-1]))
    return kernel.astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, efficientnet.shapes(model))


class Sample:
  """A network, its variables, and what `model.apply` gives."""

  def __init__(self, **fields):
    self.spec = spec.ModelSpec(
      'sample',
      spec.parse_stages(_STAGES),
      **{
        'stem_filters': 8,
        'head_filters': 32,
        'num_classes': 5,
        'resolution': 22,
        **fields,
      },
    )
    self.model = efficientnet.build(self.spec)
    self.variables = _draw_variables(self.model)
    self._apply = jax.jit(
      lambda variables, images: self.model.apply(variables, images)[0],
      compiler_options={'xla_backend_optimization_level': 0},
    )

  def pixels(self, count, seed=0):
    side = self.spec.resolution
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)

  def images(self, count, seed=0):
    return np.asarray(
      normalize(jnp.asarray(self.pixels(count, seed)), self.spec)
    )

  def logits(self, images):
    """`model.apply`: the layers of Flax, batch norm and all."""
    return np.asarray(self._apply(self.variables, images))


def relative_difference(found, wanted):
  assert np.shape(found) == np.shape(wanted)
  assert wanted.std() > 0.01
  return np.abs(found - wanted).max() / np.abs(wanted).max()


@pytest.fixture(scope='session')
def sample():
  return Sample()


@pytest.fixture(scope='session')
def difference():
  return relative_difference


@pytest.fixture(scope='session')
def make_sample():
  return Sample
