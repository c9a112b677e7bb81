"""Finds the image files that a person means by files and folders."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from effnet_jax.data.sources import IMAGE_SUFFIXES
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
    UserError: nothing at a path; no image at any of them.
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
  """Returns the images below a folder, sorted, and the number of others."""
  images, others = [], 0
  for root, folders, names in os.walk(folder):
    folders[:] = sorted(name for name in folders if not name.startswith('.'))
    for name in sorted(names):
      if name.startswith('.'):
        continue
      if name.lower().endswith(SUFFIXES):
        images.append(os.path.join(root, name))
      else:
        others += 1
  return images, others


def _nothing_at(path: str) -> str:
  if os.path.lexists(path):
    return f'{path} is neither a file nor a folder, or cannot be reached'
  folder = Path(path).parent
  if not folder.is_dir():
    return f'no file {path}: there is no folder {folder}'
  near = near_names(Path(path).name, os.listdir(folder))
  if near.startswith('known'):
    near = f'nothing in {folder} has a name like it'
  return f'no file {path}: {near}'
