"""Crops and flips: TensorFlow's own draws, bounds, and values by hand."""

import dataclasses
import pathlib

import numpy as np
import pytest
from skimage import data

from effnet_jax.data.preprocess import (
  Preprocess,
  center_crop,
  eval_image,
  random_crop,
  train_image,
)
from effnet_jax.data.resample import resize
from effnet_jax.errors import UserError

GOLDEN = np.load(pathlib.Path(__file__).parent / 'golden' / 'tf1.npz')
V1 = Preprocess(224)
CHELSEA = np.asarray(data.chelsea())[:, :, :3]  # 300 x 451


def _crops(height, width, p, count, seed=0):
  rng = np.random.default_rng(seed)
  return [random_crop(rng, height, width, p) for _ in range(count)]


def test_random_crops_are_distributed_as_tensorflows():
  theirs = GOLDEN['random_crops'].astype(int)
  crops = _crops(60, 90, V1, len(theirs))
  ours = np.array([crop or (0, 0, 60, 90) for crop in crops])
  area = lambda c: c[:, 2] * c[:, 3]
  columns = [(ours[:, k], theirs[:, k]) for k in range(4)]
  for a, b in [*columns, (area(ours), area(theirs))]:
    grid = np.arange(5401)
    cdf = lambda x, g=grid: np.searchsorted(np.sort(x), g, 'right') / len(x)
    # Two-sample Kolmogorov-Smirnov at 1e-3: 1.95 * sqrt(2 / 10,000) = .0276.
    assert np.abs(cdf(a) - cdf(b)).max() < 0.0276
  # TF never draws the last offset: a crop of height h starts below 60 - h.
  free = ours[ours[:, 2] < 60]
  assert (free[:, 0] < 60 - free[:, 2]).all()
  assert (free[:, 0] == 60 - free[:, 2] - 1).any()


@pytest.mark.parametrize('shape', [(300, 451), (451, 300), (40, 40), (90, 500)])
def test_crops_keep_within_their_bounds(shape):
  p = dataclasses.replace(V1, crop_area=(0.2, 0.7), min_covered=0.0)
  area = shape[0] * shape[1]
  crops = [c for c in _crops(*shape, p, 2000) if c is not None]
  assert len(crops) > 1500
  for top, left, height, width in crops:
    assert top >= 0 and left >= 0 and height > 0 and width > 0
    assert top + height <= shape[0] and left + width <= shape[1]
    assert 0.2 * area <= height * width <= 0.7 * area
    # The width is rounded, and its rounding is at most one pixel here.
    assert 3 / 4 * height - 1 <= width <= 4 / 3 * height + 1


def test_min_covered_raises_the_smallest_area():
  p = dataclasses.replace(V1, crop_area=(0.08, 0.3))
  areas = lambda p: [
    h * w / 360_000 for _, _, h, w in _crops(600, 600, p, 4000)
  ]
  assert min(areas(p)) >= 0.1
  assert min(areas(dataclasses.replace(p, min_covered=0.0))) < 0.085


def test_heights_are_uniform_given_the_aspect():
  # Square crops of 64 to 256 of 1024 pixels: heights 8 to 16, all alike.
  p = Preprocess(8, crop_area=(1 / 16, 1 / 4), crop_aspect=(1.0, 1.0))
  p = dataclasses.replace(p, min_covered=0.0)
  crops = np.array(_crops(32, 32, p, 9000))
  counts = np.bincount(crops[:, 2])
  assert counts[:8].sum() == 0 and len(counts) == 17
  assert np.abs(counts[8:] - 1000).max() < 150  # 5 standard deviations
  assert (crops[:, 2] == crops[:, 3]).all()


@pytest.mark.parametrize(
  'shape', [(1, 1), (1, 400), (400, 1), (2, 3), (5, 900)]
)
def test_extreme_shapes_still_give_an_image(shape):
  image = np.full((*shape, 3), 77, np.uint8)
  rng = np.random.default_rng(0)
  for p in (Preprocess(16), Preprocess(16, 'pillow', crop_padding=None)):
    for _ in range(20):
      out = train_image(rng, image, p)
      assert out.shape == (16, 16, 3) and (out == 77).all()
    assert (eval_image(image, p) == 77).all()


def test_no_crop_found_takes_the_centre_crop():
  # No crop of 400 x 1 has an aspect of 3/4 and covers a tenth.
  assert _crops(400, 1, V1, 50) == [None] * 50
  image = np.arange(400, dtype=np.uint8)[:, None, None].repeat(3, -1)
  p = Preprocess(8, flip=False)
  out = train_image(np.random.default_rng(0), image, p)
  assert np.array_equal(out, eval_image(image, p))


