"""JPEG down to a row: exact above it, whatever the encoder did."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from effnet_jax.data import jpeg, preprocess
from effnet_jax.data.preprocess import Preprocess, train_image

PHOTO = Image.fromarray(np.asarray(data.chelsea())[:, :, :3])
KINDS = {
  'usual': {'quality': 92},
  'no subsampling': {'subsampling': '4:4:4'},
  'half the colours': {'subsampling': '4:2:2'},
  'progressive': {'progressive': True},
  'restart markers': {'restart_marker_rows': 1},
  'own tables': {'optimize': True},
  'grey': {},
}


def _encode(kind, **options):
  image = PHOTO.convert('L') if kind == 'grey' else PHOTO
  stream = io.BytesIO()
  image.save(stream, 'JPEG', **KINDS[kind], **options)
  return stream.getvalue()


@pytest.mark.parametrize('kind', KINDS)
def test_the_rows_asked_for_are_those_of_the_whole_image(kind):
  encoded = _encode(kind)
  assert jpeg.shape(encoded) == (300, 451)
  whole = jpeg.decode(encoded)
  assert whole.shape == (300, 451, 3) and whole.dtype == np.uint8
  stream = io.BytesIO(encoded)
  with Image.open(stream) as image:
    difference = np.abs(whole - np.asarray(image.convert('RGB'), int))
  assert difference.max() <= 3
  for rows in (1, 7, 8, 15, 16, 17, 31, 32, 33, 150, 298, 299, 300):
    part = jpeg.decode_rows(encoded, rows)
    assert np.array_equal(part[:rows], whole[:rows]), rows
    if kind != 'progressive':
      assert len(part) == min(rows + 1, 300)  # or nothing is won


def test_colours_in_scans_of_their_own_are_read_whole():
  # Where the frame has three components and the first scan one.
  encoded = bytearray(_encode('usual'))
  scan = encoded.index(b'\xff\xda')
  assert encoded[scan + 4] == 3
  encoded[scan + 4] = 1
  assert jpeg._shortened(bytes(encoded), 10) == encoded
  encoded[scan + 4] = 3
  assert jpeg._shortened(bytes(encoded), 10) != encoded


@pytest.mark.parametrize(
  'encoded',
  [
    b'',
    b'\xff\xd8',
    b'\xff\xd8\xff\xd9',
    b'\xff\xd8' + b'\xff' * 300 + b'\xff\xd9',
    b'\xff\xd8\xff\xe0\x00\x00' * 60 + b'\xff\xd9',
    b'\x89PNG\r\n\x1a\n\xff\xd9',
  ],
)
def test_what_is_no_jpeg_is_left_to_others(encoded):
  assert jpeg.shape(encoded) is None
  assert jpeg.decode(encoded) is None


def test_damaged_headers_end():
  encoded, rng = _encode('usual'), np.random.default_rng(0)
  header = encoded.index(b'\xff\xda') + 12
  for _ in range(300):
    damaged = bytearray(encoded)
    for _ in range(3):
      damaged[rng.integers(header)] = rng.integers(256)
    jpeg._shortened(bytes(damaged[: rng.integers(2, len(damaged))]), 10)


def test_what_is_handed_out_is_not_written_over():
  encoded, p = _encode('usual'), Preprocess(300, crop_area=None, flip=False)
  small = _encode('grey')
  for give in (
    jpeg.decode,
    preprocess.decode,
    lambda data: train_image(np.random.default_rng(0), data, p),
    lambda data: train_image(
      np.random.default_rng(0), data, Preprocess(224, crop_padding=None)
    ),
  ):
    first = give(encoded)
    before = first.copy()
    give(small)
    assert np.array_equal(first, before)


@pytest.mark.parametrize('kind', KINDS)
def test_a_training_image_is_the_same_with_less_decoded(kind, monkeypatch):
  encoded, p = _encode(kind), Preprocess(32)
  seen, decode = [], jpeg.decode_rows
  monkeypatch.setattr(
    jpeg, 'decode_rows', lambda d, rows: seen.append(rows) or decode(d, rows)
  )
  for seed in range(20):
    fast = train_image(np.random.default_rng(seed), encoded, p)
    whole = preprocess.decode(encoded)
    slow = train_image(np.random.default_rng(seed), whole, p)
    assert np.array_equal(fast, slow)
  assert min(rows for rows in seen if rows) < 200
