"""The command `predict`: what a network sees on images."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np

from effnet_jax import environment, model_arguments
from effnet_jax.arguments import ArgumentParser
from effnet_jax.data import class_names, image_files
from effnet_jax.data.preprocess import DecodeError, Preprocess
from effnet_jax.errors import UserError
from effnet_jax.inference import cores
from effnet_jax.inference.predictor import predictor
from effnet_jax.models import efficientnet
from effnet_jax.models.normalize import normalize
from effnet_jax.progress import progress, say
from effnet_jax.weights.load import Weights

_DESCRIPTION = """\
Says what is on images: the classes of the highest probability. The centre of
each image is cut out and resized as the weights want it; photos are turned
upright as their EXIF data says."""

_EXAMPLES = """\
examples:
  python -m effnet_jax predict photo.jpg --model lite0
  python -m effnet_jax predict holiday/ --model lite2 --top 1
  python -m effnet_jax predict photo.jpg --weights runs/quickstart --json
  python -m effnet_jax predict photo.jpg \\
    --weights hf://timm/tf_efficientnet_b0.ns_jft_in1k

Images that cannot be read end in exit status 2, after what the others gave.
--json gives a list of {path, predictions: [{index, name, probability}]}, where
index counts the network's outputs from 0; of 1001 the first is background."""

_MAX_THREADS = 16
_BAR = 20  # characters of certainty
_MAX_NAMED = 3  # images that one error line names

Result = list[dict]  # index, name and probability of each prediction


def predict(argv: list[str]) -> None:
  """Prints a table an image, or JSON."""
  arguments = _parse(argv)
  found = image_files.find(arguments.image)
  if found.skipped:
    print(
      f'passed over {found.skipped} files that are no images', file=sys.stderr
    )
  weights = model_arguments.read(arguments)
  spec = weights.spec
  names = class_names.output_names(spec.num_classes, weights.class_names)
  batch_size = min(arguments.batch, len(found.files))
  shown, broken = [], []
  with progress(len(found.files), 'predicting') as advance:
    for path, outcome in _outcomes(weights, found.files, batch_size):
      advance(1)
      if isinstance(outcome, DecodeError):
        broken.append(outcome)
        continue
      result = _top(outcome, names, arguments.top)
      if not arguments.json:
        say('\n' * bool(shown) + _table(path, result))
      shown.append({'path': path, 'predictions': result})
  if arguments.json:
    print(json.dumps(shown, indent=2))
  if broken:
    raise UserError(_unreadable(broken, len(found.files)))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = ArgumentParser(
    prog='python -m effnet_jax predict',
    description=_DESCRIPTION,
    epilog=_EXAMPLES,
  )
  parser.add_argument(
    'image',
    metavar='IMAGE',
    nargs='+',
    help='image files; and folders, searched with all that is in them',
  )
  model_arguments.add(parser)
  parser.add_argument(
    '--top',
    metavar='K',
    type=int,
    default=5,
    help='how many classes of each image (default: %(default)s)',
  )
  parser.add_argument(
    '--json', action='store_true', help='a list of objects, see below'
  )
  parser.add_argument(
    '--batch',
    metavar='N',
    type=int,
    default=32,
    help='images at a time (default: %(default)s)',
  )
  arguments = parser.parse_args(argv)
  for option in ('top', 'batch'):
    if getattr(arguments, option) < 1:
      parser.error(f'--{option} must be 1 or more')
  return arguments


def _outcomes(
  weights: Weights, files: Sequence[str], batch_size: int
) -> Iterator[tuple[str, np.ndarray | DecodeError]]:
  """Yields every path with its probabilities, or with what is wrong."""
  spec = weights.spec
  logits_of = predictor(efficientnet.build(spec), weights.variables)
  preprocess = Preprocess.of(spec, exif_orientation=True)
  for paths, images in _read_ahead(files, preprocess, batch_size):
    # Padded to one shape, for every other would be compiled anew; not where
    # images go through one by one.
    count = len(paths) if cores.is_default() else batch_size
    batch = np.zeros((count, spec.resolution, spec.resolution, 3), np.uint8)
    for row, image in enumerate(images):
      if not isinstance(image, DecodeError):
        batch[row] = image
    logits = np.asarray(logits_of(normalize(jnp.asarray(batch), spec)))
    if not np.isfinite(logits).all():
      raise UserError(
        f'{spec.name} gives logits that are not finite: these weights are '
        'damaged, or training diverged'
      )
    for path, image, row in zip(
      paths, images, logits[: len(paths)], strict=True
    ):
      bad = isinstance(image, DecodeError)
      yield path, image if bad else _softmax(row)


def _read_ahead(
  files: Sequence[str], preprocess: Preprocess, batch_size: int
) -> Iterator[tuple[Sequence[str], list[np.ndarray | DecodeError]]]:
  """Yields batches; the next is read by threads while one is used."""
  threads = min(environment.cores(), _MAX_THREADS)
  with ThreadPoolExecutor(threads) as pool:
    waiting: list[tuple[Sequence[str], list[Future]]] = []
    for start in range(0, len(files), batch_size):
      paths = files[start : start + batch_size]
      waiting.append(
        (paths, [pool.submit(_read, path, preprocess) for path in paths])
      )
      if len(waiting) > 1:
        paths, futures = waiting.pop(0)
        yield paths, [future.result() for future in futures]
    for paths, futures in waiting:
      yield paths, [future.result() for future in futures]


def _read(path: str, preprocess: Preprocess) -> np.ndarray | DecodeError:
  try:
    return image_files.read(path, preprocess)
  except DecodeError as error:
    return error


def _softmax(logits: np.ndarray) -> np.ndarray:
  logits = logits.astype(np.float64)
  odds = np.exp(logits - logits.max())
  return odds / odds.sum()


def _top(probabilities: np.ndarray, names: Sequence[str], count: int) -> Result:
  order = np.argsort(-probabilities, kind='stable')[:count]
  return [
    {
      'index': int(index),
      'name': names[index],
      'probability': float(probabilities[index]),
    }
    for index in order
  ]


def _table(path: str, result: Result) -> str:
  digits = max(len(str(row['index'])) for row in result)
  width = max(len(row['name']) for row in result)
  lines = [path]
  for row in result:
    share = row['probability']
    line = f'  {row["index"]:{digits}}  {row["name"]:{width}}  {share:6.1%}'
    lines.append(f'{line}  {"#" * round(_BAR * share)}'.rstrip())
  return '\n'.join(lines)


def _unreadable(broken: Sequence[DecodeError], total: int) -> str:
  if total == 1:
    return str(broken[0])
  named = '; '.join(str(error) for error in broken[:_MAX_NAMED])
  more = ' ...' if len(broken) > _MAX_NAMED else ''
  return f'{len(broken)} of {total} images cannot be used: {named}{more}'
