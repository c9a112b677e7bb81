"""The network: stem, blocks, head, built from a `ModelSpec`."""

import contextlib
import functools
import itertools
import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from effnet_jax import errors
from effnet_jax.models import blocks
from effnet_jax.models.depthwise import FORMULATIONS
from effnet_jax.models.norm import BatchNorm
from effnet_jax.models.remat import rematerialized
from effnet_jax.models.spec import BlockSpec, ModelSpec

ACTIVATIONS = {'silu': nn.silu, 'relu': nn.relu, 'relu6': nn.relu6}
DTYPES = ('float32', 'bfloat16')
REMAT = ('none', 'block', 'stage')


class EfficientNet(nn.Module):
  """Every member of the family.

  Attributes:
    spec: the network as data.
    dtype: of convolutions and activations, `float32` or `bfloat16`. Parameters,
      batch norm statistics, global pooling and logits are float32 either way.
    depthwise: formulation of the depthwise convolution, see `depthwise`.
    bn_axis_name: mapped axis over which training statistics are averaged; None
      keeps them local.
    bn_groups: groups of indices on that axis which average among themselves.
    remat: what the backward pass computes again instead of keeping it from the
      forward pass: `none`, every `block`, or every `stage` whole.
    frozen_bn: every batch norm of the network uses its moving statistics in
      training too, and leaves them as they are; scale and bias still learn.
  """

  spec: ModelSpec
  dtype: str = 'float32'
  depthwise: str = 'auto'
  bn_axis_name: str | None = None
  bn_groups: tuple[tuple[int, ...], ...] | None = None
  remat: str = 'none'
  frozen_bn: bool = False

  @nn.compact
  def __call__(
    self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes logits and everything on the way.

    Args:
      images: [n, h, w, 3], normalised by the variant's mean and std.
      train: uses the batch's own statistics (and updates the moving ones, in
        the mutable collection `batch_stats`), dropout and stochastic depth
        (which take the `dropout` random stream).

    Returns:
      logits: [n, num_classes], float32.
      endpoints: `stem`; `block_0`, ... (each block's output); `reduction_1` to
        `reduction_5` (the last map before each next stride of 2, and the last
        of all); `head`; `pooled_features` [n, head width], float32.

    Raises:
      UserError: images of another shape.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
      raise errors.UserError(
        f'images must be [n, height, width, 3], not {list(images.shape)}'
      )
    spec, dtype = self.spec, jnp.dtype(self.dtype)
    activation = ACTIVATIONS[spec.activation]
    norm = functools.partial(
      BatchNorm,
      use_running_average=not train or self.frozen_bn,
      momentum=spec.bn_momentum,
      epsilon=spec.bn_epsilon,
      dtype=dtype,
      axis_name=self.bn_axis_name,
      axis_index_groups=self.bn_groups,
    )

    endpoints = {}
    x = blocks.Conv(
      spec.stem_width,
      3,
      spec.stem_stride,
      spec.padding,
      dtype=dtype,
      name='stem_conv',
    )(images)
    x = endpoints['stem'] = norm(name='stem_bn')(x, activation)

    def run(_, x, together):
      outputs = []
      for block in together:
        x = blocks.Block(
          block,
          norm,
          activation,
          spec.padding,
          self.depthwise,
          dtype,
          name=f'blocks_{block.index}',
        )(x, train)
        outputs.append(x)
      return outputs

    if self.remat != 'none':
      run = rematerialized(run)
    for together in _groups(spec.blocks(), self.remat):
      outputs = run(self, x, together)
      for block, x in zip(together, outputs, strict=True):
        endpoints[f'block_{block.index}'] = x
        if block.reduction:
          endpoints[f'reduction_{block.reduction}'] = x
    head = blocks.Conv(spec.head_width, dtype=dtype, name='head_conv')
    x = head(x, norm=norm(name='head_bn'), activation=activation)
    endpoints['head'] = x
    x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    endpoints['pooled_features'] = x
    x = nn.Dropout(spec.dropout_rate, deterministic=not train)(x)
    logits = nn.Dense(
      spec.num_classes,
      kernel_init=blocks.classifier_init,
      name='classifier',
    )(x)
    return logits, endpoints


def _groups(
  layers: tuple[BlockSpec, ...], remat: str
) -> list[tuple[BlockSpec, ...]]:
  """Splits the blocks into those that are computed again together."""
  key = (lambda b: b.stage) if remat == 'stage' else (lambda b: b.index)
  return [tuple(group) for _, group in itertools.groupby(layers, key)]


def build(
  spec: ModelSpec,
  dtype: str = 'float32',
  depthwise: str = 'auto',
  **attributes: Any,
) -> EfficientNet:
  """Returns the network of a specification, its arguments checked."""
  with contextlib.suppress(TypeError):
    dtype = jnp.dtype(dtype).name  # jnp.bfloat16 too
  for what, value, known in (
    ('dtype', str(dtype), DTYPES),
    ('depthwise formulation', depthwise, FORMULATIONS),
    ('activation', spec.activation, tuple(ACTIVATIONS)),
    ('remat', attributes.get('remat', 'none'), REMAT),
  ):
    if value not in known:
      near = errors.near_names(value, known)
      raise errors.UserError(f'unknown {what} {value!r}: {near}')
  return EfficientNet(spec, dtype, depthwise, **attributes)


def shapes(model: EfficientNet) -> dict[str, Any]:
  """Returns shapes and dtypes of the variables, computing none of them."""
  # No parameter depends on the size of the image.
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), images)


def init(model: EfficientNet, seed: int = 0) -> dict[str, Any]:
  """Returns fresh variables: `params` and `batch_stats`, all float32.

  The distributions are those of `model.init`, drawn by numpy: XLA takes 20
  seconds to compile B0's sixty random kernels. A leaf's values depend on the
  seed, its path and its shape only, so that two networks start alike wherever
  they are alike.
  """
  return on_device(
    jax.tree_util.tree_map_with_path(
      functools.partial(_draw, seed), shapes(model)
    )
  )


@jax.jit
def on_device(variables: dict[str, Any]) -> dict[str, Any]:
  """Returns variables in JAX's own memory, which no numpy array shares.

  Compiled as one: `jnp.array` compiles a function for every shape, and on CPU
  each keeps more than a MiB.
  """
  return jax.tree.map(jnp.copy, variables)


def init_classifier(model: EfficientNet, seed: int = 0) -> dict[str, Any]:
  """Returns a fresh classifier, the same that `init` gives: numpy arrays."""
  whole = shapes(model)
  part = {'params': {'classifier': whole['params']['classifier']}}
  drawn = jax.tree_util.tree_map_with_path(functools.partial(_draw, seed), part)
  return drawn['params']['classifier']


def _draw(seed, path, leaf):
  module, name = path[-2].key, path[-1].key
  if name in ('scale', 'var'):
    return np.ones(leaf.shape, np.float32)
  if name in ('bias', 'mean'):
    return np.zeros(leaf.shape, np.float32)
  path_hash = zlib.crc32(jax.tree_util.keystr(path).encode())
  rng = np.random.default_rng([seed, path_hash])
  if module in ('classifier', 'routing'):
    bound = {
      'classifier': blocks.classifier_bound,
      'routing': blocks.routing_bound,
    }[module](leaf.shape)
    return rng.uniform(-bound, bound, leaf.shape).astype(np.float32)
  std = (
    blocks.depthwise_std if module == 'depthwise_conv' else blocks.conv_std
  )(leaf.shape)
  return rng.standard_normal(leaf.shape, np.float32) * np.float32(std)
