"""The command `models`: its table and its JSON."""

import json

import pytest

from effnet_jax.errors import UserError
from effnet_jax.models import commands, macs, variants


def _run(capsys, *argv):
  assert commands.models(list(argv)) is None
  out, err = capsys.readouterr()
  assert err == ''
  return out


def test_json_is_exact(capsys):
  rows = json.loads(_run(capsys, '--json', 'b0', 'micro'))
  assert rows == [
    {
      'name': 'b0',
      'params': 5_288_548,
      'macs': 385_814_752,
      'resolution': 224,
      'top1': {
        'baseline': 76.7,
        'autoaugment': 77.1,
        'advprop': 77.6,
        'noisy_student': 78.8,
      },
    },
    {
      'name': 'micro',
      'params': 1_213_424,
      'macs': 1_936_848,
      'resolution': 16,
      'top1': {},
    },
  ]


def test_json_has_every_variant(capsys):
  rows = json.loads(_run(capsys, '--json'))
  assert [row['name'] for row in rows] == list(variants.list_models())
  for row in rows:
    counts = macs.count(variants.get_spec(row['name']))
    assert (row['params'], row['macs']) == (counts.params, counts.macs)


def test_a_line_a_network(capsys):
  lines = _run(capsys, 'b0', 'b7', 'micro').splitlines()
  assert lines[:4] == [
    'name            params    MACs   px base   AA   RA   AP   NS',
    'b0              5.29 M  0.39 G  224 76.7 77.1      77.6 78.8',
    'b7              66.3 M  37.7 G  600      84.3 84.7 85.2 86.9',
    'micro           1.21 M  1.94 M   16',
  ]


def test_the_whole_table_is_aligned(capsys):
  out = _run(capsys)
  table, legend = out.split('\n\n')
  heads, *lines = table.splitlines()
  assert [line.split()[0] for line in lines] == list(variants.list_models())
  assert max(map(len, out.splitlines())) <= 80
  right = heads.index(' px') + 3  # resolutions end here
  for line in lines:
    assert line[right - 1].isdigit() and line[right - 5] == ' ', line
    assert line[right:][:1] in ('', ' '), line
  for head in heads.split()[4:]:
    assert head in legend.split()


def test_other_names_are_known(capsys):
  (row,) = json.loads(_run(capsys, '--json', 'EfficientNet-B3'))
  assert row['name'] == 'b3'


def test_unknown_names():
  with pytest.raises(UserError, match="variant 'b00': did you mean b0"):
    commands.models(['b00'])
  with pytest.raises(UserError, match='--jsno: did you mean --json'):
    commands.models(['--jsno'])
