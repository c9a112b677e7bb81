"""What all formats share: arguments, errors, nothing half written."""

import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import export as exporting


@pytest.fixture
def write(sample, tmp_path, monkeypatch):
  """Exports by a writer that only notes its job."""
  jobs = []

  def note(job, path):
    jobs.append(job)
    for name in (path, f'{path}.json'):
      with open(name, 'w') as file:
        file.write(f'job {len(jobs)}')

  from effnet_jax.weights.export import onnx, stablehlo

  monkeypatch.setattr(onnx, 'write_onnx', note)
  monkeypatch.setattr(stablehlo, 'write_stablehlo', note)

  def write(name='out', format='onnx', **arguments):
    path = str(tmp_path / name)
    return exporting.export(
      sample.model, sample.variables, path, format, **arguments
    )

  write.jobs = jobs
  return write


def test_what_is_written(write, tmp_path):
  path = str(tmp_path / 'new' / 'folder' / 'out')
  assert write('new/folder/out') == [path, f'{path}.json']
  found = sorted(x.name for x in (tmp_path / 'new' / 'folder').iterdir())
  assert found == ['out', 'out.json']


def test_the_job(write, sample):
  write(dtype='float16', preprocess=True, class_names='abcde')
  (job,) = write.jobs
  assert (job.spec, job.dtype, job.preprocess) == (sample.spec, 'float16', True)
  assert job.metadata == {
    'model': 'sample',
    'effnet_jax': job.metadata['effnet_jax'],
    'dtype': 'float16',
    'quantize': None,
    'preprocess': True,
    'input': 'uint8 pixels [n, 22, 22, 3], RGB',
    'output': 'probabilities',
    'resolution': 22,
    'mean': [0.485, 0.456, 0.406],
    'std': [0.229, 0.224, 0.225],
    'resampling': 'tf1',
    'crop_padding': 32,
    'num_classes': 5,
    'class_names': ['a', 'b', 'c', 'd', 'e'],
  }


@pytest.mark.parametrize(
  'arguments, match',
  [
    ({'format': 'stablhlo'}, "'stablhlo': did you mean stablehlo"),
    ({'format': 'caffe'}, 'known: stablehlo, onnx, savedmodel, tflite'),
    ({'dtype': 'float32x'}, 'did you mean float32'),
    ({'class_names': ['a', 'b']}, '2 class names for 5 classes'),
    ({'quantize': 'int4'}, 'did you mean int8'),
    ({'quantize': 'int8'}, 'int8 is for tflite, not onnx'),
    ({'calibrate': np.zeros((1, 22, 22, 3), np.uint8)}, 'for quantize=int8'),
    (
      {'format': 'tflite', 'quantize': 'int8'},
      'int8 needs calibration images',
    ),
    (
      {
        **{'format': 'tflite', 'quantize': 'int8'},
        'calibrate': np.zeros((4, 22, 22, 3), np.float32),
      },
      r'uint8 \[n, 22, 22, 3\], not float32 \[4, 22, 22, 3\]',
    ),
  ],
)
def test_wrong_arguments(write, tmp_path, arguments, match):
  with pytest.raises(UserError, match=match) as error:
    write(**arguments)
  assert '\n' not in str(error.value)
  assert not list(tmp_path.iterdir())


def test_variables_of_another_network(make_sample, tmp_path):
  wide = make_sample(num_classes=7)
  narrow = make_sample()
  with pytest.raises(UserError, match='classifier/bias is'):
    exporting.export(
      narrow.model, wide.variables, str(tmp_path / 'out'), 'stablehlo'
    )


def test_what_exists_is_kept(write, tmp_path):
  write()
  with pytest.raises(UserError, match='out exists: .*--overwrite'):
    write()
  assert (tmp_path / 'out').read_text() == 'job 1'
  write(overwrite=True)
  assert (tmp_path / 'out').read_text() == 'job 2'
  assert (tmp_path / 'out.json').read_text() == 'job 2'


def test_overwriting_takes_no_folder_away(write, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'thesis.tex').write_text('\\end')
  for format in ('onnx', 'savedmodel'):
    with pytest.raises(UserError, match=f'is no {format} export'):
      write(format=format, overwrite=True)
  assert (tmp_path / 'out' / 'thesis.tex').read_text() == '\\end'


def test_a_failure_leaves_what_was(write, tmp_path, monkeypatch):
  write()

  def fail(job, path):
    with open(path, 'w') as file:
      file.write('half')
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr('effnet_jax.weights.export.onnx.write_onnx', fail)
  with pytest.raises(UserError, match='cannot write .*out: No space left'):
    write(overwrite=True)
  assert (tmp_path / 'out').read_text() == 'job 1'
  assert sorted(x.name for x in tmp_path.iterdir()) == ['out', 'out.json']


def test_a_file_in_the_way(write, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot write'):
    write('file/out')