def test_the_whole_image_counts_as_not_found():
  image = CHELSEA[:300, :300]
  p = Preprocess(64, crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0), flip=False)
  assert _crops(300, 300, p, 3) == [(0, 0, 300, 300)] * 3
  out = train_image(np.random.default_rng(0), image, p)
  assert np.array_equal(out, eval_image(image, p))


def test_centre_crop_sides_are_tensorflows():
  checked = 0
  for size, short, side in GOLDEN['center_crop_sides'].tolist():
    if side > 0:  # TF crops nothing at all of one pixel; here one is left
      box = center_crop(short, short + 7, Preprocess(size))
      assert box[2:] == (side, side)
      checked += 1
  assert checked == 110


def test_centre_crop_by_hand():
  # 224 / 256 * 300 = 262.5 -> 262; (300 - 262 + 1) // 2, (451 - 262 + 1) // 2.
  assert center_crop(300, 451, V1) == (19, 95, 262, 262)
  assert center_crop(451, 300, V1) == (95, 19, 262, 262)
  assert center_crop(256, 256, V1) == (16, 16, 224, 224)
  assert center_crop(1, 1, V1) == (0, 0, 1, 1)
  assert center_crop(300, 451, Preprocess(224, crop_padding=0))[2:] == (
    300,
    300,
  )
  assert center_crop(300, 451, Preprocess(224, crop_padding=None)) is None


@pytest.mark.parametrize('method', ['tf1', 'pillow'])
def test_eval_image_is_crop_then_resize(method):
  p = Preprocess(224, method)
  expected = resize(
    np.ascontiguousarray(CHELSEA[19:281, 95:357]), (224, 224), method
  )
  assert np.array_equal(eval_image(CHELSEA, p), expected)
  squashed = eval_image(CHELSEA, dataclasses.replace(p, crop_padding=None))
  assert np.array_equal(squashed, resize(CHELSEA, (224, 224), method))


def test_train_image_is_a_crop_mirrored_half_the_time():
  p = Preprocess(32, crop_area=None)
  plain = resize(CHELSEA, (32, 32), 'tf1')
  rng = np.random.default_rng(0)
  flips = 0
  for _ in range(1000):
    out = train_image(rng, CHELSEA[:, :, :], p)
    mirrored = np.array_equal(out, plain[:, ::-1])
    assert mirrored or np.array_equal(out, plain)
    assert out.flags.c_contiguous
    flips += mirrored
  assert 420 < flips < 580  # 5 standard deviations
  p = dataclasses.replace(p, flip=False)
  assert np.array_equal(train_image(rng, CHELSEA, p), plain)


def test_train_image_shows_its_crop():
  p = Preprocess(24, 'pillow', flip=False)
  for seed in range(5):
    box = random_crop(np.random.default_rng(seed), 300, 451, p)
    out = train_image(np.random.default_rng(seed), CHELSEA, p)
    assert np.array_equal(out, resize(CHELSEA, (24, 24), 'pillow', box=box))


def test_small_images_are_enlarged():
  digit = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  p = Preprocess(16, crop_area=(0.6, 1.0))
  outs = {
    train_image(np.random.default_rng(s), digit, p).tobytes() for s in range(30)
  }
  assert len(outs) > 10
  assert eval_image(digit, p).shape == (16, 16, 3)


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    ({'size': 0}, 'image size 0'),
    ({'resampling': 'pilow'}, 'did you mean pillow'),
    ({'crop_area': (0.5, 0.2)}, 'crop_area'),
    ({'crop_area': (0.0, 1.0)}, 'crop_area'),
    ({'crop_area': (0.1, 1.5)}, 'crop_area'),
    ({'crop_aspect': (0.0, 1.0)}, 'crop_aspect'),
    ({'crop_padding': -1}, 'crop_padding'),
  ],
)
def test_a_setting_that_makes_no_sense_is_refused(change, text):
  with pytest.raises(UserError, match=text):
    dataclasses.replace(V1, **change)


def test_shift_moves_the_image_and_fills_with_black():
  image = np.full((8, 8, 3), 200, np.uint8)
  image[3, 4] = 255
  p = Preprocess(
    size=8, resampling='pillow', crop_area=None, shift=2, flip=False
  )
  rng = np.random.default_rng(0)
  moves = set()
  for _ in range(300):
    shifted = train_image(rng, image, p)
    assert shifted.shape == (8, 8, 3)
    ((row, column),) = np.argwhere((shifted == 255).all(-1))
    down, right = row - 3, column - 4
    moves.add((down, right))
    rows = np.arange(8) - down
    columns = np.arange(8) - right
    inside = ((rows >= 0) & (rows < 8))[:, None] & (
      (columns >= 0) & (columns < 8)
    )
    np.testing.assert_array_equal((shifted > 0).all(-1), inside)
  assert moves == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
