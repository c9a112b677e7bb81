"""A sweep's work directories as a result file."""

import json

import pytest

from effnet_jax.sweep import plan

SWEEP = plan.Sweep('base.py', runs={'a': {}, 'b': {'ema': 0.5}}, seeds=(0, 1))


@pytest.fixture
def ablation(script):
  return script('ablation')


def _finish(directory, run, top1):
  workdir = directory / run.name
  workdir.mkdir()
  summary = {
    **{'test_top1': top1, 'test_top1_ema': top1 / 2, 'seconds': 3.0},
    **{'params': 5, 'macs': 7, 'test_examples': 10.0, 'versions': {}},
  }
  (workdir / 'summary.json').write_text(json.dumps(summary))
  entries = (
    {'step': 1, 'top1': 0.25},
    {'step': 2, 'eval_top1': 0.5, 'eval_top1_ema': 0.75},
    {'step': 3, 'top1': top1},
  )
  lines = '\n'.join(map(json.dumps, entries))
  (workdir / 'metrics.jsonl').write_text(lines + '\n')


def test_means_and_curves(ablation, tmp_path):
  for number, run in enumerate(plan.runs(SWEEP)):
    _finish(tmp_path, run, (0.2, 0.4, 0.6, 1.0)[number])
  report = ablation.of_sweep(SWEEP, tmp_path)
  means = [line['test_top1'] for line in report['variants']]
  assert means == pytest.approx([0.3, 0.8])
  assert [row['train_top1'] for row in report['runs']] == [0.2, 0.4, 0.6, 1.0]
  assert report['runs'][0]['eval'] == [[2, 0.5, 0.75]]
  assert report['overrides'] == {'a': {}, 'b': {'ema': 0.5}}


def test_a_run_that_is_not_finished_is_named(ablation, tmp_path):
  first, *_ = plan.runs(SWEEP)
  _finish(tmp_path, first, 0.5)
  with pytest.raises(SystemExit, match='3 runs .* the first a-seed1'):
    ablation.of_sweep(SWEEP, tmp_path)
