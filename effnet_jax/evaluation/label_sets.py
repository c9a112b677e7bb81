"""What a network can be evaluated on: ImageNet's label sets, and folders."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from effnet_jax.data import class_names, tfds_builder
from effnet_jax.data.sources import Record, Source
from effnet_jax.data.splits import parse_split, resolve_split
from effnet_jax.data.tfds_source import TfdsSource
from effnet_jax.errors import UserError, near_names
from effnet_jax.evaluation import folders, subsets

Batch = dict[str, np.ndarray]
_VALIDATION_IMAGES = 50_000  # of ILSVRC 2012, which people keep as a folder


@dataclasses.dataclass(frozen=True)
class _Benchmark:
  """A label set of ImageNet's classes: how TFDS calls it."""

  name: str
  split: str = 'test'
  classes: tuple[int, ...] = tuple(range(1000))  # that may be chosen
  several: bool = False  # right answers for an image


BENCHMARKS = {
  'imagenet': _Benchmark('imagenet2012', 'validation'),
  'imagenet_real': _Benchmark('imagenet2012_real', 'validation', several=True),
  'imagenet_v2': _Benchmark('imagenet_v2/matched-frequency'),
  'imagenet_v2/threshold-0.7': _Benchmark('imagenet_v2/threshold-0.7'),
  'imagenet_v2/topimages': _Benchmark('imagenet_v2/topimages'),
  'imagenet_a': _Benchmark('imagenet_a', classes=subsets.IMAGENET_A),
  'imagenet_r': _Benchmark('imagenet_r', classes=subsets.IMAGENET_R),
}


@dataclasses.dataclass(frozen=True)
class LabelSet:
  """Labelled images, for one network.

  Attributes:
    title: what people call it.
    benchmark: which of `BENCHMARKS` it is; '' for others.
    source: the images; their labels are outputs of the network, or numbers
      that `complete` understands.
    ranked: [outputs], whether the network may choose the class.
    complete: makes `label` [n] of a batch [n, outputs], true for every right
      class, and masks images without any.
  """

  title: str
  benchmark: str
  source: Source
  ranked: np.ndarray
  complete: Callable[[Batch], Batch] | None = None


def check_name(data: str) -> None:
  """Raises UserError unless there is something of that name."""
  if data not in BENCHMARKS and not os.path.isdir(os.path.expanduser(data)):
    near = near_names(data, BENCHMARKS)
    raise UserError(f'{data} is neither a folder nor a data set: {near}')


def open_label_set(
  data: str,
  num_outputs: int,
  own_names: Sequence[str] | None = None,
  *,
  split: str = '',
  data_dir: str = '',
  limit: int | None = None,
  restrict: bool = False,
) -> LabelSet:
  """Opens labelled images.

  Args:
    data: one of `BENCHMARKS`, or a folder PATH with PATH/CLASS/IMAGE.
    num_outputs: of the network.
    own_names: what its weights call them; None if they don't say.
    split: of a benchmark, with an optional slice; of a folder PATH/SPLIT.
      '' for the benchmark's usual one, and for PATH itself.
    data_dir: TFDS's data directory, '' for its default.
    limit: take no more images, spread evenly over all; None for all.
    restrict: let the network choose only among the classes of the folder.

  Raises:
    UserError: nothing there, or nothing for a network with such outputs.
  """
  check_name(data)
  if data in BENCHMARKS:
    if restrict:
      raise UserError(f'--restrict is for folders: {data} has its own classes')
    opened = _open_benchmark(data, num_outputs, own_names, split, data_dir)
  else:
    path = os.path.expanduser(data)
    opened = _open_folder(path, num_outputs, own_names, split, restrict)
  return limited(opened, limit)


