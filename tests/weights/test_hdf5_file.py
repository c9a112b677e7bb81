import json
import subprocess
import sys
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import files, hdf5_file

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'a.h5'


def refused(path, *words):
  """Reading ends in a line that names the file and has these words."""
  with pytest.raises(UserError) as error:
    files.read(path)
  line = str(error.value)
  assert line.isprintable() and line.startswith(f'{path}: ')
  for word in words:
    assert word in line, line


def test_reads_what_keras_writes(path):
  with h5py.File(path, 'w') as file:
    group = file.create_group('model_weights')
    group.attrs['layer_names0'] = [b'stem_conv', b'stem_bn']
    group.attrs['layer_names1'] = [b'top_conv']
    group.attrs['backend'] = 'tensorflow'
    group.attrs['keras_version'] = b'2.4.0'
    group['stem_conv/stem_conv/kernel:0'] = KERNEL
    group['big'] = KERNEL.astype('>f4')
    group['scalar'] = np.int64(7)
    group['empty'] = np.zeros((0, 3), np.float16)
    group['flag'] = np.array([True, False])
    # As Keras has bfloat16 in HDF5, which does not know it.
    bfloat16 = group.create_dataset('half', data=np.array([b'\x80\x3f'], 'V2'))
    bfloat16.attrs['dtype'] = 'bfloat16'
  file = files.read(path)
  assert file.format == 'hdf5'
  layer_names = json.loads(file.metadata.pop('layer_names'))
  assert layer_names == ['stem_conv', 'stem_bn', 'top_conv']
  assert file.metadata == {'backend': 'tensorflow', 'keras_version': '2.4.0'}
  expected = {
    'stem_conv/stem_conv/kernel:0': KERNEL,
    'big': KERNEL,
    'scalar': np.array(7),
    'empty': np.zeros((0, 3), np.float16),
    'flag': np.array([True, False]),
    'half': np.ones(1, ml_dtypes.bfloat16),
  }
  assert set(file.arrays) == {f'model_weights/{name}' for name in expected}
  for name, value in expected.items():
    found = file.arrays[f'model_weights/{name}']
    assert (found.dtype, found.shape) == (value.dtype, value.shape), name
    assert found.tobytes() == value.tobytes(), name


def test_there_and_back(path):
  arrays = {'layers/conv2d/vars/0': KERNEL.T, 'top/bias': KERNEL[0]}
  files.write_hdf5(path, arrays)
  found = files.read(path).arrays
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)
  with h5py.File(path) as file:
    np.testing.assert_array_equal(file['layers/conv2d/vars/0'], KERNEL.T)


def soft_link(file):
  file['link'] = h5py.SoftLink('/a')


def external_link(file):
  file['link'] = h5py.ExternalLink('/etc/passwd', '/a')


def hard_link(file):
  file['link'] = file['a']


def circle(file):
  file['group/circle'] = file.create_group('group/inner')
  file['group/inner/outer'] = file['group']


def external_data(file):
  file.create_dataset('x', (4,), 'u1', external=[('/etc/passwd', 0, 4)])


def virtual_data(file):
  layout = h5py.VirtualLayout((4,), 'u1')
  layout[:] = h5py.VirtualSource('/etc/passwd', 'x', (4,))
  file.create_virtual_dataset('x', layout)


def bomb(file):
  file.create_dataset('x', data=np.zeros(10**7), compression='gzip')


def pieces(file):
  file.create_dataset('x', data=KERNEL, chunks=(1, 4))


def words(file):
  file['x'] = 'text'


def records(file):
  file['x'] = np.zeros(3, [('a', 'f4'), ('b', 'i4')])


def references(file):
  file['x'] = file.ref


def complex_numbers(file):
  file['x'] = np.zeros(3, np.complex64)


def long_doubles(file):
  file['x'] = np.zeros(3, np.longdouble)


def another_float(file):
  kind = h5py.h5t.IEEE_F32LE.copy()
  kind.set_ebias(100)
  space = h5py.h5s.create_simple((3,))
  h5py.h5d.create(file.id, b'x', kind, space).write(
    h5py.h5s.ALL, h5py.h5s.ALL, np.ones(3, np.float32)
  )


