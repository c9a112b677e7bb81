"""Pseudo-labels by a teacher: step 2 of Noisy Student (Xie et al. 2020).

The teacher sees what evaluation sees: centre crops, moving statistics, no
dropout, no dropped block.
"""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from effnet_jax.data import pipeline, pseudo_labels, unlabelled
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.sources import Source
from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet
from effnet_jax.models.normalize import normalize
from effnet_jax.progress import progress
from effnet_jax.training import parallel, reporting
from effnet_jax.weights.load import Weights

SHARD_SIZE = 50_000


def pseudo_label(
  weights: Weights,
  data: str,
  out: str | os.PathLike,
  *,
  title: str = '',
  data_dir: str = '',
  min_confidence: float = 0.3,
  per_class: int | None = None,
  temperature: float = 1.0,
  hard: bool = False,
  exif_orientation: bool = False,
  shard_size: int = SHARD_SIZE,
  batch_size: int = 64,
  workers: int = 0,
) -> tuple[dict[str, Any], bool]:
  """Labels images, and chooses those that a student is shown.

  Whatever ends it early, the same call again goes on after the last shard.

  Args:
    weights: of the teacher.
    data: see `unlabelled.open_unlabelled`.
    out: a directory, made if it is not there.
    title: what the manifest calls the teacher.
    data_dir: of TFDS; '' for its own.
    min_confidence: see `pseudo_labels.choose`.
    per_class: likewise.
    temperature: of soft labels, see `pseudo_labels.rows`.
    hard: whether a label is the teacher's first class alone.
    exif_orientation: whether photos are turned upright, as in training with
      config.data.exif_orientation.
    shard_size: images that are labelled before they are written.
    batch_size: images at a time, over all devices.
    workers: processes that decode images; 0: threads of this one.

  Returns:
    The manifest, and whether the directory was finished before.

  Raises:
    UserError: no images, none that is confident enough; a directory of other
      arguments; logits that are not finite.
  """
  folder = Path(out).expanduser().absolute()
  source, origin = unlabelled.open_unlabelled(data, data_dir)
  manifest = {
    **_of_teacher(weights, title),
    'origin': origin,
    'min_confidence': min_confidence,
    'per_class': per_class,
    'temperature': temperature,
    'hard': hard,
    'exif_orientation': exif_orientation,
    'shard_size': shard_size,
  }
  found = pseudo_labels.read_manifest(folder)
  if found is None:
    _make(folder)
    pseudo_labels.write_manifest(folder, manifest)
  else:
    _check_same(folder, found, manifest)
    if found['finished']:
      return found, True
  _write_shards(weights, source, folder, manifest, batch_size, workers)
  manifest.update(_chosen(folder, manifest))
  pseudo_labels.write_manifest(folder, manifest)
  return manifest, False


def _of_teacher(weights: Weights, title: str) -> dict[str, Any]:
  return {
    'version': pseudo_labels.VERSION,
    'finished': False,
    'weights': title,
    'teacher': weights.spec.name,
    'resolution': weights.spec.resolution,
    'fingerprint': _fingerprint(weights.variables),
    'num_classes': weights.spec.num_classes,
    'class_names': weights.class_names and list(weights.class_names),
  }


def _write_shards(weights, source, folder, manifest, batch_size, workers):
  """Labels what is in no shard yet."""
  size, total = manifest['shard_size'], len(source)
  missing = [
    (pseudo_labels.shard_path(folder, number), range(total)[start:][:size])
    for number, start in enumerate(range(0, total, size))
  ]
  missing = [(path, part) for path, part in missing if not path.exists()]
  if not missing:
    return
  indices = np.concatenate([np.asarray(part) for _, part in missing])
  preprocess = Preprocess.of(
    weights.spec, exif_orientation=manifest['exif_orientation']
  )
  answers = _answers(
    weights,
    unlabelled.Subset(source, indices),
    preprocess,
    batch_size,
    workers,
  )

  def rows(advance):
    for probabilities, readable in answers:
      part = pseudo_labels.rows(probabilities, manifest['temperature'])
      part['confidence'][~readable] = pseudo_labels.UNREADABLE
      advance(len(part))
      yield part

  with progress(len(indices), 'labelling') as advance:
    shards = _cut(rows(advance), [len(part) for _, part in missing])
    for (path, _), shard in zip(missing, shards, strict=True):
      pseudo_labels.write_array(path, shard)


