"""Folders of images: PATH/SPLIT/CLASS/IMAGE, or PATH/CLASS/IMAGE.

Where a folder holds classes and no splits, they are made: of each class the
first images, by a hash of their paths, are for the test, the next for
validation, the others for training. The same folder gives the same splits
anywhere.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effnet_jax.data.preprocess import DecodeError
from effnet_jax.data.splits import parse_split, resolve_split
from effnet_jax.errors import UserError

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.webp')
HELD_OUT = 15  # per cent of each class, for validation and for test each
VALIDATION_NAMES = ('validation', 'val', 'valid', 'dev', 'eval')

_LAYOUT = (
  'expected PATH/SPLIT/CLASS/IMAGE, e.g. train/cat/1.jpg, or PATH/CLASS/IMAGE'
)
_Labelled = list[tuple[str, int]]  # path below the root, class


class FolderSource:
  """Image files on disk, read when asked for.

  Args:
    root: the folder that `files` are relative to.
    files: image paths.
    labels: class index of each file.
    class_names: one a class.
    split: the split's name, for `repr`.
  """

  def __init__(
    self,
    root: str,
    files: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    split: str,
  ):
    self._root, self._split = root, split
    self._files, self._labels = list(files), np.asarray(labels, np.int32)
    self.class_names = tuple(class_names)

  def __len__(self) -> int:
    return len(self._files)

  @property
  def file_names(self) -> list[str]:
    """The files in order, within the folder."""
    return self._files

  def __getitem__(self, index: int) -> dict[str, Any]:
    path = os.path.join(self._root, self._files[index])
    try:
      image = Path(path).read_bytes()
    except OSError as error:
      raise DecodeError(path, f'cannot be read: {error.strerror}') from error
    return {'image': image, 'label': int(self._labels[index]), 'name': path}

  def __repr__(self) -> str:
    return f'folder({self._split}, {len(self)} examples)'


@dataclasses.dataclass(frozen=True)
class Splits:
  """What a folder is trained, watched and tested on.

  Attributes:
    train, evaluation, test: as `open_folder` takes them.
    said: one line for people.
    made: whether the folder has none, and they divide its classes.
  """

  train: str
  evaluation: str
  test: str
  said: str
  made: bool = False


def choose_splits(path: str) -> Splits:
  """Returns the splits that a folder has, or that can be made of it.

  Those that are missing are held out of `train`; so no image is in two.

  Raises:
    UserError: nothing there, or neither splits nor classes.
  """
  root = _root(path)
  names = _folders(root)
  if not _has_splits(root, names):
    sizes = {
      name: len(labelled) for name, labelled in _made(root, names, path).items()
    }
    said = ', '.join(f'{count} for {name}' for name, count in sizes.items())
    return Splits(
      'train',
      'validation',
      'test',
      f'{path} holds classes and no splits; of {sum(sizes.values())} images, '
      f'held out class by class: {said}',
      made=True,
    )
  validation = next((n for n in VALIDATION_NAMES if n in names), None)
  test = 'test' if 'test' in names else None
  if validation and test:
    said = f'{path}: train, {validation} to choose the checkpoint, test'
    return Splits('train', validation, test, said)
  part = f'{HELD_OUT}%'
  held_out = f'{part} of train are held out to choose the checkpoint'
  if validation or test:
    reported = test or validation
    assert reported is not None
    said = f'{path}: {held_out}; {reported} is reported at the end'
    return Splits(f'train[{part}:]', f'train[:{part}]', reported, said)
  rest = f'{2 * HELD_OUT}%'
  return Splits(
    f'train[{rest}:]',
    f'train[{part}:{rest}]',
    f'train[:{part}]',
    f'{path} has no split but train: {held_out}, other {part} are the test',
  )


def open_folder(split: str, path: str) -> FolderSource:
  """Opens one split of a folder; see `sources.open_source`.

  Raises:
    UserError: a layout, split or class that is not there.
  """
  root = _root(path)
  names = _folders(root)
  name = parse_split(split)[0]
  if names and not _has_splits(root, names):
    made = _made(root, names, path)
    if name not in made:
      raise UserError(
        f'no split {name!r} in {path}: its classes are divided into '
        f'{", ".join(made)}'
      )
    class_names, found = names, made[name]
  else:
    class_names, found = _of_split(root, name, names, path)
  found.sort(key=lambda item: (_digest(item[0]), item[0]))
  _, kept = resolve_split(split, {name: len(found)})
  files, labels = zip(*found[kept.start : kept.stop], strict=True)
  return FolderSource(root, files, labels, class_names, split)


def _root(path):
  if not path:
    raise UserError(f'a folder source needs config.data.path; {_LAYOUT}')
  root = os.path.expanduser(path)
  if not os.path.isdir(root):
    raise UserError(f'no folder {path}: {_LAYOUT}')
  return root


def _has_splits(root: str, names: Sequence[str]) -> bool:
  # A class may be called train: then images lie in it, not folders.
  return 'train' in names and not _images(root, 'train')


def _made(
  root: str, class_names: Sequence[str], path: str
) -> dict[str, _Labelled]:
  """Returns the splits of a folder of classes, in `Splits`' order."""
  if not class_names:
    raise UserError(f'no folder in {path}: {_LAYOUT}')
  made: dict[str, _Labelled] = {'train': [], 'validation': [], 'test': []}
  for label, name in enumerate(class_names):
    files = sorted(_images(root, name), key=lambda f: (_digest(f), f))
    if len(files) < len(made):
      splits = {'val', 'test', *VALIDATION_NAMES} & set(class_names)
      raise UserError(
        f"no split 'train' in {path}: {_LAYOUT}"
        if splits
        else f'{len(files)} images in {path}/{name}, {len(made)} are needed, '
        f'one a split: {_LAYOUT}; files read: {" ".join(IMAGE_SUFFIXES)}'
      )
    count = max(1, round(len(files) * HELD_OUT / 100))
    for split, part in (
      ('test', files[:count]),
      ('validation', files[count : 2 * count]),
      ('train', files[2 * count :]),
    ):
      made[split].extend((file, label) for file in part)
  return made


