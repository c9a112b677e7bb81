"""Finds the image files that a person means by files and folders."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from effnet_jax.data.folder_source import IMAGE_SUFFIXES
from effnet_jax.data.preprocess import (
  DecodeError,
  Preprocess,
  decode,
  eval_image,
)
from effnet_jax.errors import UserError, near_names

# What `decode` reads besides the formats that people train on.
SUFFIXES = (*IMAGE_SUFFIXES, '.gif', '.tif', '.tiff')


@dataclasses.dataclass(frozen=True)
class Found:
  """Image files, and how many others lie beside them."""

  files: tuple[str, ...]
  skipped: int = 0


def find(paths: Iterable[str | os.PathLike]) -> Found:
  """Finds image files.

  Args:
    paths: files, taken whatever their names; and folders, of which all
      that lies below and ends like an image is taken, in sorted order. Hidden
      files and folders are passed over without being counted.

  Raises:
    UserError: nothing at a path; a folder that cannot be read; no image at any
      of them.
  """
  paths = [os.path.expanduser(path) for path in paths]
  files, skipped = [], 0
  for path in paths:
    if os.path.isfile(path):
      files.append(path)
    elif os.path.isdir(path):
      images, others = below(path)
      files += images
      skipped += others
    else:
      raise UserError(_nothing_at(path))
  if not files:
    raise UserError(
      f'no image in {", ".join(paths)}: files read in a folder end in '
      f'{" ".join(SUFFIXES)}'
    )
  return Found(tuple(files), skipped)


def below(folder: str) -> tuple[list[str], int]:
  """Returns the images below a folder, sorted, and the number of others.

  Raises:
    UserError: it, or a folder in it, cannot be read.
  """
  images, others = [], 0
  for root, folders, names in os.walk(folder, onerror=_refuse):
    folders[:] = sorted(name for name in folders if not name.startswith('.'))
    for name in sorted(names):
      if name.startswith('.'):
        continue
      if name.lower().endswith(SUFFIXES):
        images.append(os.path.join(root, name))
      else:
        others += 1
  return images, others


def read(path: str, preprocess: Preprocess) -> np.ndarray:
  """Returns an image file as a network sees it in evaluation.

  Returns:
    uint8 [size, size, 3].

  Raises:
    DecodeError: it cannot be read or decoded.
  """
  try:
    data = Path(path).read_bytes()
  except OSError as error:
    raise DecodeError(path, f'cannot be read: {error.strerror}') from None
  image = decode(data, exif_orientation=preprocess.exif_orientation, name=path)
  return eval_image(image, preprocess)


def _refuse(error: OSError):
  raise UserError(
    f'{error.filename} cannot be read: {error.strerror}'
  ) from None


def _nothing_at(path: str) -> str:
  folder = Path(path).parent
  try:
    os.stat(path)
  except PermissionError as error:
    return f'{path} cannot be reached: {error.strerror}'
  except OSError:
    pass
  if os.path.lexists(path):
    return f'{path} is neither a file nor a folder'
  if not os.path.isdir(folder):
    return f'no file {path}: there is no folder {folder}'
  try:
    near = near_names(Path(path).name, os.listdir(folder))
  except PermissionError:  # one may enter it, but not look around
    return f'no file {path}'
  if near.startswith('known'):
    near = f'nothing in {folder} has a name like it'
  return f'no file {path}: {near}'
