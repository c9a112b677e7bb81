"""Tables of docs/experiments.md: what was trained here, on real images."""

import statistics

from result_tables import read, result, table

_METHODS = {
  'probe': 'linear probe',
  'finetune': 'fine-tuning',
  'scratch': 'from scratch',
}


def stamps() -> str:
  """A row a method: top-1 of every fold, their mean and spread."""
  report = read('stamps')
  methods = [name for name in _METHODS if name in report['rows']]
  folds = sorted({fold for name in methods for fold in report['rows'][name]})
  return table(
    ('', *(f'fold {fold}' for fold in folds), 'mean +- std', 'without fold 0'),
    (
      (
        _METHODS[name],
        *(
          f'{row["top1"]:.3f}' if row else ''
          for row in (report['rows'][name].get(fold) for fold in folds)
        ),
        f'{summary["mean"]:.3f} +- {summary["std"]:.3f}',
        f'{summary["mean_without_fold_0"]:.3f}',
      )
      for name in methods
      for summary in (report['top1'][name],)
    ),
    f'{report["resolution"]} pixels, {report["machine"]} {result("stamps")}',
  )


def regularizers() -> str:
  """A row a variant: training and test top-1, the gain over none."""
  report = read('fashion_regularizers')
  runs = report['runs']
  of = lambda variant, key: [r[key] for r in runs if r['variant'] == variant]
  plain = dict(zip(of('none', 'seed'), of('none', 'test_top1'), strict=True))
  rows = []
  for line in report['variants']:
    name = line['variant']
    gains = [
      100 * (score - plain[seed])
      for seed, score in zip(
        of(name, 'seed'), of(name, 'test_top1'), strict=True
      )
    ]
    rows.append(
      (
        name,
        f'{100 * statistics.fmean(of(name, "train_top1")):.1f}',
        f'{100 * line["test_top1"]:.2f} +- {100 * line["test_top1_std"]:.2f}',
        f'{100 * line["test_top1_ema"]:.2f} +- '
        f'{100 * line["test_top1_ema_std"]:.2f}',
        ', '.join(f'{gain:+.2f}' for gain in gains) if name != 'none' else '',
      )
    )
  return table(
    ('', 'training', 'test, raw', 'test, EMA', 'over none, by seed (raw)'),
    rows,
    f'Top-1 in per cent, {report["test_images"]:,} test images; +- is the '
    f'standard deviation of {report["variants"][0]["runs"]} seeds. '
    f'{report["machine"]["processor"]} {result("fashion_regularizers")}',
  )


_STAGES = {
  'teacher': 'teacher',
  'student': 'student',
  'second_student': 'second student',
}


def noisy_student(name: str = 'noisy_student') -> str:
  """A row a stage: test top-1, the gain over the stage before, its labels."""
  report = read(name)
  of = {(row['stage'], row['seed']): row for row in report['rows']}
  seeds = sorted({seed for _, seed in of})
  rows = []
  for line, before in zip(report['summary'], (None, *_STAGES), strict=False):
    stage = line['stage']
    here = [of[stage, seed] for seed in seeds if (stage, seed) in of]
    gains = [
      f'{100 * (row["test_top1"] - of[before, row["seed"]]["test_top1"]):+.2f}'
      for row in here
      if before
    ]
    right = [100 * row['chosen_right'] for row in here if before]
    rows.append(
      (
        _STAGES[stage],
        ', '.join(f'{100 * row["test_top1"]:.2f}' for row in here),
        f'{line["mean"]:.2f} +- {line["standard_deviation"]:.2f}',
        ', '.join(gains),
        f'{statistics.fmean(right):.2f}' if right else '',
      )
    )
  return table(
    ('', 'test, by seed', 'mean +- std', 'over the one before', 'labels right'),
    rows,
    'Top-1 in per cent, averaged weights, 10,000 test images; labels right: of '
    'those it was trained on, the mean of the seeds. '
    f'{report["machine"]["processor"]} {result(name)}',
  )
