"""The command `probe`: linear probe and neighbours on a network's features."""

import argparse
import functools
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from effnet_jax import model_arguments
from effnet_jax.arguments import ArgumentParser
from effnet_jax.data import folder_source, pipeline, sources
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.errors import UserError
from effnet_jax.evaluation.probe import classifiers
from effnet_jax.evaluation.probe.classifiers import Fold
from effnet_jax.inference import features
from effnet_jax.models import efficientnet
from effnet_jax.models.normalize import normalize
from effnet_jax.progress import progress
from effnet_jax.weights.load import Weights

_DESCRIPTION = """\
Says how well a network's features alone tell the classes of a data set apart:
by logistic regression, its regularisation chosen by cross-validation within the
training images, and by the vote of the nearest neighbours (cosine). Nothing of
the network is trained, so it takes little more than one pass over the images.

SOURCE is a folder, PATH/CLASS/IMAGE or PATH/SPLIT/CLASS/IMAGE, or digits,
fashion_mnist, or tfds:NAME (prepared as ArrayRecord). Without --test the images
of --train are divided into folds, each tested on once; of a folder of classes
without splits, all its images are."""

_EXAMPLES = """\
examples:
  python -m effnet_jax probe --model lite0 --data photos
  python -m effnet_jax probe --model lite0 --data photos --resolution 160
  python -m effnet_jax probe --weights runs/mine --train train+validation \\
    --test test --data tfds:oxford_flowers102

--json gives model, weights, data, resolution, classes, images, unreadable,
folds (null with --test), linear and neighbours, each with mean, std (over the
folds) and values in per cent, linear's C by fold, neighbours' count, and
seconds."""


def probe(argv: list[str]) -> None:
  """Prints the accuracy of both classifiers, or JSON."""
  arguments = _parse(argv)
  classifiers.check_scikit_learn()
  _check_source(arguments.data)
  begun = time.perf_counter()
  train = [_open(arguments, _train_split(arguments))]
  test = [_open(arguments, arguments.test)] if arguments.test else []
  weights = model_arguments.read(arguments)
  parts = _embed(weights, [*train, *test], arguments)
  x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
  if test:
    known = sum(len(labels) for _, labels in parts[: len(train)])
    folds = [Fold(np.arange(known), np.arange(known, len(y)))]
  else:
    names = train[0].class_names
    folds = classifiers.stratified_folds(y, names, arguments.folds)
  result = {
    'model': weights.spec.name,
    'weights': model_arguments.source(arguments),
    'data': arguments.data,
    'resolution': weights.spec.resolution,
    'classes': len(np.unique(y)),
    'images': len(y),
    'unreadable': sum(map(len, [*train, *test])) - len(y),
    'folds': None if test else arguments.folds,
    **_scores(x, y, folds, arguments.neighbours),
    'seconds': time.perf_counter() - begun,
  }
  print(json.dumps(result, indent=2) if arguments.json else _text(result))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = ArgumentParser(
    prog='python -m effnet_jax probe',
    description=_DESCRIPTION,
    epilog=_EXAMPLES,
  )
  model_arguments.add(parser)
  add = functools.partial(_add, parser)
  add('--data', 'SOURCE', None, 'see above', required=True)
  add('--data-dir', 'DIR', '', 'where the data of a named source lie')
  add('--train', 'SPLIT', '', 'to learn from, e.g. train+validation')
  add('--test', 'SPLIT', '', 'to test on; without, folds of --train')
  add('--folds', 'N', 5, 'of cross-validation')
  add('--neighbours', 'K', 20, 'that vote')
  add('--batch', 'N', 64, 'images at a time')
  add('--workers', 'N', 0, 'processes that decode images; 0: threads')
  parser.add_argument('--json', action='store_true', help='see below')
  arguments = parser.parse_args(argv)
  for option, lowest in (
    ('folds', 2),
    ('neighbours', 1),
    ('batch', 1),
    ('workers', 0),
  ):
    if getattr(arguments, option) < lowest:
      parser.error(f'--{option} must be {lowest} or more')
  return arguments


def _add(parser, option, metavar, default, text, **rest):
  if default:
    text += ' (default: %(default)s)'
  kind = int if isinstance(default, int) else str
  parser.add_argument(
    option, metavar=metavar, default=default, type=kind, help=text, **rest
  )


