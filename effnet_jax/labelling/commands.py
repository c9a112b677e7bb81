"""The command `pseudo-label`: what a teacher says of unlabelled images."""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from effnet_jax import model_arguments
from effnet_jax.arguments import ArgumentParser
from effnet_jax.data import class_names
from effnet_jax.labelling import teacher

_DESCRIPTION = """\
Labels images by a teacher, for a student to train on beside labelled ones
(Noisy Student, Xie et al. 2020): every class's probability, of the images whose
first class is likely enough, as many images of every class; a class that has
too few repeats what it has.

UNLABELLED is a folder, of which all images at any depth are taken, or a split
of a data set, whose own labels are not looked at:
  fashion_mnist:SPLIT   digits:SPLIT   tfds:NAME:SPLIT   folder:PATH:SPLIT

A command that was interrupted goes on when it is given again. What it writes is
what config.data.unlabelled=DIR takes, with config.objective.name=noisy_student
(configs/noisy_student.py). The student's run is the next teacher."""

_EXAMPLES = """\
examples:
  python -m effnet_jax pseudo-label --weights runs/teacher --data photos/ \\
    --out labels/1
  python -m effnet_jax pseudo-label --weights runs/student --out labels/2 \\
    --data 'fashion_mnist:train[2000:]'
  python -m effnet_jax pseudo-label --weights hf://timm/tf_efficientnet_b7.ra \\
    --data tfds:my_photos:train --per-class 130000 --out labels/b7"""

_MAX_CLASSES = 30  # that the table names; of more, the rarest


def pseudo_label(argv: list[str]) -> None:
  """Labels, and prints how many images of each class there are."""
  arguments = _parse(argv)
  manifest, finished = teacher.pseudo_label(
    model_arguments.read(arguments),
    arguments.data,
    arguments.out,
    title=model_arguments.source(arguments),
    data_dir=arguments.data_dir,
    min_confidence=arguments.min_confidence,
    per_class=arguments.per_class,
    temperature=arguments.temperature,
    hard=arguments.hard,
    exif_orientation=arguments.exif_orientation,
    shard_size=arguments.shard_size,
    batch_size=arguments.batch,
    workers=arguments.workers,
  )
  if finished:
    print(f'{arguments.out} is finished; nothing to do.')
  print(_table(manifest))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = ArgumentParser(
    prog='python -m effnet_jax pseudo-label',
    description=_DESCRIPTION,
    epilog=_EXAMPLES,
  )
  model_arguments.add(parser)
  _add_choice(parser)
  _add_reading(parser)
  arguments = parser.parse_args(argv)
  for option, lowest in (
    *(('per_class', 1), ('shard_size', 1), ('batch', 1), ('workers', 0)),
  ):
    value = getattr(arguments, option)
    if value is not None and value < lowest:
      parser.error(f'--{option.replace("_", "-")} must be {lowest} or more')
  if not 0 <= arguments.min_confidence <= 1:
    parser.error('--min-confidence must be in 0..1')
  if not (arguments.temperature > 0 and math.isfinite(arguments.temperature)):
    parser.error('--temperature must be above 0')
  if arguments.hard and arguments.temperature != 1:
    parser.error('--temperature changes nothing with --hard: leave one out')
  return arguments


def _add_choice(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--data', metavar='UNLABELLED', required=True, help='see above')
  add('--out', metavar='DIR', required=True, help='where the labels go')
  add(
    '--min-confidence',
    metavar='P',
    type=float,
    default=0.3,
    help='of the first class, for an image to be taken (default: %(default)s)',
  )
  add(
    '--per-class',
    metavar='N',
    type=int,
    help='images of every class: the N most confident, repeated where there '
    'are fewer (default: as many as the largest class has)',
  )
  add(
    '--temperature',
    metavar='T',
    type=float,
    default=1.0,
    help='of the labels; confidence is measured at 1 (default: %(default)s)',
  )
  add('--hard', action='store_true', help='the first class alone is the label')


def _add_reading(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add(
    '--exif-orientation',
    action='store_true',
    help='turn photos upright, as config.data.exif_orientation does',
  )
  add('--data-dir', metavar='DIR', default='', help="TFDS's, if not its own")
  add(
    '--shard-size',
    metavar='N',
    type=int,
    default=teacher.SHARD_SIZE,
    help='images that are labelled before they are written '
    '(default: %(default)s)',
  )
  add(
    '--batch',
    metavar='N',
    type=int,
    default=64,
    help='images at a time, over all devices (default: %(default)s)',
  )
  add(
    '--workers',
    metavar='N',
    type=int,
    default=0,
    help='processes that decode images (default: threads of this one)',
  )


def _table(manifest: dict[str, Any]) -> str:
  counts, size = manifest['counts'], manifest['num_classes']
  names = class_names.output_names(size, manifest['class_names'])
  shown = list(range(size))
  if size > _MAX_CLASSES:
    rarest = sorted(shown, key=lambda i: counts['confident'][i])
    shown = sorted(rarest[:_MAX_CLASSES])
  columns = ('labelled', 'confident', 'taken', 'examples')
  table = [('class', *columns)]
  for index in shown:
    row = (f'{counts[column][index]:,}' for column in columns)
    table.append((names[index], *row))
  if len(shown) < size:
    table.append((f'({size - len(shown)} more)', *[''] * len(columns)))
  totals = (f'{sum(counts[column]):,}' for column in columns)
  table.append(('all', *totals))
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  lines = [
    '  '.join(
      [row[0].ljust(widths[0])]
      + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
    ).rstrip()
    for row in table
  ]
  empty = sum(not count for count in counts['examples'])
  if empty:
    lines.append(f'{empty} of {size} classes have no image')
  if manifest['unreadable']:
    lines.append(f'{manifest["unreadable"]:,} images cannot be read')
  return '\n'.join(lines)