def limited(label_set: LabelSet, limit: int | None) -> LabelSet:
  """Returns no more than `limit` of its images, spread evenly over all."""
  size = len(label_set.source)
  if limit is None or limit >= size:
    return label_set
  chosen = [number * size // limit for number in range(limit)]
  view = _View(label_set.source, chosen)
  return dataclasses.replace(label_set, source=view)


class _View:
  """Some records of a source, their labels moved by `offset`."""

  def __init__(self, source: Source, chosen: Sequence[int], offset: int = 0):
    self._source, self._chosen, self._offset = source, chosen, offset
    self.class_names = source.class_names

  def __len__(self) -> int:
    return len(self._chosen)

  def __getitem__(self, index: int) -> Record:
    record = self._source[self._chosen[index]]
    if record['label'] < 0:  # as TFDS has it
      raise UserError(f'{record["name"]}: this split comes without labels')
    return {**record, 'label': record['label'] + self._offset}

  def __repr__(self) -> str:
    return f'{len(self)} of {self._source!r}'


def _open_folder(path, num_outputs, own_names, split, restrict) -> LabelSet:
  if split:
    name, *slicing = parse_split(split)
    if any(slicing):
      raise UserError(f'--split {split}: of a folder take a part by --limit')
    path = os.path.join(path, name)
    if not os.path.isdir(path):
      raise UserError(f'no folder {path}')
  source, outputs = folders.open_folder(path, num_outputs, own_names)
  ranked = np.zeros(num_outputs, bool)
  offset = class_names.imagenet_offset(num_outputs, own_names)
  # All but the background, which no other release of weights has.
  ranked[list(outputs) if restrict else slice(offset or 0, None)] = True
  sizes = (len(outputs), len(source))
  imagenet = offset is not None and sizes == (1000, _VALIDATION_IMAGES)
  return LabelSet(path, 'imagenet' if imagenet else '', source, ranked)


def _open_benchmark(data, num_outputs, own_names, split, data_dir) -> LabelSet:
  offset = class_names.imagenet_offset(num_outputs, own_names)
  if offset is None:
    raise UserError(
      f"{data} has ImageNet's 1000 classes, the network {num_outputs} others: "
      'give a folder of its own classes'
    )
  benchmark = BENCHMARKS[data]
  builder = tfds_builder.find_builder(benchmark.name, data_dir, '--data-dir')
  sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
  name, kept = resolve_split(split or benchmark.split, sizes)
  examples = _examples(builder, name)
  ranked = np.zeros(num_outputs, bool)
  ranked[np.asarray(benchmark.classes) + offset] = True
  complete = None
  if benchmark.several:
    complete = _SeveralLabels(examples, num_outputs, offset)
    examples, offset = _Numbered(examples), 0
  source = TfdsSource(
    examples, kept, class_names.imagenet_names(), benchmark.name, name
  )
  title = f'{data} {split or benchmark.split}'
  view = _View(source, range(len(source)), offset)
  return LabelSet(title, data, view, ranked, complete)


def _examples(builder: Any, split: str) -> Any:
  """Random access to TFDS examples, images left encoded."""
  import tensorflow_datasets as tfds

  decoders = {'image': tfds.decode.SkipDecoding()}
  return builder.as_data_source(split, decoders=decoders)


class _Numbered:
  """Examples with their number in the split for a label."""

  def __init__(self, examples: Any):
    self._examples = examples

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {'image': self._examples[index]['image'], 'label': index}


@dataclasses.dataclass(frozen=True)
class _SeveralLabels:
  """`LabelSet.complete` of ReaL: batches carry numbers of examples.

  A batch of the pipeline has one number for each image. What belongs to it is
  read again: the record is in the page cache, and its image stays encoded.
  """

  examples: Any
  num_outputs: int
  offset: int

  def __call__(self, batch: Batch) -> Batch:
    right = np.zeros((len(batch['label']), self.num_outputs), bool)
    for row, number in enumerate(batch['label']):
      if batch['mask'][row]:
        labels = self.examples[int(number)]['real_label']
        right[row, np.asarray(labels, int) + self.offset] = True
    mask = batch['mask'] * right.any(axis=1)
    return {**batch, 'label': right, 'mask': mask.astype(np.float32)}
