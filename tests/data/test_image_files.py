"""Image files by name and by folder."""

import pytest

from effnet_jax.data.image_files import Found, find
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
