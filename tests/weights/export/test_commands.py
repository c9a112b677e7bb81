"""The command `export`, and that the lines which it prints run."""

import numpy as np
import pytest
from PIL import Image

from effnet_jax.errors import UserError
from effnet_jax.weights import native
from effnet_jax.weights.export import commands, stablehlo


@pytest.fixture(scope='module')
def weights(sample, tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  native.write(
    folder, sample.spec, sample.variables, class_names=tuple('abcde')
  )
  return str(folder)


@pytest.mark.parametrize('format', ['stablehlo', 'onnx'])
def test_the_printed_lines_run(
  format, weights, sample, difference, tmp_path, capsys
):
  out = tmp_path / 'out'
  argv = ['--weights', weights, '--format', format, '--out', str(out)]
  assert not commands.export(argv)
  printed, _ = capsys.readouterr()
  size = out.stat().st_size / 1e6
  assert printed.startswith(f'wrote {out} ({size:.1f} MB)\n')
  assert 'float32 images [n, 22, 22, 3] and gives logits:' in printed
  _, _, code = printed.partition(':\n\n')
  names = {'images': sample.images(2)}
  exec(code, names)
  wanted = sample.logits(names['images'])
  assert difference(names['outputs'], wanted) <= 1e-5


def test_options(weights, tmp_path, capsys):
  out = str(tmp_path / 'out')
  argv = ['--weights', weights, '--format', 'stablehlo', '--out', out]
  argv += ['--preprocess', '--dtype', 'bfloat16', '--resolution', '32']
  commands.export(argv)
  program = stablehlo.load(out)
  assert (program.shape, program.dtype) == ((None, 32, 32, 3), 'uint8')
  assert program.metadata['class_names'] == list('abcde')
  assert program.metadata['dtype'] == 'bfloat16'
  assert 'uint8 images [n, 32, 32, 3] and gives prob' in capsys.readouterr().out
  with pytest.raises(UserError, match='--overwrite'):
    commands.export(argv)
  commands.export([*argv, '--overwrite'])


def test_options_that_do_not_go_together(weights, tmp_path):
  argv = ['--weights', weights, '--out', str(tmp_path / 'out'), '--format']
  for options, match in (
    (['onnx', '--calibrate', 'photos'], '--calibrate is for --quantize'),
    (['onnx', '--quantize', 'int8'], 'int8 is for tflite'),
    (['tflite', '--quantize', 'int8'], 'needs calibration images'),
    (['onnx', '--resolution', '0'], 'resolution must be 1 or more'),
  ):
    with pytest.raises(UserError, match=match):
      commands.export([*argv, *options])


def test_crops_for_calibration(sample, tmp_path, monkeypatch):
  for index in range(7):
    folder = tmp_path / f'class{index % 2}'
    folder.mkdir(exist_ok=True)
    color = (30 * index, 0, 255)
    Image.new('RGB', (40, 30), color).save(folder / f'{index}.png')
  crops = commands.crops(str(tmp_path), sample.spec)
  assert crops.shape == (7, 22, 22, 3) and crops.dtype == np.uint8
  # Both classes, where there are more than needed: of 0 2 4 6 and 1 3 5.
  monkeypatch.setattr(commands, '_MOST_CROPS', 3)
  crops = commands.crops(str(tmp_path), sample.spec)
  assert [crop[0, 0, 0] for crop in crops] == [0, 180, 150]
  (tmp_path / 'class0' / '6.png').write_bytes(b'broken')
  with pytest.raises(UserError, match='calibration: .*6.png'):
    commands.crops(str(tmp_path), sample.spec)