def _answers(
  weights: Weights,
  source: Source,
  preprocess: Preprocess,
  batch_size: int,
  workers: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields probabilities [n, classes], and which of the images are readable."""
  model = efficientnet.build(weights.spec)
  to_input = functools.partial(normalize, spec=weights.spec)
  devices = parallel.devices_or_all(None)
  logits_of = parallel.pmap_each(
    lambda variables, images: model.apply(
      variables, to_input(images), train=False
    )[0],
    devices,
  )
  variables = parallel.replicate(weights.variables, devices)
  batch_size = min(batch_size, len(source))
  batches = pipeline.eval_batches(
    source,
    preprocess,
    batch_size=-(-batch_size // len(devices)) * len(devices),
    workers=workers,
    max_bad_fraction=1,  # left out with a warning, and counted
  )
  left = len(source)
  for batch in batches:
    logits = logits_of(variables, parallel.shard(batch['image'], devices))
    logits = np.asarray(logits, np.float64).reshape(len(batch['mask']), -1)
    readable = batch['mask'].astype(bool)
    if not np.isfinite(logits[readable]).all():
      raise UserError(
        f'{weights.spec.name} gives logits that are not finite: these weights '
        'are damaged, or training diverged'
      )
    yield _softmax(logits[:left]), readable[:left]  # the last is padded
    left -= len(logits[:left])


def _softmax(logits: np.ndarray) -> np.ndarray:
  odds = np.exp(logits - logits.max(-1, keepdims=True))
  return odds / odds.sum(-1, keepdims=True)


def _cut(
  parts: Iterator[np.ndarray], sizes: Sequence[int]
) -> Iterator[np.ndarray]:
  """Puts arrays of any lengths together to arrays of the given ones."""
  waiting: list[np.ndarray] = []
  for size in sizes:
    while sum(map(len, waiting)) < size:
      waiting.append(next(parts))
    joined = np.concatenate(waiting)
    waiting = [joined[size:]]
    yield joined[:size]


def _chosen(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
  """Writes the examples; returns what the manifest says of them."""
  shards = pseudo_labels.open_shards(folder, manifest)
  top, confidence = (
    np.concatenate([shard[field] for shard in shards])
    for field in ('top', 'confidence')
  )
  readable = confidence != pseudo_labels.UNREADABLE
  if not readable.any():
    raise UserError(f'no image of {len(confidence)} can be read')
  classes = manifest['num_classes']
  examples = pseudo_labels.choose(
    top,
    confidence,
    classes,
    manifest['min_confidence'],
    manifest['per_class'],
  )
  if not len(examples):
    raise UserError(
      f'no image is labelled with a confidence of {manifest["min_confidence"]}'
      f' or more; the highest is {confidence.max():.3f}. The labels are kept: '
      'take a lower --min-confidence with another --out'
    )
  pseudo_labels.write_examples(folder, examples)
  images = np.unique(examples)
  confident = confidence >= manifest['min_confidence']
  count = lambda chosen: np.bincount(top[chosen], minlength=classes).tolist()
  return {
    'finished': True,
    'examples': len(examples),
    'unreadable': int((~readable).sum()),
    # Of every class: labelled, confident enough, of these taken, with copies.
    'counts': {
      'labelled': count(np.flatnonzero(readable)),
      'confident': count(np.flatnonzero(confident & readable)),
      'taken': count(images),
      'examples': count(examples),
    },
    **reporting.environment(parallel.devices_or_all(None)),
  }


def _check_same(folder, found, wanted):
  """Raises unless the directory is of the same arguments."""
  found, wanted = (
    {**each, 'weights': f'{each["weights"]}, {each["fingerprint"][:8]}'}
    for each in (found, wanted)
  )
  # The same weights may lie elsewhere now.
  if found['fingerprint'] == wanted['fingerprint']:
    wanted['weights'] = found['weights']
  differing = [
    f'{key} ({found[key]!r} before, {value!r} now)'
    for key, value in wanted.items()
    if key not in ('finished', 'fingerprint') and found[key] != value
  ]
  if differing:
    raise UserError(
      f'{folder} holds pseudo-labels of other arguments: '
      f'{", ".join(differing)}. Use another --out, or the same values'
    )


def _fingerprint(variables: Mapping[str, Any]) -> str:
  """Returns what tells a teacher from every other."""
  digest = hashlib.blake2b(digest_size=16)
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def _make(folder: Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
    # A hidden file is what an earlier start was writing when it was killed.
    occupied = any(not file.name.startswith('.') for file in folder.iterdir())
  except OSError as error:
    raise UserError(
      f'{folder} cannot be written to: {error.strerror}'
    ) from None
  if occupied:
    raise UserError(
      f'{folder} holds something else than pseudo-labels: give an empty --out'
    )
