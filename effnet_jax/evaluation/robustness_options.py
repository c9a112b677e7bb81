"""The options of `evaluate` that corrupt images."""

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any

from effnet_jax.data.corruptions.corruption import KINDS, SEVERITIES, check
from effnet_jax.errors import UserError
from effnet_jax.evaluation import robustness, robustness_figure
from effnet_jax.evaluation.measuring import Measurement
from effnet_jax.progress import progress

HELP = f"""\
--corruptions evaluates again under ImageNet-C's corruptions (Hendrycks and
Dietterich 2019), made on the fly, after the crop, at the network's own
resolution: {', '.join(KINDS)}.
frost is drawn, NOT the published photographs: its error and mCE over 15 kinds
are not comparable with published ones, so mCE over the other 14 stands beside.
Five severities of fifteen kinds are 75 passes over the images."""


def add(parser: argparse.ArgumentParser) -> None:
  """Adds the options."""
  add = parser.add_argument
  add(
    '--corruptions',
    metavar='KIND,...',
    nargs='?',
    const='all',
    help='then again under corruptions, see below (default: all 15)',
  )
  add(
    '--severities',
    metavar='N-M',
    help='of corruptions, 1 to 5, e.g. 3 or 1,3,5 (default: 1-5)',
  )
  add(
    '--scale-corruptions',
    action='store_true',
    help='scale what is in pixels by (resolution) / 224: for small images',
  )
  add(
    '--figure',
    metavar='PNG',
    help='draw the errors under corruptions, and one image under each',
  )


def parsed(
  arguments: argparse.Namespace,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
  """Returns kinds and severities; no kinds where no corruption is asked for.

  Raises:
    UserError: unknown ones, an option without --corruptions, a figure that
      cannot be written.
  """
  if arguments.corruptions is None:
    for option in ('severities', 'scale_corruptions', 'figure'):
      if getattr(arguments, option):
        name = option.replace('_', '-')
        raise UserError(f'--{name} is of --corruptions: give that as well')
    return (), ()
  kinds = tuple(dict.fromkeys(arguments.corruptions.split(',')))
  kinds = KINDS if kinds == ('all',) else kinds
  severities = _severities(arguments.severities or '1-5')
  for kind in kinds:
    check(kind, severities[0])
  if arguments.figure:
    robustness_figure.check_matplotlib()
    folder = os.path.dirname(arguments.figure) or '.'
    if not os.path.isdir(folder):
      raise UserError(f'--figure {arguments.figure}: no folder {folder}')
  return kinds, severities


def run(
  arguments: argparse.Namespace,
  measurement: Measurement,
  clean: dict[str, Any],
  kinds: Sequence[str],
  severities: Sequence[int],
) -> dict[str, Any]:
  """Measures and draws what is asked for; see `robustness.measure`.

  `clean` is the result without corruption, the last two are of `parsed`.
  """
  passes = len(kinds) * len(severities)
  source = measurement.label_set.source
  with progress(passes * len(source), 'corrupting') as advance:
    result = robustness.measure(
      measurement,
      kinds,
      severities,
      scaled=arguments.scale_corruptions,
      advance=advance,
    )
  if arguments.figure:
    robustness_figure.draw_results(
      result,
      100 - clean['top1'],
      robustness_figure.first_image(source, measurement.preprocess),
      f'{clean["model"]} on {clean["data"]}, {clean["resolution"]} pixels',
      arguments.figure,
    )
  return result


def _severities(given: str) -> tuple[int, ...]:
  numbers: set[int] = set()
  for part in given.split(','):
    match = re.fullmatch(r'([1-5])(?:-([1-5]))?', part)
    if match is None or int(match[1]) > int(match[2] or match[1]):
      raise UserError(
        f'--severities {given}: give numbers of {SEVERITIES[0]} to '
        f'{SEVERITIES[-1]}, e.g. 1-5 or 1,3,5'
      )
    numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
  return tuple(sorted(numbers))
