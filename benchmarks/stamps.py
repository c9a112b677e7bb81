"""Tux Paint's stamps: linear probe, fine-tuning, training from scratch.

    apt-get download tuxpaint-stamps-default
    dpkg-deb -x tuxpaint-stamps-default_*.deb PACKAGE   # no root, 161 MB
    python benchmarks/stamps.py --stamps PACKAGE --work WORK [--fold 0] \\
      [--methods probe,finetune,scratch]

283 cut-outs of 8 classes from Debian's package (GPL-2, hence read where it lies
and never copied into this repository): all PNGs but cartoons, mirrored ones,
symbols, seasons and towns. They are laid on a white square, for a quarter of
them are more than 1.6 times as long as wide and the centre crop would take off
their ends, and written to WORK, a folder of train and test for each of five
folds, StratifiedKFold(5, shuffle=True, random_state=0) over the sorted paths.
Fold and resolution are the same for all methods. Nothing is chosen by a fold's
test images: runs have a fixed length and their last weights (EMA) are measured,
once. The settings in configs/finetune.py were found on fold 0, so the mean of
the other four is reported beside that of all five.

A fold that is in the result file is not run again, and one that was cut off
goes on from its last checkpoint.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import reports

ROOT = Path(__file__).resolve().parents[1]
FOLDS = 5
METHODS = ('probe', 'finetune', 'scratch')
RESOLUTION = 160
ANIMALS = {'birds': 'bird', 'mammals': 'mammal'}
OTHER_ANIMALS = {'amphibians', 'fish', 'insects', 'lizards', 'marsupials'}
OTHER_ANIMALS |= {'shellfish'}
TOPICS = {'clothes', 'food', 'household', 'plants', 'vehicles'}
# Too few images to hold some out.
LENGTH = '30 epochs'
FIXED_LENGTH = (
  f'--config.duration={LENGTH}',
  '--config.data.train_split=train',
  '--config.data.eval_split=test',
  '--config.data.test_split=test',
  f'--config.evaluation.every={LENGTH}',
  '--config.evaluation.report=last',
  '--config.early_stop=0',
)
# From scratch the head is no more new than the rest, and rates are larger. The
# clipping that guards fine-tuning keeps fresh weights from learning at all: at
# 64 pixels, within the training images of fold 0, .50 without it and .17 with.
FROM_SCRATCH = (
  '--config.init_from=',
  '--config.init_head=same',
  '--config.optimizer.group_rates=',
  '--config.model.frozen_bn=false',
  '--config.schedule.learning_rate=0.4',
  '--config.optimizer.clip_norm=0',
)


def class_of(path: str) -> str | None:
  """Returns the class of a stamp, None for one that is left out.

  Args:
    path: below the folder `stamps`, such as `animals/birds/duck.png`.
  """
  if not path.endswith('.png') or path.endswith('_mirror.png'):
    return None
  if 'cartoon' in path:
    return None
  topic, *rest = path.split('/')
  if topic in TOPICS:
    return topic
  kind = rest[0] if topic == 'animals' else ''
  return ANIMALS.get(kind) or ('animal' if kind in OTHER_ANIMALS else None)


def find(package: Path) -> list[tuple[str, str]]:
  """Returns (path, class) of all stamps that count, sorted by path.

  Raises:
    SystemExit: the package is not there.
  """
  root = package / 'usr/share/tuxpaint/stamps'
  paths = sorted(str(p.relative_to(root)) for p in root.rglob('*.png'))
  found = [(p, name) for p in paths if (name := class_of(p)) is not None]
  if not found:
    raise SystemExit(
      f'no stamps in {root}: apt-get download tuxpaint-stamps-default && '
      f'dpkg-deb -x tuxpaint-stamps-default_*.deb {package}'
    )
  return found


def folds(names: Sequence[str]) -> list[dict[str, list[int]]]:
  """Returns the indices of train and test, fold by fold."""
  from sklearn.model_selection import StratifiedKFold

  labels = np.unique(names, return_inverse=True)[1]
  splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
  return [
    {'train': train.tolist(), 'test': test.tolist()}
    for train, test in splitter.split(labels, labels)
  ]


def lay_out(package: Path, work: Path, fold: int) -> Path:
  """Writes the images of a fold on white squares; returns their folder."""
  from PIL import Image

  found = find(package)
  target = work / f'fold_{fold}'
  done = target / 'complete'
  if done.exists():
    return target
  for split, indices in folds([name for _, name in found])[fold].items():
    for index in indices:
      path, name = found[index]
      source = package / 'usr/share/tuxpaint/stamps' / path
      to = target / split / name / path.replace('/', '_')
      to.parent.mkdir(parents=True, exist_ok=True)
      image = Image.open(source).convert('RGBA')
      side = max(image.size)
      white = Image.new('RGBA', (side, side), 'white')
      corner = ((side - image.width) // 2, (side - image.height) // 2)
      white.alpha_composite(image, corner)
      white.convert('RGB').save(to)
  done.touch()
  return target


def train(images: Path, workdir: Path, extra: Sequence[str]) -> dict[str, Any]:
  """Runs train.py, or goes on with it; returns what its summary says."""
  command = [
    *(sys.executable, str(ROOT / 'train.py'), f'--workdir={workdir}'),
    f'--config={ROOT / "configs/finetune.py"}',
    f'--config.data.path={images}',
    f'--config.model.overrides.resolution={RESOLUTION}',
    *FIXED_LENGTH,
    *extra,
  ]
  subprocess.run(command, check=True)
  summary = json.loads((workdir / 'summary.json').read_text())
  keys = ('test_top1', 'test_top1_ema', 'step', 'seconds')
  return {
    'top1': summary['test_top1_ema'],
    **{key: summary[key] for key in keys},
  }


def probe(images: Path, workdir: Path) -> dict[str, Any]:
  """Runs the command `probe`."""
  del workdir
  command = [
    *(sys.executable, '-m', 'effnet_jax', 'probe', '--json'),
    *('--model', 'lite0', '--data', str(images)),
    *('--train', 'train', '--test', 'test'),
    *('--resolution', str(RESOLUTION)),
  ]
  done = subprocess.run(
    command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
  )
  result = json.loads(done.stdout)
  linear, knn = (result[k]['mean'] / 100 for k in ('linear', 'neighbours'))
  return {'top1': linear, 'neighbours': knn}


def run(
  method: str, images: Path, workdir: Path, extra: Sequence[str]
) -> dict[str, Any]:
  """Returns the row of one method on one fold."""
  if method == 'probe':
    return probe(images, workdir)
  scratch = FROM_SCRATCH if method == 'scratch' else ()
  return train(images, workdir, [*scratch, *extra])


def summarised(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """Returns mean and spread over the folds that a method has behind it."""
  top1 = [row['top1'] for row in rows.values()]
  untouched = [row['top1'] for fold, row in rows.items() if fold != '0']
  return {
    'folds': len(top1),
    'mean': float(np.mean(top1)),
    'std': float(np.std(top1)),  # of the folds, not of their mean
    'mean_without_fold_0': float(np.mean(untouched)) if untouched else None,
  }


def main(argv: Sequence[str] | None = None) -> None:
  parser = reports.parser(__doc__, 'stamps')
  add = parser.add_argument
  add('--stamps', type=Path, required=True, help='where dpkg-deb unpacked')
  add('--work', type=Path, required=True, help='for images and runs')
  add('--methods', default=','.join(METHODS))
  add('--fold', type=int, choices=range(FOLDS), help='this one only')
  add('extra', nargs=argparse.REMAINDER, help='-- and keys of the config')
  arguments = parser.parse_args(argv)
  methods = arguments.methods.split(',')
  if unknown := set(methods) - set(METHODS):
    raise SystemExit(f'--methods: {", ".join(unknown)} is none of {METHODS}')
  extra = [flag for flag in arguments.extra if flag != '--']
  chosen = range(FOLDS) if arguments.fold is None else [arguments.fold]
  report = reports.read(arguments.out)
  rows = report.setdefault('rows', {})
  for method in methods:
    for fold in chosen:
      done = rows.setdefault(method, {})
      if str(fold) in done:
        continue
      images = lay_out(arguments.stamps, arguments.work, fold)
      workdir = arguments.work / f'{method}_{fold}'
      row = run(method, images, workdir, extra)
      done[str(fold)] = {**row, 'keys': extra} if extra else row
      report['machine'] = reports.cores()
      report['resolution'] = RESOLUTION
      report['versions'] = reports.versions(('python', 'jax', 'scikit-learn'))
      report['top1'] = {m: summarised(r) for m, r in rows.items() if r}
      reports.write(arguments.out, report)
      print(method, fold, done[str(fold)], report['top1'][method], flush=True)


if __name__ == '__main__':
  main()
