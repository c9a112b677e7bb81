"""Who is timed when, and what comes of the times."""

import argparse
import json

import pytest

_WORKER = """
import sys
sys.path[:0] = ['benchmarks', '.']
import workers
said = []
def measure(warm, calls):
  said.append((warm, calls))
  if sys.argv[1] == 'dies' and len(said) > 2:
    raise ValueError('no memory')
  return [float(sys.argv[1]) if sys.argv[1] != 'dies' else 1.0] * calls
workers.serve({'measure': measure, 'said': lambda: said})
"""


@pytest.fixture
def interleaved(script, monkeypatch):
  module = script('interleaved')
  monkeypatch.setattr(module, '_REST', 0)
  monkeypatch.setattr(module, '_LISTEN', 0.001)
  return module


@pytest.mark.parametrize(
  ('milliseconds', 'turns', 'warm', 'calls'),
  [
    (1, 20, 1, 10),  # 10 calls of the 100 that half a second holds
    (100, 20, 1, 4),
    (400, 12, 1, 1),  # 10 s are 25 calls, every other one warms up
    (4000, 5, 0, 1),  # 20 s, but five calls there must be
  ],
)
def test_turns_fill_the_seconds(interleaved, milliseconds, turns, warm, calls):
  plan = interleaved.plan(milliseconds, rounds=20, seconds=10)
  assert (plan.turns, plan.warm, plan.calls) == (turns, warm, calls)
  assert sum(map(plan.holds, range(20))) == turns


def test_the_turns_of_a_slow_one_are_spread(interleaved):
  plan = interleaved.plan(4000, rounds=20, seconds=10)
  held = [round_ for round_ in range(20) if plan.holds(round_)]
  assert {b - a for a, b in zip(held, held[1:], strict=False)} == {4}


def test_in_turns(interleaved):
  said = []
  calls = {
    name: lambda name=name: said.append(name) or len(said) for name in 'ab'
  }
  assert interleaved.in_turns(calls, 2) == {'a': [1, 3], 'b': [2, 4]}
  assert said == list('abab')


def test_a_race(interleaved):
  names = ('2', '900', 'dies')
  pool = {
    name: interleaved.workers.Worker(['-c', _WORKER, name]) for name in names
  }
  try:
    found, others = interleaved.race(pool, rounds=6, seconds=3)
    said = {name: pool[name].ask('said') for name in names}
  finally:
    for worker in pool.values():
      worker.close()
  assert found['2'] == {'milliseconds': 2.0, 'fastest': 2.0, 'calls': 60}
  assert found['900']['calls'] == 5
  assert found['dies'] == {'error': 'ValueError: no memory'}
  assert said['2'] == [[1, 1]] + [[1, 10]] * 6
  assert len(said['dies']) == 3  # it is asked no more
  assert others >= 0


def test_means_are_geometric(interleaved):
  ours = {'milliseconds': 1.0, 'fastest': 0.5, 'calls': 9}
  ratios = [
    interleaved.ratio(ours, {'milliseconds': m, 'fastest': 1.0, 'calls': 9})
    for m in (2.0, 8.0)
  ]
  assert [r['ratio'] for r in ratios] == [0.5, 0.125]
  mean = interleaved.means(ratios, 0.25)
  assert (mean['ratio'], mean['fastest_ratio'], mean['cases']) == (0.25, 0.5, 2)
  assert mean['met'] and not interleaved.means(ratios, 0.24)['met']
  assert interleaved.ratio(ours, {'error': 'no memory'}) is None