def _of_split(
  root: str, name: str, splits: Sequence[str], path: str
) -> tuple[list[str], _Labelled]:
  """Returns the classes, and the images of the split, by class."""
  # The train split numbers the classes, whichever split is read.
  for needed in ('train', name):
    if needed not in splits:
      raise UserError(f'no split {needed!r} in {path}: {_LAYOUT}')
  class_names = _folders(os.path.join(root, 'train'))
  if not class_names:
    raise UserError(f'no class folder in {path}/train: {_LAYOUT}')
  unknown = set(_folders(os.path.join(root, name))) - set(class_names)
  if unknown:
    raise UserError(
      f'{path}/{name} has classes that train lacks: '
      f'{", ".join(sorted(unknown)[:5])}; add them to train, or move them away'
    )
  found = []
  for label, class_name in enumerate(class_names):
    files = _images(root, os.path.join(name, class_name))
    if not files and name == 'train':
      raise UserError(
        f'no image in {path}/train/{class_name}: {_LAYOUT}; '
        f'files read: {" ".join(IMAGE_SUFFIXES)}'
      )
    found.extend((file, label) for file in files)
  if not found:
    raise UserError(f'no image in {path}/{name}: {_LAYOUT}')
  return class_names, found


def _folders(path: str) -> list[str]:
  with os.scandir(path) as entries:
    return sorted(
      e.name for e in entries if e.is_dir() and not e.name.startswith('.')
    )


def _images(root: str, folder: str) -> list[str]:
  """Returns the images in a folder, relative to the root, sorted."""
  path = os.path.join(root, folder)
  if not os.path.isdir(path):
    return []
  return [
    os.path.join(folder, name)
    for name in sorted(os.listdir(path))
    if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')
  ]


def _digest(path: str) -> bytes:
  # Sorted by class, train[:10%] would hold the first classes alone. A hash of
  # the path mixes them once and for all, as TFDS does when it prepares a set.
  text = path.replace(os.sep, '/')
  return hashlib.blake2b(os.fsencode(text), digest_size=8).digest()
