"""Image files by name and by folder."""

import os

import numpy as np
import pytest
from PIL import Image

from effnet_jax.data.image_files import Found, below, find, read
from effnet_jax.data.preprocess import DecodeError, Preprocess
from effnet_jax.errors import UserError


@pytest.fixture
def photos(tmp_path):
  for name in (
    'b/2.JPEG',
    'b/1.png',
    'a.gif',
    'c.webp',
    'notes.txt',
    'b/more.csv',
    '.hidden.png',
    '.cache/1.png',
  ):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
  return tmp_path


def _names(found, root):
  return [path.removeprefix(f'{root}/') for path in found.files]


def test_a_folder_with_all_that_is_in_it(photos):
  found = find([photos])
  assert _names(found, photos) == ['a.gif', 'c.webp', 'b/1.png', 'b/2.JPEG']
  assert found.skipped == 2


def test_files_are_taken_whatever_their_names_in_the_order_given(photos):
  found = find([photos / 'notes.txt', photos / 'b', str(photos / 'a.gif')])
  names = _names(found, photos)
  assert names == ['notes.txt', 'b/1.png', 'b/2.JPEG', 'a.gif']
  assert found.skipped == 1
  assert find([photos / 'c.webp']) == Found((str(photos / 'c.webp'),), 0)


def test_home_is_known(photos, monkeypatch):
  monkeypatch.setenv('HOME', str(photos))
  assert find(['~/a.gif']).files == (str(photos / 'a.gif'),)


def test_nothing_there(photos):
  (photos / 'gone.png').symlink_to(photos / 'nowhere')
  (photos / 'empty').mkdir()
  for path, message in (
    (photos / 'notes.tx', 'did you mean notes.txt?'),
    (photos / 'xyzzy', f'nothing in {photos} has a name like it'),
    (photos / 'd' / '1.png', f'there is no folder {photos}/d'),
    (photos / 'gone.png', 'neither a file nor a folder'),
    (photos / 'empty', f'no image in {photos}/empty: files read'),
  ):
    with pytest.raises(UserError) as info:
      find([photos / 'a.gif', path] if path.name != 'empty' else [path])
    assert message in str(info.value) and '\n' not in str(info.value)


@pytest.fixture
def lock(monkeypatch):
  """Makes a folder unreadable: tests run as root, whom modes do not stop."""

  def lock(folder):
    def refuse(function):
      def call(path, *rest, **kwargs):
        if os.fspath(path) == str(folder):
          raise PermissionError(13, 'Permission denied', str(folder))
        return function(path, *rest, **kwargs)

      return call

    for name in ('scandir', 'listdir'):
      monkeypatch.setattr(os, name, refuse(getattr(os, name)))

  return lock


def test_what_cannot_be_read_is_said(photos, lock):
  locked = photos / 'b'
  lock(locked)
  for search in (
    lambda: find([locked]),
    lambda: find([photos]),  # not searched without it
    lambda: below(str(locked)),
  ):
    with pytest.raises(UserError) as info:
      search()
    assert str(info.value) == f'{locked} cannot be read: Permission denied'
  with pytest.raises(UserError) as info:
    find([locked / 'none.png'])
  assert str(info.value) == f'no file {locked}/none.png'
  assert find([locked / '1.png']).files == (f'{locked}/1.png',)


def test_what_cannot_be_reached_is_said(photos, monkeypatch):
  path = str(photos / 'b' / '1.png')

  def stat(of, *rest, function=os.stat, **kwargs):
    if os.fspath(of) == path:
      raise PermissionError(13, 'Permission denied', path)
    return function(of, *rest, **kwargs)

  monkeypatch.setattr(os, 'stat', stat)
  monkeypatch.setattr(os.path, 'isfile', lambda path: False)
  with pytest.raises(UserError) as info:
    find([path])
  assert str(info.value) == f'{path} cannot be reached: Permission denied'


def test_one_read_as_in_evaluation(tmp_path):
  # Left half red, right half blue: the crop of 8 pixels has some of each.
  pixels = np.zeros((16, 32, 3), np.uint8)
  pixels[:, :16, 0] = pixels[:, 16:, 2] = 255
  path = str(tmp_path / 'image.png')
  Image.fromarray(pixels).save(path)
  image = read(path, Preprocess(8, crop_padding=8))
  np.testing.assert_array_equal(image, pixels[4:12, 12:20])
  (tmp_path / 'broken.png').write_bytes(b'broken')
  for name, reason in (
    ('broken.png', 'cannot be decoded: unknown format'),
    ('none.png', 'cannot be read: No such file or directory'),
  ):
    with pytest.raises(DecodeError) as info:
      read(str(tmp_path / name), Preprocess(8))
    assert str(info.value) == f'{tmp_path / name}: {reason}'
