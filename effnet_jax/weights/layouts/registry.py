"""All layouts, and which of them a file has."""

from collections.abc import Set

from effnet_jax.errors import UserError
from effnet_jax.weights import raw
from effnet_jax.weights.layouts import keras, native, pytorch, tensorflow
from effnet_jax.weights.layouts.layout import Layout

LAYOUTS = (
  native.NATIVE,
  pytorch.TIMM,
  pytorch.TORCHVISION,
  pytorch.LUKEMELAS,
  keras.NAMED,
  keras.NUMBERED,
  tensorflow.TENSORFLOW,
)


def recognise(keys: Set[str], source: str) -> Layout:
  """Returns the layout that these keys are of.

  Raises:
    UserError: none that is known.
  """
  for layout in LAYOUTS:
    if layout.recognises(keys):
      return layout
  known = ', '.join(dict.fromkeys(layout.name for layout in LAYOUTS))
  first = ', '.join(map(raw.shown, sorted(keys)[:4])) or 'nothing'
  raise UserError(
    f'{source} holds no EfficientNet in a layout known here ({known}): its '
    f'first names are {first}'
  )
