import shutil
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import files
from effnet_jax.weights.crc32c import crc32c

# Written by TensorFlow itself, data/make_tf.py.
DATA = Path(__file__).parent / 'data'
SAVED = {
  'efficientnet-b0/stem/bfloat16': np.array([0, 0.25, 0.5], ml_dtypes.bfloat16),
  'efficientnet-b0/stem/gamma': np.float32([1, 1.25, 1.5, 1.75]),
  'efficientnet-b0/stem/gamma/ExponentialMovingAverage': np.float32(
    [0.5, 0.75, 1, 1.25]
  ),
  'efficientnet-b0/stem/gamma/RMSProp': np.ones(4, np.float32),
  'efficientnet-b0/stem/gamma/RMSProp_1': np.zeros(4, np.float32),
  'efficientnet-b0/stem/kernel': np.arange(24, dtype=np.float32).reshape(
    2, 3, 4
  ),
  'global_step': np.array(1),
}
OBJECTS = {
  'kernel/.ATTRIBUTES/VARIABLE_VALUE': np.float32([[0, 1, 2], [3, 4, 5]]),
  'layers/0/.ATTRIBUTES/VARIABLE_VALUE': np.float16([1, 2.5]),
  'layers/1/.ATTRIBUTES/VARIABLE_VALUE': np.array(7, np.int32),
}


def check(file, expected):
  assert file.format == 'tensorflow' and file.metadata == {}
  assert list(file.arrays) == list(expected)
  for name, value in expected.items():
    found = file.arrays[name]
    assert (found.dtype, found.shape) == (value.dtype, value.shape), name
    assert found.tobytes() == value.tobytes(), name
    assert found.flags.aligned and not found.flags.writeable


@pytest.mark.parametrize(
  'name, expected',
  [('saver', SAVED), ('sharded', SAVED), ('objects', OBJECTS)],
)
def test_reads_what_tensorflow_writes(name, expected):
  check(files.read(DATA / name), expected)
  check(files.read(f'{DATA / name}.index'), expected)


def test_partitioned_variables_are_refused():
  with pytest.raises(UserError, match="'efficientnet-b0/stem/kernel' is part"):
    files.read(DATA / 'partitioned')


@pytest.fixture
def folder(tmp_path):
  for path in DATA.glob('saver.*'):
    shutil.copy(path, tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  'text',
  [
    'model_checkpoint_path: "saver"\nall_model_checkpoint_paths: "old"\n',
    'model_checkpoint_path: "/training/machine/saver"\n',
    'model_checkpoint_path: "./saver"\n',
    None,
  ],
)
def test_a_directory_names_its_checkpoint(folder, text):
  if text:
    (folder / 'checkpoint').write_text(text)
  check(files.read(folder), SAVED)


def refused(path, *words):
  """Reading ends in a line that names the path and has these words."""
  with pytest.raises(UserError) as error:
    files.read(path)
  line = str(error.value)
  assert line.isprintable() and line.startswith(f'{path}: ')
  for word in words:
    assert word in line, line


@pytest.mark.parametrize(
  'named', ['../saver', '../../saver', 'sub/../../saver', 'other', '/x/other']
)
def test_a_directory_names_nothing_elsewhere(folder, named):
  inside = folder / 'inside'
  inside.mkdir()
  (inside / 'checkpoint').write_text(f'model_checkpoint_path: "{named}"\n')
  refused(inside, repr(named), 'not in this directory', 'name the checkpoint')


def test_a_directory_that_says_too_little(folder):
  shutil.copy(folder / 'saver.index', folder / 'second.index')
  refused(folder, '2 checkpoints', 'second.index')
  (folder / 'checkpoint').write_bytes(bytes(range(256)))
  refused(folder, 'names no model_checkpoint_path')
  (folder / 'empty').mkdir()
  refused(folder / 'empty', 'a directory without')


def test_a_missing_file(folder):
  refused(folder / 'savex.index', 'no such file')
  (folder / 'saver.data-00000-of-00001').unlink()
  refused(folder / 'saver', 'saver.data-00000-of-00001 is not beside')


def test_a_sha256_is_of_one_file(folder):
  with pytest.raises(UserError, match='a TensorFlow checkpoint is two'):
    files.read(folder, '12345678')


def slow_crc32c(data):
  """Bit by bit, as the definition has it."""
  state = 0xFFFFFFFF
  for byte in data:
    state ^= byte
    for _ in range(8):
      state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
  return state ^ 0xFFFFFFFF


