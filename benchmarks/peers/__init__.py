"""The other implementations, behind one interface.

Each peer is a module of this package, with

    FORMATS: suffixes of the files that `write` knows.
    model_name(network, variant): what `create_model` is to be called with.
    write(network, seed, path): fills the peer's model by its own names with
      `seeded` arrays, and saves it in the peer's own way.
    outputs(network, path, images) -> (logits [n, classes], endpoints): the peer
      reads the file, and computes on our normalised images [n, h, w, 3].
      Endpoints have our names: `stem`, `block_0` ... (over the whole network),
      `head`, [n, h, w, c], and `pooled_features` [n, c].

timm has `gradients(network, path, images, labels)` too. None of them imports
effnet_jax: they are given and give numpy arrays and files.
"""

import importlib
from types import ModuleType

_B0_TO_B8 = tuple(f'b{i}' for i in range(9))
_TIMM = (
  *((name, f'efficientnet_{name}') for name in (*_B0_TO_B8, 'l2')),
  *((f'lite{i}', f'efficientnet_lite{i}') for i in range(5)),
  *((f'edgetpu_{size}', f'efficientnet_e{size}') for size in 'sml'),
  *(
    (f'condconv_{name}', f'efficientnet_cc_{name}')
    for name in ('b0_4e', 'b0_8e', 'b1_8e')
  ),
  *((f'v2_{size}', f'efficientnetv2_{size}') for size in ('s', 'm', 'l', 'xl')),
)

# Every network of a peer that we have: (our variant, the peer's name).
NETWORKS = {
  'timm': (
    *((variant, f'tf_{network}') for variant, network in _TIMM),
    *((f'v2_b{i}', f'tf_efficientnetv2_b{i}') for i in range(4)),
    ('l2_475', 'tf_efficientnet_l2'),  # the same network, for other images
    *_TIMM,
  ),
  'torchvision': (
    *((name, f'efficientnet_{name}') for name in _B0_TO_B8[:8]),
    *((f'v2_{size}', f'efficientnet_v2_{size}') for size in 'sml'),
  ),
  'keras': (
    *((f'b{i}', f'EfficientNetB{i}') for i in range(8)),
    *((f'v2_b{i}', f'EfficientNetV2B{i}') for i in range(4)),
    *((f'v2_{size}', f'EfficientNetV2{size.upper()}') for size in 'sml'),
  ),
  'lukemelas': tuple(
    (name, f'efficientnet-{name}') for name in (*_B0_TO_B8, 'l2')
  ),
}


def get(peer: str) -> ModuleType:
  """Imports a peer, and with it its framework."""
  return importlib.import_module(f'{__name__}.{peer}_peer')