def test_inference_counts_each_precision_by_itself(script):
  inference = script('inference')
  time = lambda value: {'milliseconds': value, 'fastest': value, 'calls': 1}
  failed = {'error': 'no memory'}
  rows = [
    {'ratios': inference.ratios(dtype, results)}
    for dtype, results in (
      ('float32', {'ours': time(1.0), 'openvino': time(2.0)}),
      ('float32', {'ours': time(3.0), 'openvino': failed}),
      ('bfloat16', {'ours': time(4.0), 'openvino': time(2.0)}),
    )
  ]
  summary = inference.summary(rows)
  assert summary.keys() == {'openvino', 'openvino_bfloat16'}
  assert (summary['openvino']['ratio'], summary['openvino']['cases']) == (
    0.5,
    1,
  )
  assert summary['openvino_bfloat16']['ratio'] == 2.0
  assert not summary['openvino_bfloat16']['met']


def test_every_case_has_its_competitors(script):
  inference = script('inference')
  names = [script('reports').name_of(case) for case in inference.CASES]
  assert len(set(names)) == 12
  keras = [
    'keras_jax' in inference.competitors(model, dtype)
    for model, _, dtype in inference.CASES
  ]
  assert sum(keras) == 7  # neither Lite0 nor bfloat16


def test_training_takes_the_best_of_either_side(script):
  training_step = script('training_step')
  times = {
    'ours_1_device': 9.0,
    'ours_2_devices_huge_pages': 3.0,
    'torch_eager': 2.0,
    'torch_eager_huge_pages': 4.0,
    'torch_compile': 6.0,
  }
  results = {
    name: {'milliseconds': time, 'fastest': time, 'calls': 1}
    for name, time in times.items()
  }
  results['ours_2_devices'] = {'error': 'no memory'}
  ratios = training_step.ratios(results)
  assert [(of['ours'], of['peer'], of['ratio']) for of in ratios.values()] == [
    ('ours_2_devices_huge_pages', 'torch_eager', 1.5),
    ('ours_2_devices_huge_pages', 'torch_compile', 0.5),
  ]
  summary = training_step.summary([{'ratios': ratios}])
  assert [of['met'] for of in summary.values()] == [False, True]


_SIDE = """
import os, sys
sys.path[:0] = ['benchmarks', '.']
import workers
huge = 'GLIBC_TUNABLES' in os.environ
devices = int(os.environ.get('JAX_NUM_CPU_DEVICES', 1))
time = {'ours': 6.0, 'torch_eager': 8.0}.get(sys.argv[1], 12.0)
def prepare(name, resolution, batch):
  if sys.argv[1] == 'torch_compile' and huge:
    raise workers.WorkerError('no compiler')
  return {'parameters': resolution * batch}
workers.serve({
  'prepare': prepare,
  'measure': lambda warm, calls: [time / devices / (1 + huge)] * calls,
  'after': lambda: {'loss': 1.0, 'peak_mib': 2},
})
"""


def test_a_training_case_is_heats_and_a_final(
  script, interleaved, tmp_path, monkeypatch
):
  training_step = script('training_step')
  stub = tmp_path / 'side.py'
  stub.write_text(_SIDE)
  monkeypatch.setattr(training_step, 'SCRIPT', str(stub))
  monkeypatch.delenv('JAX_NUM_CPU_DEVICES', raising=False)  # of the tests
  case = ('micro', 16, 256)
  row = training_step.measure(case, training_step.COMPETITORS, 3, 0.05)
  assert row['heats'].keys() == set(training_step.COMPETITORS)
  assert row['heats']['torch_compile_huge_pages'] == {'error': 'no compiler'}
  assert list(row['final']) == [
    'ours_2_devices_huge_pages',
    'torch_eager_huge_pages',
    'torch_compile',
  ]
  assert all(of['loss'] == 1.0 for of in row['final'].values())
  ratios = {peer: of['ratio'] for peer, of in row['ratios'].items()}
  assert ratios == {'torch_eager': 0.375, 'torch_compile': 0.125}
  assert (row['case'], row['resolution']) == ('micro-16-256', 16)
  training_step._show(row)


