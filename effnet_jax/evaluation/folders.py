"""Labelled images in folders: PATH/CLASS/IMAGE."""

import os
from collections.abc import Callable, Sequence

from effnet_jax.data import class_names, image_files
from effnet_jax.data.folder_source import FolderSource
from effnet_jax.errors import UserError, near_names

_LAYOUT = 'expected PATH/CLASS/IMAGE, e.g. val/n01440764/1.JPEG'
_SPLITS = {
  *('train', 'training', 'val', 'valid', 'validation'),
  *('test', 'testing', 'eval', 'evaluation'),
}
_Lookup = Callable[[str], int | None]


def open_folder(
  path: str, num_outputs: int, own_names: Sequence[str] | None
) -> tuple[FolderSource, set[int]]:
  """Opens a folder that has a folder of images for each class.

  Args:
    path: the folder.
    num_outputs: of the network.
    own_names: what its weights call them; None if they don't say.

  Returns:
    A source whose labels are outputs of the network, sorted by class; and the
    outputs that have images.

  Raises:
    UserError: no such layout, or a class that the network does not know.
  """
  found = {name: _images(path, name) for name in _folders(path)}
  if found and set(found) <= _SPLITS:
    raise UserError(
      f'{path} holds splits: name one of them, --split {next(iter(found))}'
    )
  if not any(found.values()):
    raise UserError(f'no image in {path}: {_LAYOUT}')
  outputs = _outputs(found, num_outputs, own_names)
  pairs = [
    (file, outputs[name]) for name, files in found.items() for file in files
  ]
  files, labels = zip(*pairs, strict=True)
  names = class_names.output_names(num_outputs, own_names)
  split = os.path.basename(os.path.normpath(path))
  return FolderSource(path, files, labels, names, split), set(labels)


def _outputs(
  found: dict[str, list[str]], num_outputs: int, own_names: Sequence[str] | None
) -> dict[str, int]:
  """Returns the output of the network that each folder's class has.

  All are named in one way, the first of these that fits: as the weights name
  their classes; for a classifier of ImageNet by WordNet id, by number (0 to
  999, as ImageNet-V2 comes), or by name; in any way, if there are as many
  folders as classes, in sorted order then.
  """
  folders = [name for name, files in found.items() if files]
  ways = _ways(num_outputs, own_names)
  for way in ways:
    outputs = {name: way(name) for name in folders}
    known = {name: i for name, i in outputs.items() if i is not None}
    if len(known) == len(folders):
      return known
  # Sorted, as a run that trained on folders has numbered them, empty ones too.
  offset = class_names.imagenet_offset(num_outputs, own_names) or 0
  if len(found) == num_outputs - offset:
    return {name: i + offset for i, name in enumerate(found)}
  what = f'{len(folders)} class folders, but {num_outputs - offset} classes'
  if not ways:
    raise UserError(
      f'{what}, which the weights do not name: make a folder for each, an '
      'empty one where there is no image'
    )
  # Of the way in which most of them are named.
  unknown = min(
    ([name for name in folders if way(name) is None] for way in ways), key=len
  )
  names = own_names or (
    *class_names.imagenet_wnids(),
    *class_names.imagenet_names(),
  )
  near = near_names(unknown[0], names)
  if near.startswith('known'):
    near = f'they are called {", ".join(names[:3])}, ...'
  raise UserError(f'{what}, and {unknown[0]!r} is none of them: {near}')


def _ways(num_outputs: int, own_names: Sequence[str] | None) -> list[_Lookup]:
  """Returns the ways to name a class, each from a folder to an output."""
  ways: list[_Lookup] = []
  if own_names:
    ways.append({name: i for i, name in enumerate(own_names)}.get)
  offset = class_names.imagenet_offset(num_outputs, own_names)
  if offset is not None:
    for names in (
      class_names.imagenet_wnids(),
      tuple(map(str, range(1000))),
      class_names.imagenet_names(),
    ):
      outputs = {_key(name): i + offset for i, name in enumerate(names)}
      ways.append(lambda name, outputs=outputs: outputs.get(_key(name)))
  return ways


def _key(name: str) -> str:
  """Folders are often called after the class but for case and spaces."""
  name = name.casefold().replace('_', ' ')
  return str(int(name)) if name.isdecimal() else name


def _folders(path: str) -> list[str]:
  try:
    with os.scandir(path) as entries:
      return sorted(
        e.name for e in entries if e.is_dir() and not e.name.startswith('.')
      )
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from None


def _images(path: str, name: str) -> list[str]:
  """Returns the images of a class, relative to `path`."""
  images, _ = image_files.below(os.path.join(path, name))
  return [os.path.relpath(image, path) for image in images]
