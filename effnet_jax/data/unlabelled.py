"""Images whose labels are not known, or not to be looked at.

They are a folder tree, or a split of a data set that `sources` opens. What was
opened is described by a JSON object, its origin, from which it is opened again
when somebody trains on it.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnet_jax.data import image_files
from effnet_jax.data.folder_source import FolderSource
from effnet_jax.data.sources import (
  KINDS,
  Record,
  Source,
  open_source,
)
from effnet_jax.errors import UserError, near_names

Origin = dict[str, Any]

_FILES = 'files'
# The place is a path or a TFDS name, which may have a colon before its version.
_SPEC = re.compile(r'(?:(?P<place>.+):)?(?P<split>[\w-]+(?:\[[^\]]*\])?)')
_FORMS = (
  'a folder, fashion_mnist:SPLIT, digits:SPLIT, tfds:NAME:SPLIT or '
  'folder:PATH:SPLIT, e.g. fashion_mnist:train[2000:]'
)


def open_unlabelled(data: str, data_dir: str = '') -> tuple[Source, Origin]:
  """Opens images to be labelled by a teacher.

  Args:
    data: a folder, of which all images at any depth are taken; or KIND:SPLIT,
      KIND:NAME:SPLIT or KIND:PATH:SPLIT of a data set that `open_source` knows,
      whose labels are left alone.
    data_dir: of TFDS; '' for its own.

  Returns:
    The images, and what `reopen` takes.

  Raises:
    UserError: it cannot be read as either, or there is nothing.
  """
  folder = os.path.expanduser(data)
  if os.path.isdir(folder):
    source = _tree(os.path.abspath(folder))
    return source, {
      'kind': _FILES,
      'path': os.path.abspath(folder),
      'images': len(source),
      'digest': source.digest(),
    }
  kind, colon, rest = data.partition(':')
  if not colon or '/' in kind:
    raise UserError(f'no folder {data}: give {_FORMS}')
  if kind not in KINDS:
    raise UserError(f'no data source {kind!r}: {near_names(kind, KINDS)}')
  match = _SPEC.fullmatch(rest)
  if match is None:
    raise UserError(f'cannot read {data!r}: give {_FORMS}')
  place, split = match['place'] or '', match['split']
  # The others have a usual place.
  needs_place = kind in ('tfds', 'folder')
  if needs_place > bool(place) or (place and kind == 'digits'):
    raise UserError(f'cannot read {data!r}: give {_FORMS}')
  origin = {
    'kind': kind,
    'name': place if kind == 'tfds' else '',
    'path': data_dir if kind == 'tfds' else place,
    'split': split,
  }
  if origin['path']:
    origin['path'] = os.path.abspath(os.path.expanduser(origin['path']))
  source = _open(origin)
  return source, {**origin, 'images': len(source)}


def reopen(origin: Origin, where: str) -> Source:
  """Opens the same images again.

  Args:
    origin: what `open_unlabelled` gave.
    where: the file that it was read from, for errors.

  Raises:
    UserError: they are not there, or not the same any more.
  """
  if origin['kind'] != _FILES:
    source = _open(origin)
    same = len(source) == origin['images']
  else:
    if not os.path.isdir(origin['path']):
      raise UserError(
        f'the images of {where} are gone: no folder {origin["path"]}. Bring '
        'them back, or write their new place into `path` there'
      )
    source = _tree(origin['path'])
    same = source.digest() == origin['digest']
  if not same:
    raise UserError(
      f'{where} is of {origin["images"]} images, {source!r} has others now: '
      'label them anew, into another directory'
    )
  return source


class ImageTree(FolderSource):
  """All image files below a folder, in sorted order; their label is -1."""

  def __init__(self, root: str, files: Sequence[str]):
    super().__init__(root, files, [-1] * len(files), (), root)

  def digest(self) -> str:
    """Returns what changes when a file is added, removed or renamed."""
    names = '\0'.join(self._files).replace(os.sep, '/')
    return hashlib.blake2b(os.fsencode(names), digest_size=16).hexdigest()


class Subset:
  """Some examples of a source, in the order of `indices`."""

  def __init__(self, source: Source, indices: np.ndarray):
    self._source, self._indices = source, indices
    self.class_names = source.class_names

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> Record:
    return self._source[int(self._indices[index])]

  def __repr__(self) -> str:
    return f'{len(self)} of {self._source!r}'


def _tree(root: str) -> ImageTree:
  found = image_files.find([root])
  return ImageTree(root, [os.path.relpath(file, root) for file in found.files])


def _open(origin: Origin) -> Source:
  return open_source(
    origin['kind'],
    origin['split'],
    name=origin['name'],
    path=origin['path'],
  )
