"""This project's own layout: the paths of the variables."""

from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights.layouts.layout import LEAVES, SAME, Layout, modules


def _names(spec: ModelSpec) -> dict[str, str]:
  return {module: module for module, _ in modules(spec)}


NATIVE = Layout(
  'effnet_jax',
  lambda keys: 'head_conv/kernel' in keys,
  _names,
  {
    kind: {leaf: (f'/{leaf}', SAME) for leaf in leaves}
    for kind, leaves in LEAVES.items()
  },
)
