"""Decoding against Pillow, OpenCV and known pixels; what can't be decoded."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps
from skimage import data

from effnet_jax.data.preprocess import (
  MAX_PIXELS,
  DecodeError,
  Preprocess,
  decode,
  train_image,
)

CHELSEA = Image.fromarray(np.asarray(data.chelsea())[:, :, :3])


def _encode(image, kind, **options):
  stream = io.BytesIO()
  image.save(stream, kind, **options)
  return stream.getvalue()


def _pillow(encoded):
  with Image.open(io.BytesIO(encoded)) as image:
    return np.asarray(image.convert('RGB'), int)


@pytest.mark.parametrize(
  ('mode', 'options'),
  [
    ('RGB', {'quality': 92}),
    ('RGB', {'quality': 60, 'progressive': True}),
    ('RGB', {'quality': 75, 'subsampling': 0}),
    ('L', {}),
  ],
)
def test_jpeg_is_pillows(mode, options):
  encoded = _encode(CHELSEA.convert(mode), 'JPEG', **options)
  decoded = decode(encoded)
  assert decoded.shape == (300, 451, 3) and decoded.dtype == np.uint8
  difference = np.abs(decoded - _pillow(encoded))
  assert difference.max() <= 3
  assert difference.mean() < 0.5


def test_cmyk_jpeg_is_read_as_ink():
  ink = np.zeros((16, 16, 4), np.uint8)
  ink[..., 0], ink[..., 3] = 204, 51  # 80 % cyan, 20 % black
  encoded = _encode(Image.fromarray(ink, 'CMYK'), 'JPEG', quality=100)
  # (1 - .8) * (1 - .2) and 1 - .2 of 255.
  assert np.abs(decode(encoded)[8, 8] - np.array([41, 204, 204])).max() <= 2
  encoded = _encode(CHELSEA.convert('CMYK'), 'JPEG', quality=95)
  assert np.abs(decode(encoded) - _pillow(encoded)).max() <= 2


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'WEBP'])
def test_lossless_formats_are_exact(kind):
  options = {'lossless': True} if kind == 'WEBP' else {}
  encoded = _encode(CHELSEA, kind, **options)
  assert np.array_equal(decode(encoded), np.asarray(CHELSEA))


def test_lossy_webp_is_opencvs():
  encoded = _encode(CHELSEA, 'WEBP', quality=80)
  theirs = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
  difference = np.abs(decode(encoded).astype(int) - theirs[:, :, ::-1])
  assert difference.max() <= 2


def test_palette_and_one_bit():
  palette = CHELSEA.quantize(16)
  expected = np.asarray(palette.convert('RGB'))
  assert np.array_equal(decode(_encode(palette, 'PNG')), expected)
  bits = np.arange(12).reshape(3, 4) % 3 == 0
  decoded = decode(_encode(Image.fromarray(bits), 'PNG'))
  assert np.array_equal(decoded, bits[..., None].repeat(3, -1) * np.uint8(255))


def test_alpha_lies_over_white():
  pixels = np.array([[[200, 100, 0, 0], [200, 100, 0, 255]]], np.uint8)
  half = np.array([[[200, 100, 0, 51]]], np.uint8)  # a fifth
  for kind in ('PNG', 'WEBP'):
    options = {'lossless': True, 'exact': True} if kind == 'WEBP' else {}
    decoded = decode(_encode(Image.fromarray(pixels), kind, **options))
    assert decoded.tolist() == [[[255, 255, 255], [200, 100, 0]]]
    decoded = decode(_encode(Image.fromarray(half), kind, **options))
    assert np.abs(decoded - [[[244, 224, 204]]]).max() <= 1
  grey = Image.fromarray(np.array([[[90, 0], [90, 255]]], np.uint8), 'LA')
  assert decode(_encode(grey, 'PNG')).tolist() == [[[255] * 3, [90] * 3]]
  palette = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
  palette.putpalette([10, 20, 30, 40, 50, 60])
  encoded = _encode(palette, 'PNG', transparency=0)
  assert decode(encoded).tolist() == [[[255] * 3, [40, 50, 60]]]


def test_sixteen_bits_keep_the_upper_byte():
  grey = np.array([[0, 255, 256, 0x1234, 65535]], np.uint16)
  encoded = cv2.imencode('.png', grey)[1].tobytes()
  expected = np.array([0, 0, 1, 0x12, 255])
  assert np.array_equal(decode(encoded)[0], expected[:, None].repeat(3, -1))
  colour = np.stack([grey, grey[:, ::-1], grey], -1)  # B, G, R
  encoded = cv2.imencode('.png', colour)[1].tobytes()
  assert np.array_equal(decode(encoded)[0, :, 1], expected[::-1])
  assert np.array_equal(decode(encoded)[0, :, 0], expected)


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG'])
def test_an_animation_gives_its_first_frame(kind):
  frames = [Image.new('RGB', (6, 5), c) for c in ('#ff0000', '#0000ff')]
  options = {'lossless': True} if kind == 'WEBP' else {}
  encoded = _encode(
    frames[0], kind, save_all=True, append_images=frames[1:], **options
  )
  with Image.open(io.BytesIO(encoded)) as image:
    assert image.n_frames == 2
  decoded = decode(encoded)
  assert decoded.shape == (5, 6, 3)
  assert (decoded == [255, 0, 0]).all()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_exif_orientation_only_where_asked_for(kind, orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  encoded = _encode(CHELSEA.resize((40, 24)), kind, exif=exif.tobytes())
  with Image.open(io.BytesIO(encoded)) as image:
    stored, upright = (
      np.asarray(image),
      np.asarray(ImageOps.exif_transpose(image)),
    )
  assert np.abs(decode(encoded).astype(int) - stored).max() <= 2
  turned = decode(encoded, exif_orientation=True)
  assert turned.shape == upright.shape
  assert np.abs(turned.astype(int) - upright).max() <= 2
  assert (orientation >= 5) == (turned.shape == (40, 24, 3))


def test_arrays():
  grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
  for image in (grey, grey[..., None]):
    assert np.array_equal(decode(image), grey[..., None].repeat(3, -1))
  colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
  assert np.array_equal(decode(colour), colour)
  for bad in (
    np.zeros((2, 3)),
    np.zeros((2, 3, 2), np.uint8),
    np.zeros((0, 3, 3), np.uint8),
    np.zeros(4, np.uint8),
  ):
    with pytest.raises(DecodeError, match=r'train\[3\]: an array of'):
      decode(bad, name='train[3]')


PNG, JPEG = _encode(CHELSEA, 'PNG'), _encode(CHELSEA, 'JPEG')


@pytest.mark.parametrize(
  'encoded',
  [
    b'',
    b'not an image',
    PNG[:5000],
    JPEG[:5000],
    JPEG[: len(JPEG) - 300],
    JPEG[:20],
    PNG[:100] + b'\x00' * 5000,
  ],
)
def test_what_cannot_be_decoded_is_named(encoded):
  with pytest.raises(DecodeError) as info:
    decode(encoded, name='photos/1.jpg')
  assert str(info.value).startswith('photos/1.jpg: cannot be decoded')
  assert info.value.name == 'photos/1.jpg'


def test_a_cut_jpeg_is_refused_where_the_fast_reader_fills_it_up():
  # simplejpeg, not strict, returns the image with its lower part grey.
  cut = JPEG[: len(JPEG) // 2]
  filled = simplejpeg.decode_jpeg(cut, 'RGB', strict=False)
  assert (filled[-1] == filled[-1, 0]).all()
  with pytest.raises(DecodeError, match='truncated'):
    decode(cut)
  with pytest.raises(DecodeError, match='truncated'):
    train_image(np.random.default_rng(0), cut, Preprocess(8))


def test_jpeg_with_a_trailer_still_decodes():
  # Phones append data after the end marker.
  decoded = decode(JPEG + b'\x00' * 4000)
  assert np.abs(decoded.astype(int) - _pillow(JPEG)).max() <= 2


@pytest.mark.parametrize('side', [10_000, 60_000])
def test_a_decompression_bomb_is_refused(side):
  def chunk(kind, body):
    crc = zlib.crc32(kind + body)
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', crc)

  header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
  bomb = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', b'')
  assert side * side > MAX_PIXELS
  with pytest.raises(DecodeError, match='bomb.png: .*pixels'):
    decode(bomb, name='bomb.png')