def crc(data):
  return crc32c(np.frombuffer(data, np.uint8))


def test_crc32c_of_rfc_3720():
  assert crc(bytes(32)) == 0x8A9136AA
  assert crc(b'\xff' * 32) == 0x62A8AB43
  assert crc(bytes(range(32))) == 0x46DD794E
  assert crc(bytes(range(31, -1, -1))) == 0x113FDB5C
  assert crc(b'123456789') == 0xE3069283
  assert crc(b'') == 0


@pytest.mark.parametrize(
  'size', [1, 3, 511, 512, 1023, 1024, 1025, 4096, 8193, 70_001, 140_000]
)
def test_crc32c_of_any_size(size):
  data = np.random.default_rng(size).bytes(size + 1)
  assert crc(data[1:]) == slow_crc32c(data[1:])


# A writer of checkpoints, for what TensorFlow would not write.
def varint(number):
  number &= 2**64 - 1
  data = b''
  while number > 127:
    data += bytes([number & 127 | 128])
    number >>= 7
  return data + bytes([number])


def masked(data):
  value = slow_crc32c(data)
  return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def message(**fields):
  """A protocol buffer: _1=2 is field 1, a varint; bytes are as they are."""
  data = b''
  for name, value in fields.items():
    tag = int(name[1:]) << 3
    if isinstance(value, bytes):
      data += varint(tag | 2) + varint(len(value)) + value
    else:
      data += varint(tag) + varint(value)
  return data


def shape(*lengths):
  return b''.join(message(_2=message(_1=length)) for length in lengths)


VALUES = np.arange(6, dtype=np.float32)
HEADER = message(_1=1, _3=message(_1=1))


def entry(dtype=1, lengths=(2, 3), shard=0, offset=0, size=24, tail=b''):
  checksum = struct.pack('<BI', 6 << 3 | 5, masked(VALUES.tobytes()))
  fields = message(_1=dtype, _2=shape(*lengths), _3=shard, _4=offset, _5=size)
  return fields + checksum + tail


def block(entries, packing=0):
  data = entries + struct.pack('<II', 0, 1)
  trailer = data + bytes([packing])
  return trailer + struct.pack('<I', masked(trailer))


def item(key, value, shared=0):
  return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def table(*blocks):
  data, handles = b'', b''
  for one in blocks:
    handle = varint(len(data)) + varint(len(one) - 5)
    handles += item(b'', handle)
    data += one
  index = block(handles)
  footer = varint(0) * 2 + varint(len(data)) + varint(len(index) - 5)
  magic = struct.pack('<Q', 0xDB4775248B80FB57)
  return data + index + footer.ljust(40, b'\0') + magic


def write(folder, index):
  (folder / 'made.index').write_bytes(index)
  (folder / 'made.data-00000-of-00001').write_bytes(VALUES.tobytes())
  return folder / 'made'


def bundle(*entries, header=HEADER):
  names = (item(f'{i:03}'.encode(), e) for i, e in enumerate(entries))
  return table(block(item(b'', header) + b''.join(names)))


def test_the_writer_is_right(tmp_path):
  path = write(tmp_path, bundle(entry()))
  check(files.read(path), {'000': VALUES.reshape(2, 3)})


