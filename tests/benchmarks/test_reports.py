"""Result files, and what `--only` chooses."""

import platform
import sys

import numpy as np
import pytest


@pytest.fixture
def reports(script):
  return script('reports')


def test_a_report_is_read_as_it_was_written(reports, tmp_path):
  path = tmp_path / 'report.json'
  assert reports.read(path) == {}
  reports.write(path, {'rows': [1]})
  assert reports.read(path) == {'rows': [1]}
  with pytest.raises(TypeError):
    reports.write(path, {'rows': object()})
  assert reports.read(path) == {'rows': [1]}
  assert [file.name for file in tmp_path.iterdir()] == ['report.json']


def test_versions_are_of_what_is_installed(reports):
  assert reports.versions(['numpy', 'no such package', 'python']) == {
    'numpy': np.__version__,
    'python': platform.python_version(),
  }


def test_a_pattern_chooses_names_in_their_order(reports):
  assert reports.matching('^b.-8', ['b4-8', 'b0-8', 'b4-8', 'b0-1']) == [
    *('b4-8', 'b0-8'),
  ]
  with pytest.raises(SystemExit, match='^--only=b9 is in none of: b0-1; b4-8$'):
    reports.matching('b9', ['b0-1', 'b4-8'])
  with pytest.raises(SystemExit, match='^--only=[*]: nothing to repeat'):
    reports.matching('*', ['b0-1'])


@pytest.mark.parametrize(
  'name',
  [
    *('compile_table', 'growth', 'huge_pages', 'inference', 'memory'),
    *('parity', 'predictors', 'training_step'),
  ],
)
def test_only_of_nothing_says_what_there_is(script, name, monkeypatch):
  monkeypatch.setattr(sys, 'argv', [f'{name}.py', '--only', 'b99'])
  with pytest.raises(SystemExit, match='^--only=b99 is in none of: .') as e:
    script(name).main()
  assert len(str(e.value).splitlines()) == 1
