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