INDEXES = {
  'no file': (b'', 'does not end as a table'),
  'another file': (bytes(100), 'does not end as a table'),
  'a huge file': (bytes(2**24 + 1), 'none of weights'),
  'cut at the front': (bundle(entry())[7:], 'block of the index'),
  'no header': (table(block(b'')), 'no header'),
  'no block': (table(), 'no header'),
  'no shards': (bundle(entry(), header=b''), 'how many shards'),
  'shards without end': (bundle(header=message(_1=2**40)), 'many shards'),
  'shards in words': (bundle(header=message(_1=b'one')), 'many shards'),
  'a big-endian machine': (bundle(header=message(_1=1, _2=1)), 'big-endian'),
  'another shard': (bundle(entry(shard=1)), 'shard 1 of 1'),
  'a shard before the first': (bundle(entry(shard=-1)), 'shard'),
  'too large an offset': (bundle(entry(offset=1)), 'is said to be bytes'),
  'a negative offset': (bundle(entry(offset=-24)), 'is said to be bytes'),
  'too large a size': (bundle(entry(size=28)), 'overlap'),
  'too small a size': (bundle(entry(size=20)), 'but 20 bytes'),
  'a huge shape': (bundle(entry(lengths=(2**62, 2**62))), 'but 24 bytes'),
  'a negative shape': (bundle(entry(lengths=(-2, -3))), 'but 24 bytes'),
  'a shape without end': (bundle(entry(lengths=[2**62] * 9999)), 'no shape'),
  'another shape': (bundle(entry(lengths=(2, 2))), 'but 24 bytes'),
  'a slice': (bundle(entry(tail=message(_7=b''))), 'partitioned'),
  'a complex number': (bundle(entry(dtype=8)), 'TensorFlow type 8'),
  'no type': (bundle(b''), 'TensorFlow type 0'),
  'a group': (bundle(entry(tail=b'\x43')), 'no protocol buffer'),
  'a cut message': (bundle(entry(tail=b'\x42\x09')), 'cut short'),
  'a tensor twice': (bundle(entry(), entry()), 'overlap'),
  'a snappy block': (table(block(item(b'', HEADER), 1)), 'snappy'),
  'names out of order': (
    table(block(item(b'', HEADER) + item(b'b', b'\x08\x07') + item(b'a', b''))),
    'out of order',
  ),
  'a name of no text': (
    table(block(item(b'', HEADER) + item(b'\xff', entry()))),
    'UnicodeDecodeError',
  ),
  'a long name': (
    table(block(item(b'', HEADER) + item(b'a' * 1025, entry()))),
    'does not fit its block',
  ),
  'a name of more than there is': (
    table(block(item(b'', HEADER) + item(b'a', entry(), shared=1))),
    'does not fit its block',
  ),
  'a value past the block': (
    table(block(item(b'', HEADER) + b'\0\1\x7fa')),
    'does not fit its block',
  ),
  'a number without end': (
    table(block(item(b'', HEADER) + b'\xff' * 20)),
    'does not end',
  ),
}


@pytest.mark.parametrize('index, words', INDEXES.values(), ids=INDEXES)
def test_an_index_that_is_wrong(tmp_path, index, words):
  refused(write(tmp_path, index), words)


def test_too_many_restarts(tmp_path):
  data = struct.pack('<I', 2**32 - 1) + b'\0'
  one = data + struct.pack('<I', masked(data))
  refused(write(tmp_path, table(one)), 'too short')


def test_blocks_that_overlap(tmp_path):
  # Seven shards; read as an entry, of type 7, a text, which is passed over.
  one = block(item(b'', message(_1=7)))
  handle = item(b'', varint(0) + varint(len(one) - 5))
  index = block(handle * 100)
  footer = varint(0) * 2 + varint(len(one)) + varint(len(index) - 5)
  magic = struct.pack('<Q', 0xDB4775248B80FB57)
  data = one + index + footer.ljust(40, b'\0') + magic
  refused(write(tmp_path, data), 'blocks of the index overlap')


def test_strings_are_left_out(tmp_path):
  path = write(tmp_path, bundle(entry(dtype=7, lengths=(), size=0), entry()))
  check(files.read(path), {'001': VALUES.reshape(2, 3)})


def test_names_share_their_beginning(tmp_path):
  # As TensorFlow writes longer tables; 'ab' after 'aa' is 'a' and 'b'.
  checksum = struct.pack('<BI', 6 << 3 | 5, masked(b''))
  empty = message(_1=1, _2=shape(0, 2)) + checksum
  entries = item(b'', HEADER) + item(b'aa', empty) + item(b'b', empty, shared=1)
  file = files.read(write(tmp_path, table(block(entries))))
  assert list(file.arrays) == ['aa', 'ab']
  assert file.arrays['ab'].shape == (0, 2)


def test_a_damaged_checkpoint_is_right_or_refused(tmp_path):
  originals = {path.name: path.read_bytes() for path in DATA.glob('sharded.*')}
  random = np.random.default_rng(0)
  outcomes = set()
  for _ in range(200):
    damaged = str(random.choice(sorted(originals)))
    for name, original in originals.items():
      data = bytearray(original)
      if name == damaged:
        place = random.integers(len(data))
        if random.random() < 0.2:
          del data[place:]
        else:
          data[place] ^= 1 << random.integers(8)
      (tmp_path / name).write_bytes(data)
    try:
      check(files.read(tmp_path / 'sharded'), SAVED)
      outcomes.add('read')
    except UserError as error:
      assert str(error).startswith(str(tmp_path))
      assert str(error).isprintable()
      outcomes.add('refused')
  assert outcomes == {'read', 'refused'}