def _train_split(arguments: argparse.Namespace) -> str:
  if arguments.train:
    return arguments.train
  kind = _kind(arguments.data)[0]
  if kind == 'folder' and not arguments.test:
    chosen = folder_source.choose_splits(arguments.data)
    if chosen.made:
      return 'train+validation+test'
  return 'train'


def _kind(data: str) -> tuple[str, str]:
  """Returns the kind of the source, and TFDS's name of it."""
  kind, _, name = data.partition(':')
  named = [k for k in sources.KINDS if k != 'folder']
  return (kind, name) if kind in named else ('folder', '')


def _check_source(data: str) -> None:
  if _kind(data)[0] == 'folder' and not os.path.isdir(os.path.expanduser(data)):
    others = ', '.join(k for k in sources.KINDS if k != 'folder')
    raise UserError(f'--data {data} is no folder, and none of {others}')


def _open(arguments: argparse.Namespace, split: str) -> sources.Source:
  kind, name = _kind(arguments.data)
  path = arguments.data if kind == 'folder' else arguments.data_dir
  return sources.open_source(kind, split, name=name, path=path)


def _embed(
  weights: Weights,
  opened: Sequence[sources.Source],
  arguments: argparse.Namespace,
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns features [n, c] and labels [n] of what of each source is read."""
  spec = weights.spec
  variables = efficientnet.on_device(weights.variables)
  model = efficientnet.build(spec)

  @jax.jit
  def step(variables, images):
    return features.embed(model, variables, normalize(images, spec))

  parts = []
  size = min(arguments.batch, max(map(len, opened)))  # one compilation
  with progress(sum(map(len, opened)), 'embedding') as advance:
    for source in opened:
      embedded, labels = [], []
      for batch in pipeline.eval_batches(
        source,
        Preprocess.of(spec),
        batch_size=size,
        workers=arguments.workers,
        max_bad_fraction=1,  # left out with a warning, and counted
      ):
        there = batch['mask'] > 0
        embedded.append(np.asarray(step(variables, batch['image']))[there])
        labels.append(batch['label'][there])
        advance(int(there.sum()))
      parts.append((np.concatenate(embedded), np.concatenate(labels)))
  if not all(len(labels) for _, labels in parts):
    raise UserError(f'no image of {arguments.data} could be read')
  return parts


def _scores(
  x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], count: int
) -> dict[str, Any]:
  linear, near, strengths = [], [], []
  count = min(count, *(len(fold.train) for fold in folds))
  with progress(sum(len(f.test) for f in folds), 'classifying') as advance:
    for fold in folds:
      known, asked = (x[fold.train], y[fold.train]), x[fold.test]
      found, strength = classifiers.linear(*known, asked)
      strengths.append(strength)
      linear.append(100 * float(np.mean(found == y[fold.test])))
      found = classifiers.neighbours(*known, asked, count)
      near.append(100 * float(np.mean(found == y[fold.test])))
      advance(len(fold.test))
  return {
    'linear': {**_spread(linear), 'C': strengths},
    'neighbours': {**_spread(near), 'count': count},
  }


def _spread(values: list[float]) -> dict[str, Any]:
  return {
    'mean': float(np.mean(values)),
    'std': float(np.std(values)),
    'values': values,
  }


def _text(result: dict[str, Any]) -> str:
  folds, unreadable = result['folds'], result['unreadable']
  spread = lambda part: (
    f'{part["mean"]:.2f} %' + (f' +- {part["std"]:.2f}' if folds else '')
  )
  linear, near = result['linear'], result['neighbours']
  strengths = ', '.join(f'{c:g}' for c in linear['C'])
  return '\n'.join(
    [
      f'{result["model"]} ({result["weights"]}) on {result["data"]}: '
      f'{result["images"]:,} images, {result["classes"]} classes, '
      f'{result["resolution"]} pixels'
      + (f', {unreadable:,} unreadable' if unreadable else ''),
      'top-1 on ' + (f'{folds} folds' if folds else 'the test split'),
      f'  linear probe   {spread(linear)}   (C {strengths})',
      f'  {near["count"]:2} neighbours  {spread(near)}',
      f'{result["seconds"]:.0f} seconds',
    ]
  )