def test_a_report_goes_on_with_what_it_lacks(script, tmp_path):
  case_report = script('case_report')

  def report(**chosen):
    arguments = {'only': '', 'again': False, 'out': tmp_path / 'cases.json'}
    return case_report.Report(
      argparse.Namespace(**arguments | chosen),
      cases=(('b0', 1), ('b0', 8), ('b4', 1)),
      head={'command': 'it'},
      packages=['numpy', 'no such package'],
      summary=lambda rows: {'cases': len(rows)},
    )

  first = report()
  assert first.wanted() == [('b0', 1), ('b0', 8), ('b4', 1)]
  first.add({'case': 'b4-1', 'ratio': 2})
  first.add({'case': 'b0-8', 'ratio': 3})
  written = json.loads((tmp_path / 'cases.json').read_text())
  assert [row['case'] for row in written['rows']] == ['b0-8', 'b4-1']
  assert (written['command'], written['summary']) == ('it', {'cases': 2})
  assert list(written['versions']) == ['python', 'numpy']
  assert report().wanted() == [('b0', 1)]
  assert report(again=True, only='^b4').wanted() == [('b4', 1)]
  # Measured with another version of something: to be measured again.
  written['rows'][0]['versions']['numpy'] = '0'
  (tmp_path / 'cases.json').write_text(json.dumps(written))
  assert report().wanted() == [('b0', 1), ('b0', 8)]


def test_a_training_competitors_environment(script):
  training_step = script('training_step')
  assert len(set(training_step.COMPETITORS)) == 8
  huge = training_step.environ('ours_2_devices_huge_pages', 'cache')
  assert huge['JAX_NUM_CPU_DEVICES'] == '2'
  assert huge['GLIBC_TUNABLES'].startswith('glibc.malloc.hugetlb=1')
  plain = training_step.environ('torch_eager', 'cache')
  assert not plain.keys() & {'JAX_NUM_CPU_DEVICES', 'GLIBC_TUNABLES'}


def test_tables_show_what_was_measured(tmp_path, monkeypatch, script):
  monkeypatch.setattr(script('reports'), 'RESULTS', tmp_path)
  tables, summary_table = script('cpu_tables'), script('summary_table')
  time = lambda value: {'milliseconds': value, 'fastest': value, 'calls': 1}
  common = {
    'machine': {'processor': 'CPU', 'threads': 2, 'bfloat16_units': False},
    'versions': {'jax': '1'},
  }
  inference = script('inference')
  rows = [
    {
      **{'model': 'b0', 'resolution': 224, 'batch': 1, 'dtype': dtype},
      'competitors': (results := {'ours': time(1.0), 'openvino': time(2.0)}),
      'ratios': inference.ratios(dtype, results),
    }
    for dtype in ('float32', 'bfloat16')
  ]
  report = {**common, 'summary': inference.summary(rows), 'rows': rows}
  (tmp_path / 'inference.json').write_text(json.dumps(report))
  text = tables.inference()
  assert '| b0, 224 pixels | 1 | 1.0 |  |  |  |  |  | 0.50 |' in text
  assert '| geometric mean |  |  |  |  |  |  |  | 0.50 |' in text
  assert 'In bfloat16: 0.50 of OpenVINO, on a CPU without' in text
  assert '|  | OpenVINO | 0.50 | 1 | at most 1.0 |' in summary_table.speed()
  gpu = '| timm, compiled | not measured |  | 1.2 |'
  assert gpu in summary_table.speed()
  training_step = script('training_step')
  results = {'ours_1_device_huge_pages': time(1.0), 'torch_eager': time(2.0)}
  row = {'name': 'b0', 'resolution': 224, 'batch': 16}
  row |= {'final': results, 'ratios': training_step.ratios(results)}
  report = {**common, 'summary': training_step.summary([row]), 'rows': [row]}
  (tmp_path / 'training_step.json').write_text(json.dumps(report))
  cells = '1 ms, devices: 1, huge pages | 2 ms |  | 0.50 |  |'
  assert f'| b0, 16 x 224 pixels | {cells}' in tables.training()
