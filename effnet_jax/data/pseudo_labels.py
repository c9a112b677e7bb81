"""A teacher's labels of unlabelled images: written in shards, read to train on.

A directory of them holds

    manifest.json    what was labelled, by whom, how chosen; `finished` at last
    shard-00000.npy  a row an image, in the order of the source: `confidence`
                     (-1 where the image cannot be read), `top` (the class of
                     the highest probability) and `label` (all probabilities)
    examples.npy     images that the student sees, as indices into the source;
                     one that is duplicated stands there several times

Every file appears whole under its name or not at all. The rows are mapped into
memory, so a source of any size opens at once and costs a worker nothing.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from effnet_jax.data import class_names as names_of_classes
from effnet_jax.data import unlabelled
from effnet_jax.data.sources import Record, Source
from effnet_jax.errors import UserError

VERSION = 1
UNREADABLE = -1.0  # confidence of an image that is none
_MANIFEST, _EXAMPLES = 'manifest.json', 'examples.npy'


def row_dtype(num_classes: int) -> np.dtype:
  """Returns the dtype of a shard's rows.

  A probability in float16 has three digits; a student's target needs no more,
  and a hundred million rows of a thousand classes are 200 GB.
  """
  return np.dtype(
    [
      ('confidence', '<f4'),
      ('top', '<i4'),
      ('label', '<f2', (num_classes,)),
    ]
  )


def rows(probabilities: np.ndarray, temperature: float = 1.0) -> np.ndarray:
  """Returns a teacher's answers as rows of a shard.

  Args:
    probabilities: float64 [n, classes], at temperature 1: what the confidence
      is measured on, as in the authors' code.
    temperature: of the labels, p^(1 / T) / sum p^(1 / T); below 1 sharper.
  """
  result = np.empty(len(probabilities), row_dtype(probabilities.shape[1]))
  result['confidence'] = probabilities.max(1)
  result['top'] = probabilities.argmax(1)
  # Over the largest: a small temperature must not make all of a row 0.
  scaled = probabilities / probabilities.max(1, keepdims=True)
  scaled **= 1 / temperature
  result['label'] = scaled / scaled.sum(1, keepdims=True)
  return result


def choose(
  top: np.ndarray,
  confidence: np.ndarray,
  num_classes: int,
  min_confidence: float,
  per_class: int | None,
) -> np.ndarray:
  """Chooses the images that a student is shown, as many of every class.

  Images below the confidence are left out. Of the others of a class the most
  confident are taken; a class that has too few repeats what it has, evenly, the
  most confident first (Xie et al. 2020, section 3.1, which draws the copies at
  random).

  Args:
    top: class of each image.
    confidence: its probability.
    num_classes: of the teacher.
    min_confidence: images as confident as this stay.
    per_class: how many of every class; None for as many as the largest has.

  Returns:
    int64, sorted, with repetitions. A class without any image stays empty.
  """
  kept = np.flatnonzero(confidence >= max(min_confidence, 0))
  # The most confident first; of equals the first in the source.
  kept = kept[np.argsort(-confidence[kept], kind='stable')]
  by_class = kept[np.argsort(top[kept], kind='stable')]
  counts = np.bincount(top[kept], minlength=num_classes)
  wanted = int(counts.max()) if per_class is None else per_class
  starts = np.cumsum(counts) - counts
  chosen = [
    by_class[start + np.arange(wanted) % count]
    for start, count in zip(starts, counts, strict=True)
    if count
  ]
  return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def shard_path(folder: Path, number: int) -> Path:
  return folder / f'shard-{number:05d}.npy'


def write_array(path: Path, array: np.ndarray) -> None:
  """Writes an array whole or not at all."""
  _write(path, lambda file: np.save(file, array))


def write_examples(folder: Path, examples: np.ndarray) -> None:
  write_array(folder / _EXAMPLES, examples)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
  text = json.dumps(manifest, indent=2) + '\n'
  _write(folder / _MANIFEST, lambda file: file.write(text.encode()))


def read_manifest(folder: Path) -> dict[str, Any] | None:
  """Returns the manifest; None if there is none.

  Raises:
    UserError: it cannot be read, or is of another version.
  """
  path = folder / _MANIFEST
  try:
    manifest = json.loads(path.read_text())
    version = manifest['version']
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path} cannot be read ({error}): label into another directory'
    ) from None
  if version != VERSION:
    raise UserError(
      f'{path} has version {version}, this code reads {VERSION}: label the '
      'images anew, into another directory'
    )
  return manifest


def open_shards(folder: Path, manifest: dict[str, Any]) -> list[np.ndarray]:
  """Maps all shards into memory.

  Raises:
    UserError: one is missing, or is not what was written.
  """
  images, size = manifest['origin']['images'], manifest['shard_size']
  return [
    _mapped(
      shard_path(folder, number),
      row_dtype(manifest['num_classes']),
      min(size, images - start),
    )
    for number, start in enumerate(range(0, images, size))
  ]


class PseudoLabelled:
  """The chosen images with the teacher's labels.

  A record's `label` is float32 [classes], whose sum is 1; of hard labels it is
  the class. It can be pickled, and what it maps is mapped anew then.

  Attributes:
    soft_classes: how many probabilities a label has; 0 if it is a class.
  """

  def __init__(self, source: Source, folder: Path, manifest: dict[str, Any]):
    self._source, self._folder, self._manifest = source, folder, manifest
    self.class_names = source.class_names
    self.soft_classes = 0 if manifest['hard'] else manifest['num_classes']
    self._map()

  def _map(self):
    self._shards = open_shards(self._folder, self._manifest)
    self._examples = _mapped(
      self._folder / _EXAMPLES, np.dtype('<i8'), self._manifest['examples']
    )

  def __getstate__(self):
    # numpy pickles a mapped array as a copy of all that it holds.
    return {
      k: v
      for k, v in self.__dict__.items()
      if k not in ('_shards', '_examples')
    }

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._map()

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> Record:
    image = int(self._examples[index])
    number, row = divmod(image, self._manifest['shard_size'])
    answer = self._shards[number][row]
    label = int(answer['top'])
    if self.soft_classes:
      label = answer['label'].astype(np.float32)
      label /= label.sum()  # float16 has rounded every one of them
    return {**self._source[image], 'label': label}

  def __repr__(self) -> str:
    return f'pseudo_labels({self._folder}, {len(self)} examples)'


def open_pseudo_labelled(
  path: str, class_names: Sequence[str]
) -> PseudoLabelled:
  """Opens what `python -m effnet_jax pseudo-label` has written.

  Args:
    path: the directory, its `--out`.
    class_names: of the labelled images that are trained on besides.

  Raises:
    UserError: nothing finished there, a file that is missing or damaged,
      images that are not the same any more, other classes.
  """
  folder = Path(path).expanduser().absolute()
  manifest = read_manifest(folder)
  if manifest is None:
    raise UserError(
      f'no pseudo-labels in {path}: write some with python -m effnet_jax '
      f'pseudo-label --weights SOURCE --data UNLABELLED --out {path}'
    )
  if not manifest['finished']:
    raise UserError(
      f'the pseudo-labels in {path} are not finished: give the same '
      'pseudo-label command again, it goes on'
    )
  _check_classes(path, manifest, class_names)
  source = unlabelled.reopen(manifest['origin'], f'{path}/{_MANIFEST}')
  return PseudoLabelled(source, folder, manifest)


def _check_classes(path, manifest, class_names):
  count, theirs = manifest['num_classes'], manifest['class_names']
  if count != len(class_names):
    raise UserError(
      f'{path} has labels of {count} classes, config.data has '
      f'{len(class_names)}: the teacher must be of the same data set'
    )
  if theirs is None:  # the weights named none: only the number can be compared
    return
  ours = names_of_classes.output_names(len(class_names), class_names)
  theirs = names_of_classes.output_names(count, theirs)
  for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
    if our != their:
      raise UserError(
        f'{path} calls class {number} {their!r}, config.data calls it {our!r}: '
        'the teacher must be of the same data set'
      )


def _mapped(path: Path, dtype: np.dtype, length: int) -> np.ndarray:
  try:
    array = np.load(path, mmap_mode='r')
  except FileNotFoundError:
    raise UserError(
      f'{path} is missing: label the images anew, into another directory'
    ) from None
  except (OSError, ValueError, EOFError) as error:
    raise UserError(
      f'{path} is damaged ({error}): remove the directory, and label anew'
    ) from None
  if array.dtype != dtype or array.shape != (length,):
    raise UserError(
      f'{path} is not what its manifest says: remove the directory, and label '
      'anew'
    )
  return array


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  with temporary.open('wb') as file:
    write(file)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)
