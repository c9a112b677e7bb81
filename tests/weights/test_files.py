import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import files

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / 'data'
ARRAYS = {'w': np.arange(6, dtype=np.float32).reshape(2, 3)}


def refused(path, *words, **kwargs):
  """Reading ends in a line that names the path and has these words."""
  with pytest.raises(UserError) as error:
    files.read(path, **kwargs)
  line = str(error.value)
  assert line.isprintable() and line.startswith(str(path))
  for word in words:
    assert word in line, line


@pytest.mark.parametrize(
  'source, kind',
  [('tensors.zip.pth', 'torch'), ('tensors.legacy.pth', 'torch')],
)
def test_the_content_tells_the_format(tmp_path, source, kind):
  for name in ('a.safetensors', 'a.h5', 'a', 'a.bin'):
    path = tmp_path / name
    path.write_bytes((DATA / source).read_bytes())
    assert files.read(path).format == kind
    assert files.read(str(path)).format == kind
  path = tmp_path / 'a.pth'
  files.write_safetensors(path, ARRAYS)
  assert files.read(path).format == 'safetensors'
  files.write_hdf5(path, ARRAYS)
  assert files.read(path).format == 'hdf5'


def test_home_is_understood(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  files.write_safetensors('~/a.safetensors', ARRAYS)
  assert files.read('~/a.safetensors').arrays.keys() == {'w'}


OTHERS = {
  'empty': (b'', 'empty: fetch it again'),
  'an error page': (b'<!DOCTYPE html>\n<html>404</html>', '<!DOCTYPE html>'),
  'an error in JSON': (b'{"error": "Repository not found"}', 'error page'),
  'a text': ('Kein Zugriff \u00e4\r\n'.encode(), 'error page'),
  'a git-LFS pointer': (
    b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
    'git lfs pull',
  ),
  'a pickle': (b'\x80\x04\x95\x03\x00\x00\x00', 'a plain pickle'),
  'an old pickle': (b'\x80\x02}q\x00.', 'a plain pickle'),
  'an array': (b'\x93NUMPY\x01\x00v\x00{', 'one numpy array'),
  'a packed archive': (b'\x1f\x8b\x08\x00', 'unpack it (tar xf)'),
  'anything': (bytes(range(40)), 'begins 00 01 02 03 04 05 06 07, so none of'),
  'an index by another name': (
    bytes(40) + 0xDB4775248B80FB57.to_bytes(8, 'little'),
    'PREFIX.index',
  ),
}


@pytest.mark.parametrize('data, words', OTHERS.values(), ids=OTHERS)
def test_other_files(tmp_path, data, words):
  path = tmp_path / 'a.pth'
  path.write_bytes(data)
  refused(path, words)


def test_no_file(tmp_path):
  refused(tmp_path / 'a.pth', 'no such file; check the path')
  refused(tmp_path / 'a' / 'a.pth', 'no such file')
  (tmp_path / 'efficientnet_b0.pth').write_bytes(b'')
  refused(tmp_path / 'efficientnet-b0.pth', 'did you mean efficientnet_b0.pth?')
  refused(tmp_path, 'a directory without weights')
  os.mkfifo(tmp_path / 'pipe')  # opening it would wait for ever
  refused(tmp_path / 'pipe', 'no ordinary file')
  os.mkfifo(tmp_path / 'pipe.index')
  refused(tmp_path / 'pipe.index', 'no such file')


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
  path = tmp_path / 'a.safetensors'
  files.write_safetensors(path, ARRAYS)

  def denied(*args):
    raise PermissionError(13, 'Permission denied')

  # Root, as tests may run, may read anything.
  monkeypatch.setattr(files.raw, 'map_file', denied)
  refused(path, 'cannot be read: Permission denied')


@pytest.mark.parametrize(
  'name', ['b0-{}.pth', 'b0-{}.pt', 'b0-{}.safetensors', 'a-b-{}.h5']
)
def test_the_name_tells_the_sha256(tmp_path, name):
  plain = tmp_path / 'a'
  files.write_safetensors(plain, ARRAYS)
  digest = hashlib.sha256(plain.read_bytes()).hexdigest()
  assert not digest[:8].isdigit()
  for length in (8, 10, 64):
    path = plain.rename(tmp_path / name.format(digest[:length]))
    assert files.read(path).arrays.keys() == {'w'}
    plain = path
  wrong = plain.rename(tmp_path / name.format('0123abcd'))
  refused(
    wrong, f'begins {digest[:8]}, not 0123abcd', 'download it again', 'rename'
  )
  # What the caller knows is worth more than the name.
  assert files.read(wrong, digest[:9].upper()).arrays.keys() == {'w'}


@pytest.mark.parametrize(
  'name',
  [
    *('b0-20231124.pth', 'b0-1234abc.pth', 'b0_0123abcd.pth', 'b0-0123abcd'),
    *('b0-0123abcd.index.pth', 'b0-seed0000.pth', 'b0-ABCDEF01.pth'),
  ],
)
def test_other_names_tell_no_sha256(tmp_path, name):
  files.write_safetensors(tmp_path / name, ARRAYS)
  assert files.read(tmp_path / name).arrays.keys() == {'w'}


def test_the_sha256_comes_before_all_else(tmp_path, monkeypatch):
  path = tmp_path / 'a.pth'
  path.write_bytes((DATA / 'tensors.zip.pth').read_bytes())

  def never(data):
    raise AssertionError('looked into')

  monkeypatch.setattr(files, '_recognise', never)
  found = hashlib.sha256(path.read_bytes()).hexdigest()
  refused(path, f'begins {found[:8]}, not 57934424', sha256_prefix='57934424')
  for prefix in ('', '1234', 'x' * 8, '0' * 65):
    refused(path, 'not how a sha256 begins', sha256_prefix=prefix)


WRITERS = {'safetensors': files.write_safetensors, 'h5': files.write_hdf5}
writers = pytest.mark.parametrize('write', WRITERS.values(), ids=WRITERS)


@writers
def test_a_file_is_written_whole_or_not_at_all(tmp_path, write):
  path = tmp_path / 'a'
  write(path, ARRAYS)
  before = path.read_bytes()
  # Readable by whom the user lets read files.
  (tmp_path / 'b').touch()
  assert path.stat().st_mode == (tmp_path / 'b').stat().st_mode
  with pytest.raises((KeyError, TypeError)):
    write(path, {**ARRAYS, 'x': np.array([object()])})
  assert path.read_bytes() == before
  assert sorted(os.listdir(tmp_path)) == ['a', 'b']


@writers
def test_a_place_that_cannot_be_written(tmp_path, write):
  missing = tmp_path / 'missing' / 'a'
  with pytest.raises(UserError, match=re.escape(f'{missing} cannot be writ')):
    write(missing, ARRAYS)
  (tmp_path / 'folder').mkdir()
  with pytest.raises(UserError, match='cannot be written'):
    write(tmp_path / 'folder', ARRAYS)
  assert os.listdir(tmp_path) == ['folder']


@pytest.mark.parametrize('writer', ['write_safetensors', 'write_hdf5'])
def test_a_full_disk(tmp_path, writer):
  # A limit on the size of files stands for it: another errno, no more.
  code = f"""
import resource, sys
import numpy as np
from effnet_jax.errors import UserError
from effnet_jax.weights import files
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
arrays = {{f'a/{{i}}': np.ones(10_000) for i in range(9)}}
try:
  files.{writer}(sys.argv[1], arrays)
except UserError as error:
  print(error)
"""
  run = subprocess.run(
    [sys.executable, '-c', code, str(tmp_path / 'a')],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  )
  assert len(run.stdout.splitlines()) == 1
  assert run.stdout.startswith(f'{tmp_path / "a"} cannot be written (')
  assert 'File too large' in run.stdout
  assert os.listdir(tmp_path) == []