def a_type(file):
  file['x'] = np.dtype('f4')


def no_shape(file):
  file['x'] = h5py.Empty('f4')


def never_written(file):
  file.create_dataset('x', (10**6, 10**6), 'f8')


def long_path(file):
  file['/'.join('x' * 600)] = KERNEL


@pytest.mark.parametrize(
  'add, word',
  [
    *((soft_link, 'link'), (external_link, 'link'), (hard_link, 'second name')),
    *((circle, 'second name'), (external_data, 'another file')),
    *((virtual_data, 'another file'), (bomb, 'h5repack -f NONE')),
    *((pieces, 'h5repack -f NONE'), (words, 'no numbers')),
    *((records, 'no numbers'), (references, 'no numbers')),
    *((complex_numbers, 'no numbers'), (long_doubles, 'no numbers')),
    *((another_float, 'no numbers'), (a_type, 'no array')),
    *((no_shape, 'no shape'), (never_written, 'never written')),
    (long_path, 'longer names'),
  ],
)
def test_nothing_but_arrays(path, add, word):
  with h5py.File(path, 'w') as file:
    file['a'] = KERNEL
    add(file)
  refused(path, word)


def test_a_file_cut_short(path):
  files.write_hdf5(path, {'a': KERNEL})
  path.write_bytes(path.read_bytes()[:-20])
  refused(path, 'truncated', 'fetch it again')


def test_a_file_that_the_library_does_not_end(monkeypatch):
  # One byte of it is wrong, and the library asks for more and more memory.
  monkeypatch.setattr(hdf5_file, 'CPU_SECONDS', 1)
  endless = Path(__file__).parent / 'data' / 'endless.h5'
  refused(endless, 'damaged')


@pytest.mark.parametrize(
  'code, words',
  [
    ('import time; time.sleep(60)', 'no end of it after 0.5 s'),
    ('import os; os.kill(os.getpid(), 11)', 'gave up (SIGSEGV)'),
    ('raise OSError("one\\ntwo")', 'two'),
    ('print("no report")', 'JSONDecodeError'),
  ],
)
def test_a_library_that_fails(path, monkeypatch, code, words):
  files.write_hdf5(path, {'a': KERNEL})
  script = path.with_suffix('.py')
  script.write_text(code)
  monkeypatch.setattr(hdf5_file, '_SCRIPT', script)
  if 'sleep' in code:
    monkeypatch.setattr(hdf5_file, 'SECONDS', 0.5)
  refused(path, words)


@pytest.mark.parametrize(
  'dataset',
  [
    ['a', '<f4', [3, 4], 10**9],
    ['a', '<f4', [3, 4], -1],
    ['a', '<f4', [-3, -4], 0],
    ['a', '<f4', [2**62, 4], 0],
    ['a', '|O', [1], 0],
  ],
)
def test_places_outside_the_file(path, monkeypatch, dataset):
  files.write_hdf5(path, {'a': KERNEL})
  report = {'datasets': [dataset], 'metadata': {}}
  monkeypatch.setattr(hdf5_file, '_look_through', lambda path: report)
  refused(path, 'fetch it again')


def test_arrays_that_overlap(path, monkeypatch):
  files.write_hdf5(path, {'a': KERNEL})
  report = {'datasets': [['a', '<f4', [256], 0]] * 99, 'metadata': {}}
  monkeypatch.setattr(hdf5_file, '_look_through', lambda path: report)
  refused(path, 'overlap')


def test_without_h5py(path, monkeypatch):
  files.write_hdf5(path, {'a': KERNEL})
  monkeypatch.setattr(hdf5_file.importlib.util, 'find_spec', lambda name: None)
  refused(path, "pip install 'effnet_jax[weights]'")
  with pytest.raises(UserError, match='pip install'):
    files.write_hdf5(path, {'a': KERNEL})


def test_h5py_is_another_process(path):
  files.write_hdf5(path, {'a': KERNEL})
  code = (
    'import sys; from effnet_jax.weights import files; '
    f'files.read({str(path)!r}); sys.exit("h5py" in sys.modules)'
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
