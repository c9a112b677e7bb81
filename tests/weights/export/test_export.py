"""What all formats share: arguments, errors, nothing half written."""

import json
import os

import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import export as exporting
from effnet_jax.weights.export import stablehlo, tensorflow, tflite_metadata


@pytest.fixture
def write(sample, tmp_path, monkeypatch):
  """Exports by a writer that only notes its job."""
  jobs = []

  def note(job, path):
    jobs.append(job)
    with open(path, 'w') as file:
      file.write(f'job {len(jobs)}')
    with open(f'{path}.json', 'w') as file:
      json.dump({**job.metadata, 'sha256': f'of job {len(jobs)}'}, file)

  monkeypatch.setattr(stablehlo, 'write_stablehlo', note)

  def write(name='out', format='stablehlo', **arguments):
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
    ({'quantize': 'int8'}, 'int8 is for tflite, not stablehlo'),
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
  description = json.loads((tmp_path / 'out.json').read_text())
  assert description['sha256'] == 'of job 2'
  # The description alone, or an export of another format.
  (tmp_path / 'out').unlink()
  with pytest.raises(UserError, match='out.json exists: .*--overwrite'):
    write()
  write(overwrite=True)
  with pytest.raises(UserError, match='out exists and is no onnx export'):
    write(format='onnx', overwrite=True)
  assert (tmp_path / 'out').read_text() == 'job 3'


def _listing(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.mark.parametrize(
  'file, format',
  [
    ('out', 'stablehlo'),
    ('out', 'onnx'),
    ('out', 'tflite'),
    ('out', 'savedmodel'),
    ('out/thesis.tex', 'stablehlo'),
    ('out/thesis.tex', 'onnx'),
    ('out/thesis.tex', 'savedmodel'),
    ('out.json', 'stablehlo'),
    ('out.json/thesis.tex', 'stablehlo'),
    ('out.data', 'onnx'),
    ('out.data/thesis.tex', 'onnx'),
  ],
)
def test_no_option_takes_what_is_no_export(write, tmp_path, file, format):
  path = tmp_path / file
  path.parent.mkdir(exist_ok=True)
  for content in (b'', b'{"effnet_jax": 1}', b'\x89PNG effnet_jax'):
    path.write_bytes(content)
    before = _listing(tmp_path)
    for overwrite in (False, True):
      with pytest.raises(UserError) as info:
        write(format=format, overwrite=overwrite)
      target = tmp_path / file.partition('/')[0]
      line = f'{target} exists and is no {format} export: give another path'
      assert str(info.value) == line
      assert _listing(tmp_path) == before
  assert not write.jobs


def test_what_appears_meanwhile_is_kept(write, tmp_path, monkeypatch):
  note = stablehlo.write_stablehlo

  def disturb(job, path):
    note(job, path)
    (tmp_path / 'out.json').mkdir()
    (tmp_path / 'out.json' / 'thesis.tex').write_bytes(b'\\end')

  monkeypatch.setattr(stablehlo, 'write_stablehlo', disturb)
  with pytest.raises(UserError, match='out.json exists and is no'):
    write()
  assert _listing(tmp_path) == {'out.json/thesis.tex': b'\\end'}


def test_an_earlier_folder_makes_room(write, tmp_path, monkeypatch):
  def save(job, path):
    os.mkdir(path)
    for name in ('saved_model.pb', f'{job.dtype}.index'):
      with open(os.path.join(path, name), 'w') as file:
        file.write(job.dtype)

  monkeypatch.setattr(tensorflow, 'write_savedmodel', save)
  write(format='savedmodel')
  with pytest.raises(UserError, match='--overwrite'):
    write(format='savedmodel', dtype='float16')
  write(format='savedmodel', dtype='float16', overwrite=True)
  assert _listing(tmp_path) == {
    'out/saved_model.pb': b'float16',
    'out/float16.index': b'float16',
  }
  # A link would be taken for what it leads to.
  (tmp_path / 'link').symlink_to('out')
  with pytest.raises(UserError, match='link exists and is no savedmodel'):
    write('link', format='savedmodel', overwrite=True)


def test_an_earlier_tflite_file_makes_room(write, tmp_path, monkeypatch):
  def convert(job, path):
    files = {'effnet_jax.json': json.dumps(job.metadata)}
    with open(path, 'wb') as file:
      file.write(tflite_metadata.append(job.dtype.encode(), files))

  monkeypatch.setattr(tensorflow, 'write_tflite', convert)
  write(format='tflite')
  with pytest.raises(UserError, match='--overwrite'):
    write(format='tflite', dtype='float16')
  write(format='tflite', dtype='float16', overwrite=True)
  assert (tmp_path / 'out').read_bytes().startswith(b'float16')


def test_a_failure_leaves_what_was(write, tmp_path, monkeypatch):
  write()

  def fail(job, path):
    with open(path, 'w') as file:
      file.write('half')
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(stablehlo, 'write_stablehlo', fail)
  with pytest.raises(UserError, match='cannot write .*out: No space left'):
    write(overwrite=True)
  assert (tmp_path / 'out').read_text() == 'job 1'
  assert sorted(x.name for x in tmp_path.iterdir()) == ['out', 'out.json']


def test_a_file_in_the_way(write, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot write'):
    write('file/out')
