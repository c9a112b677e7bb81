import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import files, safetensors_file

ARRAYS = {
  'view': np.arange(12, dtype=np.float32).reshape(4, 3).T,
  'half': np.float16([0.5, 1.5, 2.5]),
  'bfloat16': np.array([[0.5], [1.5]], ml_dtypes.bfloat16),
  'big': np.array([1, 2], '>i4'),
  'scalar': np.array(7),
  'empty': np.zeros((0, 4)),
  'flag': np.array([True]),
  'byte': np.uint8([1, 2, 3]),
}


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'a.safetensors'


def test_there_and_back(path):
  files.write_safetensors(path, ARRAYS, {'format': 'pt', 'name': 'b0 \u00e4"'})
  file = files.read(path)
  assert file.format == 'safetensors'
  assert file.metadata == {'format': 'pt', 'name': 'b0 \u00e4"'}
  assert file.arrays.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    found = file.arrays[name]
    assert found.dtype == array.dtype.newbyteorder('='), name
    np.testing.assert_array_equal(found, array)
    assert found.flags.aligned and not found.flags.writeable
  first = path.read_bytes()
  files.write_safetensors(path, ARRAYS, {'format': 'pt', 'name': 'b0 \u00e4"'})
  assert path.read_bytes() == first
  files.write_safetensors(path, {'a': ARRAYS['half']})
  assert files.read(path).metadata == {}


def test_the_package_reads_what_we_write_and_back(path):
  package = pytest.importorskip('safetensors.numpy')
  files.write_safetensors(path, ARRAYS, {'format': 'pt'})
  found = package.load_file(path)
  assert found.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(found[name], array)
  arrays = {name: np.require(a, None, 'C') for name, a in ARRAYS.items()}
  package.save_file(arrays, path, {'format': 'pt'})
  file = files.read(path)
  assert file.metadata == {'format': 'pt'}
  for name, array in ARRAYS.items():
    assert file.arrays[name].dtype == array.dtype.newbyteorder('=')
    np.testing.assert_array_equal(file.arrays[name], array)


def test_arrays_are_mapped(path):
  # A file of 256 MB that takes no room on disk, and no memory to read.
  size = 2**28
  entry = {'dtype': 'F32', 'shape': [size // 4], 'data_offsets': [0, size]}
  header = json.dumps({'large': entry}).encode()
  header += b' ' * (-len(header) % 8)
  with path.open('wb') as file:
    file.write(len(header).to_bytes(8, 'little') + header)
    file.truncate(8 + len(header) + size)
  tracemalloc.start()
  try:
    array = files.read(path).arrays['large']
    assert tracemalloc.get_traced_memory()[1] < 2**20
  finally:
    tracemalloc.stop()
  assert array.shape == (size // 4,) and not array[:: 2**18].any()


def made(header, data=bytes(8), length=None):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  length = len(text) if length is None else length
  return length.to_bytes(8, 'little') + text + data


def entry(start=0, stop=8, shape=(2,), dtype='F32'):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': [start, stop]}


WRONG = {
  'a header of gigabytes': (made({}, length=2**32), 'none of weights'),
  'a header past the end': (made({}, length=100), 'bytes 8 to 108 of'),
  'a header that is cut': (made({'a': entry()}, length=20), 'JSONDecodeError'),
  'a header of nests': (made(b'{"a":' + b'[' * 10**5), 'RecursionError'),
  'a header that is none': (made(b'{"a":3}'), 'TypeError'),
  'a name twice': (made(b'{"a":1,"a":1}'), 'twice'),
  'metadata of numbers': (made({'__metadata__': {'a': 1}}), 'no text'),
  'metadata that are none': (made({'__metadata__': 'a'}), 'AttributeError'),
  'another type': (made({'a': entry(dtype='F8_E4M3')}), 'F8_E4M3'),
  'a type that is none': (made({'a': entry(dtype=[])}), 'TypeError'),
  'another shape': (made({'a': entry(shape=(3,))}), 'but 8 bytes'),
  'a huge shape': (made({'a': entry(shape=(2**62, 4))}), 'but 8 bytes'),
  'a negative shape': (made({'a': entry(shape=(-1, -2))}), 'no shape'),
  'a shape of fractions': (made({'a': entry(shape=(2.0,))}), 'no shape'),
  'a shape of texts': (made({'a': entry(shape='ab')}), 'no shape'),
  'too long a shape': (made({'a': entry(shape=[1] * 99)}), 'no shape'),
  'an end past the file': (made({'a': entry(0, 16, (4,))}), 'bytes 0 to 16'),
  'an end before its start': (
    made({'b': entry(), 'a': entry(8, 4, (1,))}),
    'bytes 8 to 4 of',
  ),
  'a gap': (made({'a': entry(4, 8, (1,))}), 'begins at 4, not at 0'),
  'an overlap': (
    made({'a': entry(), 'b': entry(4, 8, (1,))}),
    'begins at 4, not at 8',
  ),
  'bytes of no array': (made({'a': entry(0, 4, (1,))}), 'have 4 of 8 bytes'),
  'a negative start': (made({'a': entry(-8, 0)}), 'begins at -8'),
  'three offsets': (
    made({'a': {**entry(), 'data_offsets': [0, 4, 8]}}),
    'ValueError',
  ),
}


@pytest.mark.parametrize('data, words', WRONG.values(), ids=WRONG)
def test_a_header_that_is_wrong(path, data, words):
  path.write_bytes(data)
  with pytest.raises(UserError) as error:
    files.read(path)
  line = str(error.value)
  assert line.isprintable() and line.startswith(f'{path}: ')
  assert words in line


def test_headers_have_a_limit(path):
  header = b'{' + b' ' * safetensors_file.MAX_HEADER + b'}'
  path.write_bytes(made(header))
  with pytest.raises(UserError, match='none of weights'):
    files.read(path)


def test_a_damaged_file_is_read_or_refused(path):
  files.write_safetensors(path, ARRAYS, {'format': 'pt'})
  original = path.read_bytes()
  random = np.random.default_rng(0)
  outcomes = set()
  for _ in range(300):
    data = bytearray(original)
    place = random.integers(len(data))
    if random.random() < 0.2:
      del data[place:]
    else:
      data[place] ^= 1 << random.integers(8)
    path.write_bytes(data)
    try:
      arrays = files.read(path).arrays
      assert sum(a.nbytes for a in arrays.values()) <= len(data)
      outcomes.add('read')
    except UserError as error:
      assert str(error).startswith(str(path)) and str(error).isprintable()
      outcomes.add('refused')
  assert outcomes == {'read', 'refused'}
