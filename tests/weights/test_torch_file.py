import ast
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import files, pickled, state_dict

# Written by PyTorch itself, data/make_torch.py.
DATA = Path(__file__).parent / 'data'
COUNT = np.arange(24, dtype=np.float32)
TENSORS = {
  'parameter': COUNT.reshape(2, 3, 2, 2),
  'transposed': COUNT[:6].reshape(2, 3).T,
  'every_other': COUNT[2:8:2],
  'channels_last': COUNT.reshape(1, 2, 3, 4),
  'shared_row': COUNT[6:12],
  'shared_column': COUNT[1::6],
  'half': np.float16([0, 0.25, 0.5, 0.75, 1]),
  'bfloat16': np.array([[0, 0.25, 0.5, 0.75, 1]], ml_dtypes.bfloat16),
  'double': np.arange(3) / 3,
  **{
    name: np.arange(3).astype(name)
    for name in ('int64', 'int32', 'int16', 'int8', 'uint8', 'bool')
  },
  'scalar': np.array(7),
  'empty': np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_reads_what_pytorch_writes(kind):
  file = files.read(DATA / f'tensors.{kind}.pth')
  assert file.format == 'torch'
  assert file.metadata == {'state_dict': '', 'prefix': ''}
  assert list(file.arrays) == list(TENSORS)
  for name, expected in TENSORS.items():
    found = file.arrays[name]
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
    assert found.tobytes() == expected.tobytes(), name
    assert found.flags.aligned and not found.flags.writeable


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_finds_the_averages_in_a_checkpoint_of_training(kind):
  file = files.read(DATA / f'training.{kind}.pth')
  assert file.metadata == {
    **{'state_dict': 'model_ema', 'prefix': 'module.'},
    'arch': 'tf_efficientnet_b0',
  }
  # The averages from before the step of SGD that changed the others.
  assert list(file.arrays) == ['weight', 'bias']
  np.testing.assert_array_equal(file.arrays['weight'], COUNT[:6].reshape(3, 2))
  np.testing.assert_array_equal(file.arrays['bias'], COUNT[:3])


# What training scripts save. Any type may stand for a tensor.
@pytest.mark.parametrize(
  'objects, names, place',
  [
    ({'a.w': 1.0}, ['a.w'], ''),
    ({'state_dict': {'w': 1.0}, 'epoch': 3}, ['w'], 'state_dict'),
    ({'model': {'w': 1.0}, 'optimizer': {'state': {}}}, ['w'], 'model'),
    (
      {'state_dict': {'w': 1.0}, 'state_dict_ema': {'v': 2.0}},
      ['v'],
      'state_dict_ema',
    ),
    ({'state_dict': {'w': 1.0}, 'model_ema': None}, ['w'], 'state_dict'),
    ({'model': {'state_dict': {'w': 1.0}}}, ['w'], 'model.state_dict'),
    ({'weights_of_mine': {'w': 1.0}, 'epoch': 3}, ['w'], 'weights_of_mine'),
    # The metric of PyTorch's ImageNet example is a tensor too.
    ({'state_dict': {'w': 1.0}, 'best_acc1': 7.0}, ['w'], 'state_dict'),
    ({'w': 1.0, 'hooks': {}, 'note': 'x'}, ['w'], ''),
  ],
)
def test_finds_the_state_dict(objects, names, place):
  tensors, metadata = state_dict.find(objects, float)
  assert (list(tensors), metadata['state_dict']) == (names, place)


@pytest.mark.parametrize(
  'names, stripped, prefix',
  [
    (['module.a', 'module.b.c'], ['a', 'b.c'], 'module.'),
    (['module._orig_mod.a'], ['a'], 'module._orig_mod.'),
    (['n_averaged', 'module.a'], ['a'], 'module.'),
    (['module.a', 'b'], ['module.a', 'b'], ''),
    (['modules.a'], ['modules.a'], ''),
  ],
)
def test_takes_off_what_wrappers_add(names, stripped, prefix):
  found, metadata = state_dict.find(dict.fromkeys(names, 1.0), float)
  assert (list(found), metadata['prefix']) == (stripped, prefix)


@pytest.mark.parametrize(
  'objects, message',
  [
    ({}, 'holds no state dict'),
    ([1.0], 'holds no state dict'),
    (1.0, 'holds no state dict'),
    ({1: 1.0}, 'holds no state dict'),
    ({'generator': {'w': 1.0}, 'critic': {'w': 1.0}}, 'generator'),
    ({'model': {'model': {'model': {'model': {'w': 1.0}}}}}, 'no state dict'),
  ],
)
def test_no_state_dict_or_several(objects, message):
  with pytest.raises(UserError, match=message):
    state_dict.find(objects, float)


# An assembler of pickles.
START = b'\x80\x02'


def text(value):
  data = value.encode()
  return b'X' + struct.pack('<I', len(data)) + data


def number(value):
  data = value.to_bytes(9, 'little', signed=True)
  return b'\x8a' + bytes([len(data)]) + data


def numbers(values):
  return b'(' + b''.join(map(number, values)) + b't'


def storage(key='0', kind='FloatStorage', length=6, tail=b''):
  return (
    b'('
    + text('storage')
    + b'ctorch\n'
    + kind.encode()
    + b'\n'
    + text(key)
    + text('cpu')
    + number(length)
    + tail
    + b'tQ'
  )


def tensor(offset=0, shape=(2, 3), strides=(3, 1), **kwargs):
  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n('
    + storage(**kwargs)
    + number(offset)
    + numbers(shape)
    + numbers(strides)
    + b'\x89}tR'
  )


def objects(value):
  return START + b'}' + text('w') + value + b's.'


def write_zip(path, pickle_bytes, members=None, **kwargs):
  members = {'data/0': COUNT[:6].tobytes()} if members is None else members
  with zipfile.ZipFile(path, 'w', **kwargs) as archive:
    for name, data in {'data.pkl': pickle_bytes, **members}.items():
      archive.writestr(f'archive/{name}', data)
  return path


def write_legacy(path, pickle_bytes, storages=None, keys=('0',)):
  system = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
  if storages is None:
    storages = struct.pack('<q', 6) + COUNT[:6].tobytes()
  parts = (0x1950A86A20F9469CFC6C, 1001, system)
  path.write_bytes(
    b''.join(pickle.dumps(part, protocol=2) for part in parts)
    + pickle_bytes
    + pickle.dumps(list(keys), protocol=2)
    + storages
  )
  return path


WRITERS = {'zip': write_zip, 'legacy': write_legacy}
both = pytest.mark.parametrize('write', WRITERS.values(), ids=WRITERS)


def refused(path, *words):
  """The line that reading ends in, which names the file and these words."""
  with pytest.raises(UserError) as error:
    files.read(path)
  line = str(error.value)
  assert line.isprintable() and line.startswith(f'{path}: ')
  for word in words:
    assert word in line, line
  return line


@both
def test_the_assembler_is_right(tmp_path, write):
  path = write(tmp_path / 'a.pth', objects(tensor()))
  np.testing.assert_array_equal(
    files.read(path).arrays['w'], COUNT[:6].reshape(2, 3)
  )


class Harm:
  """Unpickled by Python, touches a file."""

  def __init__(self, path, how):
    self.path, self.how = path, how

  def __reduce__(self):
    code = f'__import__("pathlib").Path({str(self.path)!r}).touch()'
    return {
      'os.system': (os.system, (f'touch {self.path}',)),
      'eval': (eval, (code,)),
      'exec': (exec, (code,)),
      'mkdir': (os.mkdir, (str(self.path),)),
      'Path': (Path.touch, (self.path,)),
    }[self.how]


@both
@pytest.mark.parametrize('how', ['os.system', 'eval', 'exec', 'mkdir', 'Path'])
def test_runs_nothing(tmp_path, write, how):
  touched = tmp_path / 'touched'
  harm = pickle.dumps({'w': Harm(touched, how)}, protocol=2)
  pickle.loads(harm)
  assert touched.exists()
  touched.rmdir() if how == 'mkdir' else touched.unlink()
  path = write(tmp_path / 'a.pth', harm)
  refused(path, 'no part of weights, and was not run')
  assert not touched.exists()


@both
@pytest.mark.parametrize(
  'name',
  [
    'torch.load',
    'torch.storage._load_from_bytes',
    'torch._utils._rebuild_qtensor',
    'torch.jit._script.unpickle',
    'timm.models.efficientnet.EfficientNet',
    'collections.OrderedDict.__init__',
    'numpy.core.multiarray.scalar',
    'torch.ComplexFloatStorage',
  ],
)
def test_only_names_of_the_list(tmp_path, write, name):
  module, _, function = name.rpartition('.')
  call = f'c{module}\n{function}\n'.encode() + b')R'
  refused(write(tmp_path / 'a.pth', objects(call)), name, 'state_dict()')


REBUILD = b'ctorch._utils\n_rebuild_tensor_v2\n('
NOTHING_ELSE = {
  'an instruction of other pickles': (b'2', 'instruction 32'),  # DUP
  'the instance of a class': (b'(ios\nsystem\n', 'instruction 69'),  # INST
  'an extension of copyreg': (b'\x82\x01', 'instruction 82'),  # EXT1
  'a text persistent id': (b'Pabc\n', 'instruction 50'),  # PERSID
  'a later protocol': (b'\x80\x04', 'protocol 4'),
  'a call of a type': (b'ctorch\nFloatStorage\n)R', 'nothing to call'),
  'a call of a number': (b'K\x01)R', 'nothing to call'),
  'a call without a tuple': (
    b'ccollections\nOrderedDict\n]R',
    'nothing to call',
  ),
  'too many arguments': (
    b'ccollections\nOrderedDict\n(K\x01K\x02tR',
    'TypeError',
  ),
  'no arguments': (REBUILD + b'tR', 'TypeError'),
  'more arguments': (tensor()[:-2] + b'NNNtR', 'described wrongly'),
  'a tensor of no storage': (REBUILD + b'K\x01K\x00))\x89}tR', 'no storage'),
  'a tensor of a tensor': (
    REBUILD + tensor() + b'K\x00))\x89}tR',
    'no storage',
  ),
  'a shape of texts': (
    REBUILD + storage() + b'K\x00(' + text('a') + b't)\x89}tR',
    'no shape',
  ),
  'a parameter of no tensor': (
    b'ctorch._utils\n_rebuild_parameter\n(K\x01tR',
    'parameter in it is described wrongly',
  ),
  'a nested persistent id': (
    b'(' + text('storage') + storage() + b'tQ',
    'refers to what is no storage',
  ),
  'a type that is a storage': (
    b'(' + text('storage') + storage() + text('0') + text('cpu') + b'K\6tQ',
    'a storage of no known type',
  ),
  'a persistent id of a module': (
    b'(' + text('module') + b'NNNNtQ',
    'refers to what is no storage',
  ),
  'a persistent id of no tuple': (b'K\x01Q', 'refers to what is no storage'),
  'a storage of another type': (
    storage(kind='Size'),
    'a storage of no known type',
  ),
  'a storage within another': (
    tensor(tail=b'(K\x01K\x02t'),
    'a storage in it is part of another',
  ),
  'a storage of negative length': (tensor(length=-6), 'no name or no length'),
  'a storage of a length in words': (
    tensor().replace(number(6), text('six')),
    'no name or no length',
  ),
  'two storages of one key': (
    b'](' + tensor() + tensor(kind='IntStorage') + b'e',
    "storage '0' is described in two ways",
  ),
  'a key that is a dict': (b'}}Ns', 'keys of type dict'),
  'a key that is a tuple': (b'})Ns', 'keys of type tuple'),
  'a key without a value': (b'}(K\x01u', 'lacks a value'),
  'items of no dict': (b'](K\x01K\x02u', 'fills what is no dict'),
  'attributes of no object': (b'NNb', 'fills what is no dict'),
  'items of no list': (b'}K\x01a', 'fills what is no list'),
  'what was never stored': (b'h\x07', 'recalls what it never stored'),
  'a mark that is stored': (b'(q\x01', 'fills what is no object'),
  'no mark': (b'tttt', 'takes more than it has'),
  'no item': (b'(\x87', 'takes more than it has'),
  'too much': (b'Ns}' + text('a') + b'N', 'leaves something behind'),
  'text that is none': (b'X\x02\x00\x00\x00\xff\xfe', 'UnicodeDecodeError'),
  'text longer than the file': (b'X\xff\xff\xff\xff', 'does not end'),
  'a number longer than the file': (b'\x8a\xff', 'does not end'),
  'a name without end': (b'c' + b'a' * 5000, 'a name in its pickle'),
  'deep nesting': (
    b'](' + tensor() + b']' * 50_000 + b'a' * 49_999 + b'e',
    'no state dict',
  ),
  'no tensors': (b'](' + tensor() + b'e', 'no state dict'),
}


@both
@pytest.mark.parametrize(
  'value, words', NOTHING_ELSE.values(), ids=NOTHING_ELSE
)
def test_nothing_but_plain_state_dicts(tmp_path, write, value, words):
  refused(write(tmp_path / 'a.pth', objects(value)), words)


VIEWS = {
  'a negative offset': tensor(offset=-1),
  'an offset too far': tensor(offset=1),
  'a negative length': tensor(shape=(-1, -6), strides=(6, 1)),
  'a negative stride': tensor(offset=5, strides=(-3, -1)),
  'a stride too far': tensor(strides=(3, 2)),
  'a product that overflows': tensor(shape=(2**32, 2**32), strides=(1, 1)),
  'one element many times': tensor(shape=(2**40,), strides=(0,)),
  'one element a few times': tensor(shape=(7,), strides=(0,)),
  'a shape without strides': tensor(strides=(1,)),
  'more lengths than numpy has': tensor(shape=(1,) * 99, strides=(1,) * 99),
  'no array, but a huge one': tensor(shape=(0, 2**62, 2**62), strides=(1,) * 3),
  'a storage longer than the file': tensor(length=2**40),
  'a storage shorter than said': tensor(length=7),
  'a storage of another type': tensor(kind='DoubleStorage'),
  'a storage that is missing': tensor(key='1'),
}


@both
@pytest.mark.parametrize('value', VIEWS.values(), ids=VIEWS)
def test_tensors_stay_within_their_storage(tmp_path, write, value):
  refused(write(tmp_path / 'a.pth', objects(value)), 'fetch it again')


@both
def test_takes_no_more_memory_than_the_file(tmp_path, write):
  # Python's own unpickler makes room for 2^31 objects here: 16 GB.
  memo = objects(b'Nr' + struct.pack('<I', 2**31) + b'0' + tensor())
  path = write(tmp_path / 'a.pth', memo.replace(b'0c', b'c'))
  tracemalloc.start()
  try:
    with pytest.raises(UserError):
      files.read(path)
    large = objects(b'X' + struct.pack('<I', 2**32 - 1))
    refused(write(tmp_path / 'b.pth', large), 'does not end')
    assert tracemalloc.get_traced_memory()[1] < 2**21
  finally:
    tracemalloc.stop()


@both
def test_pickles_have_a_limit(tmp_path, write):
  long = objects(text('a' * pickled.MAX_SIZE))
  refused(write(tmp_path / 'a.pth', long), 'larger than', 'state_dict()')


def test_members_of_an_archive_are_as_pytorch_writes_them(tmp_path):
  good = objects(tensor())
  path = write_zip(tmp_path / 'a.pth', good)
  data = bytearray(path.read_bytes())
  data[data.find(b'PK\x01\x02') + 8] |= 1
  path.write_bytes(data)
  refused(path, 'encrypted')
  zeros = {'data/0': bytes(10**7)}
  write_zip(path, good, zeros, compression=zipfile.ZIP_DEFLATED)
  assert path.stat().st_size < 20_000  # a bomb
  refused(path, 'compressed', 'zip -0')
  refused(write_zip(path, good, {}), "lacks 'data/0'")
  big = {'byteorder': b'big', 'data/0': COUNT[:6].tobytes()}
  refused(write_zip(path, good, big), 'big-endian')
  refused(write_zip(path, good, {'constants.pkl': b''}), 'TorchScript')
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('model.weights.h5', b'')
  refused(path, 'Keras', 'model.weights.h5')
  np.savez(tmp_path / 'a.npz', w=COUNT)
  refused(tmp_path / 'a.npz', 'numpy')
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('readme.txt', b'')
  refused(path, 'not of torch.save')


def test_overlapping_members_of_an_archive(tmp_path):
  members = {f'data/{i}': bytes(1000) for i in range(20)}
  path = write_zip(tmp_path / 'a.pth', objects(tensor()), members)
  data = bytearray(path.read_bytes())
  # Every member of the directory at the end is said to be large.
  place = data.find(b'PK\x01\x02')
  while place >= 0:
    data[place + 20 : place + 28] = struct.pack('<2I', 9000, 9000)
    place = data.find(b'PK\x01\x02', place + 1)
  path.write_bytes(data)
  refused(path, 'members of the archive are larger than it')


@pytest.mark.parametrize(
  'storages, keys, words',
  [
    (b'', ('0',), 'bytes'),
    (struct.pack('<q', 6) + bytes(23), ('0',), 'bytes'),
    (struct.pack('<q', 5) + bytes(24), ('0',), 'not 6 elements'),
    (struct.pack('<q', -1) + bytes(24), ('0',), 'not 6 elements'),
    (None, ('1',), 'list of storages'),
    (None, (), 'missing'),
    (None, ([],), 'list of storages'),
  ],
)
def test_storages_of_a_legacy_file(tmp_path, storages, keys, words):
  path = write_legacy(
    tmp_path / 'a.pth', objects(tensor()), storages=storages, keys=keys
  )
  refused(path, words)


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_a_damaged_file_is_right_or_refused(tmp_path, kind):
  original = (DATA / f'tensors.{kind}.pth').read_bytes()
  path = tmp_path / 'a.pth'
  random = np.random.default_rng(0)
  outcomes = set()
  for _ in range(200):
    data = bytearray(original)
    place = random.integers(len(data))
    if random.random() < 0.2:
      del data[place:]
    else:
      data[place] ^= 1 << random.integers(8)
    path.write_bytes(data)
    try:
      arrays = files.read(path).arrays
      # A legacy file has no checksums: its values may change unseen.
      right = kind == 'legacy' or all(
        arrays[name].tobytes() == expected.tobytes()
        for name, expected in TENSORS.items()
      )
      assert right
      outcomes.add('read')
    except UserError as error:
      assert str(error).startswith(str(path)) and str(error).isprintable()
      outcomes.add('refused')
  assert outcomes == {'read', 'refused'}


def test_no_module_knows_pickle():
  for path in Path(files.__file__).parents[1].rglob('*.py'):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        imported |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        imported.add(node.module)
    assert imported.isdisjoint({'pickle', '_pickle', 'dill', 'cloudpickle'})
