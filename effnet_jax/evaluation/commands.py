"""The command `evaluate`: top-1 and top-5 of a network on labelled images."""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

from effnet_jax import model_arguments
from effnet_jax.arguments import ArgumentParser
from effnet_jax.errors import UserError
from effnet_jax.evaluation import (
  attacked,
  label_sets,
  robustness,
  robustness_options,
  run_data,
)
from effnet_jax.evaluation.known import known_results
from effnet_jax.evaluation.measuring import Measurement
from effnet_jax.models.published import Result
from effnet_jax.progress import progress
from effnet_jax.weights.load import Weights

_DESCRIPTION = """\
Measures top-1 and top-5 accuracy with the weights' own preprocessing, every
image once; beside it stands what others got from the same weights at the same
resolution.

SOURCE of the data is a folder of class folders, PATH/CLASS/IMAGE, whose names
are the network's classes (of ImageNet also n01440764 or 0 to 999); or a data
set that TFDS has prepared as ArrayRecord:
  imagenet       ILSVRC 2012, 50,000 validation images
  imagenet_real  the same with ReaL labels: any right one counts, images
                 without a label do not
  imagenet_v2    ImageNet-V2, matched frequency; the others are
                 imagenet_v2/threshold-0.7 and imagenet_v2/topimages
  imagenet_a     ImageNet-A, choosing among its 200 classes only
  imagenet_r     ImageNet-R, likewise
or the data set of a training run whose directory --weights gives:
  run            what it was tested on; --split train or eval: what it was
                 trained and evaluated on, --split 'test[:500]': any other
What is missing ends in the command that prepares it."""

_EXAMPLES = (
  """\
examples:
  python -m effnet_jax evaluate --model lite0 --data imagenet
  python -m effnet_jax evaluate --data imagenet --batch 256 \\
    --weights hf://timm/tf_efficientnet_b0.ns_jft_in1k
  python -m effnet_jax evaluate --weights runs/mine --data photos/test
  python -m effnet_jax evaluate --model lite0 --data imagenet-a/ --restrict
  python -m effnet_jax evaluate --weights runs/mine --data run --attack 1
  python -m effnet_jax evaluate --model lite0 --data imagenet --corruptions
  python -m effnet_jax evaluate --weights runs/mine --data photos/test \\
    --corruptions fog,snow --severities 3 --figure corruptions.png

"""
  + robustness_options.HELP
  + """

--json gives model, weights, data, resolution, resampling, classes (that the
network may choose among), images (that count), unlabelled and unreadable (that
do not), top1 and top5 in per cent, seconds, and known: a list of {top1, top5,
source, kind, weights, resolution, note}; with --attack also attack: {epsilon,
steps, step_size, top1, top5}; with --corruptions also corruptions: {kinds:
{KIND: {errors: {SEVERITY: per cent}, error, ce}}, error, mce,
mce_without_frost, scaled, notes}."""
)


def evaluate(argv: list[str]) -> None:
  """Prints the accuracy, or JSON."""
  arguments = _parse(argv)
  kinds, severities = robustness_options.parsed(arguments)
  if arguments.data != run_data.NAME:
    label_sets.check_name(arguments.data)
  weights = model_arguments.read(arguments)
  label_set = _open(arguments, weights)
  begun = time.perf_counter()
  measured = (weights, label_set, arguments.batch, arguments.workers)
  measurement = Measurement(*measured)
  with progress(len(label_set.source), 'evaluating') as advance:
    means, read = measurement(advance)
  source = model_arguments.source(arguments)
  spec, images = weights.spec, int(means['examples'])
  known = known_results(
    label_set.benchmark, weights.origin or source, spec, weights.tag
  )
  result = {
    'model': spec.name,
    'weights': source,
    'data': label_set.title,
    'resolution': spec.resolution,
    'resampling': spec.resampling,
    'classes': int(label_set.ranked.sum()),
    'images': images,
    'unlabelled': read - images,
    'unreadable': len(label_set.source) - read,
    'top1': 100 * means['top1'],
    'top5': 100 * means['top5'],
    'seconds': time.perf_counter() - begun,
    'known': [_known_fields(one) for one in known],
  }
  if arguments.attack is not None:
    attack = attacked.attack_of(arguments.attack, arguments.attack_steps)
    with progress(len(label_set.source), 'attacking') as advance:
      means, _ = Measurement(*measured, attack)(advance)
    result['attack'] = {
      **dataclasses.asdict(attack),
      'top1': 100 * means['top1'],
      'top5': 100 * means['top5'],
    }
  if kinds:
    result['corruptions'] = robustness_options.run(
      arguments, measurement, result, kinds, severities
    )
  print(json.dumps(result, indent=2) if arguments.json else _text(result))


def _open(
  arguments: argparse.Namespace, weights: Weights
) -> label_sets.LabelSet:
  place = {'split': arguments.split, 'data_dir': arguments.data_dir}
  if arguments.data == run_data.NAME:
    if arguments.restrict:
      raise UserError('--restrict is for folders: a run has its own classes')
    opened = run_data.open_run_data(
      model_arguments.source(arguments), weights.spec.num_classes, **place
    )
    return label_sets.limited(opened, arguments.limit)
  return label_sets.open_label_set(
    arguments.data,
    weights.spec.num_classes,
    weights.class_names,
    **place,
    limit=arguments.limit,
    restrict=arguments.restrict,
  )


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = ArgumentParser(
    prog='python -m effnet_jax evaluate',
    description=_DESCRIPTION,
    epilog=_EXAMPLES,
  )
  model_arguments.add(parser)
  add = parser.add_argument
  add('--data', metavar='SOURCE', required=True, help='see above')
  add(
    '--split',
    metavar='NAME',
    default='',
    help="another split, e.g. 'validation[:5000]'; of a folder PATH/NAME",
  )
  add(
    '--data-dir',
    metavar='DIR',
    default='',
    help="TFDS's data directory (default: TFDS's own); of a run, where its "
    'data lie now',
  )
  add(
    '--limit',
    metavar='N',
    type=int,
    help='no more than N images, spread evenly over all',
  )
  add(
    '--restrict',
    action='store_true',
    help='let the network choose only among the classes of the folder',
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
  add(
    '--attack',
    metavar='EPSILON',
    type=float,
    help='then once more under attack: each pixel changed by at most EPSILON '
    'of 255, by projected gradient ascent on the loss',
  )
  add(
    '--attack-steps',
    metavar='N',
    type=int,
    default=10,
    help='of 2.5 EPSILON / N each (default: %(default)s)',
  )
  robustness_options.add(parser)
  add('--json', action='store_true', help='an object, see below')
  arguments = parser.parse_args(argv)
  for option, lowest in (
    *(('batch', 1), ('limit', 1), ('workers', 0)),
    *(('attack', 0), ('attack-steps', 1)),
  ):
    value = getattr(arguments, option.replace('-', '_'))
    if value is not None and value < lowest:
      parser.error(f'--{option} must be {lowest} or more')
  return arguments


def _known_fields(result: Result) -> dict[str, Any]:
  fields = ('top1', 'top5', 'source', 'kind', 'weights', 'resolution', 'note')
  return {field: getattr(result, field) for field in fields}


def _text(result: dict[str, Any]) -> str:
  left_out = ''.join(
    f', {result[why]:,} {why}'
    for why in ('unlabelled', 'unreadable')
    if result[why]
  )
  rate = (result['images'] + result['unlabelled']) / result['seconds']
  lines = [
    f'{result["model"]} ({result["weights"]}) on {result["data"]}: '
    f'{result["resolution"]} pixels, {result["resampling"]} resampling, '
    f'{result["classes"]} classes',
    f'top-1 {result["top1"]:.3f} %, top-5 {result["top5"]:.3f} %, '
    f'{result["images"]:,} images{left_out}, {result["seconds"]:.0f} seconds '
    f'({rate:.1f} images/s)',
  ]
  if 'attack' in result:
    attack = result['attack']
    lines.append(
      f'attacked within {attack["epsilon"]:g} of 255 in {attack["steps"]} '
      f'steps: top-1 {attack["top1"]:.3f} %, top-5 {attack["top5"]:.3f} %'
    )
  for known in result['known']:
    top5 = f', top-5 {known["top5"]:.3f} %' if known['top5'] else ''
    size = f' at {known["resolution"]} pixels' if known['resolution'] else ''
    note = f'; {known["note"]}' if known['note'] else ''
    lines.append(
      f'known: top-1 {known["top1"]:.3f} %{top5}{size}, {known["kind"]} by '
      f'{known["source"]}{note}'
    )
  if 'corruptions' in result:
    lines.append(robustness.text(result['corruptions']))
  return '\n'.join(lines)
