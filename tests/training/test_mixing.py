"""Mixup and cutmix, read off from images whose pixels tell whose they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import mixing

COUNT, CLASSES, HEIGHT, WIDTH = 7, 7, 10, 6


def _batch():
  """Image i is 10 i everywhere, of class i."""
  labels = np.arange(COUNT, dtype=np.int32)
  images = np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8)
  return images + 10 * labels[:, None, None, None].astype(np.uint8), labels


@functools.cache
def _mixed(mixup, cutmix, seeds=40):
  """Images and labels of many keys, [seeds, n, ...]."""
  images, labels = _batch()
  mix = functools.partial(
    mixing.mix,
    num_classes=CLASSES,
    mixup_alpha=mixup,
    cutmix_alpha=cutmix,
  )
  keys = jax.random.split(jax.random.key(0), seeds)
  batched = jax.vmap(lambda key: mix(key, images, labels))
  return tuple(map(np.asarray, jax.jit(batched)(keys)))


def _check_mixup(images, labels, members):
  """Checks [seeds, len(members), ...] of mixup; returns the weights."""
  partners = members[::-1]
  rows = np.arange(len(members))
  own = labels[:, rows, members]
  weights = np.where(members == partners, 1.0, own)
  assert np.all((weights >= 0.5) & (weights <= 1))
  np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-6)
  both = own + np.where(members == partners, 0, labels[:, rows, partners])
  np.testing.assert_allclose(both, 1, rtol=1e-6)
  # The same weights mix the pixels.
  expected = 10 * (weights * members + (1 - weights) * partners)
  np.testing.assert_allclose(
    images,
    np.broadcast_to(expected[..., None, None, None], images.shape),
    rtol=1e-5,
  )
  return weights[:, members != partners]


def _check_cutmix(images, labels, members):
  """Checks [seeds, len(members), ...] of cutmix; returns sizes of boxes."""
  sizes = []
  for some_images, some_labels in zip(images, labels, strict=True):
    for i, (member, partner) in enumerate(
      zip(members, members[::-1], strict=True)
    ):
      image = some_images[i]
      pasted = np.all(image == 10 * partner, axis=-1)
      if member == partner:
        assert pasted.all() and some_labels[i, member] == 1
        continue
      assert np.all(image[~pasted] == 10 * member)
      rows, columns = pasted.any(1), pasted.any(0)
      # A box: every pixel of some rows and columns, each a run.
      np.testing.assert_array_equal(pasted, rows[:, None] & columns)
      assert all((np.diff(run.astype(int)) == 1).sum() <= 1
                 for run in (rows, columns))  # fmt: skip
      expected = np.zeros(CLASSES)
      expected[member] = (~pasted).mean()
      expected[partner] = pasted.mean()
      np.testing.assert_allclose(some_labels[i], expected, atol=1e-6)
      sizes.append((rows.sum(), columns.sum()))
  return np.array(sizes)


def test_mixup():
  weights = _check_mixup(*_mixed(1.0, 0.0), np.arange(COUNT))
  # Beta(1, 1) is uniform, hence the larger part uniform in .5..1; the standard
  # error of the mean of 240 is .009.
  assert abs(weights.mean() - 0.75) < 0.04
  assert weights.min() < 0.53 and weights.max() > 0.97
  assert len(np.unique(weights)) == weights.size  # each image its own


def test_a_small_alpha_mixes_little():
  weights = _check_mixup(*_mixed(0.1, 0.0), np.arange(COUNT))
  # Of Beta(.1, .1) 82 % lie within .05 of an end.
  assert 0.7 < (weights > 0.95).mean() < 0.95


def test_cutmix():
  sizes = _check_cutmix(*_mixed(0.0, 1.0), np.arange(COUNT))
  # The box of Yun et al. in numpy, with another random stream.
  rng = np.random.default_rng(0)
  expected = []
  for _ in range(20_000):
    share, lengths = np.sqrt(1 - rng.uniform()), []
    for size in (HEIGHT, WIDTH):
      centre, half = rng.integers(size), int(share * size) // 2
      ends = np.clip([centre - half, centre + half], 0, size)
      lengths.append(ends[1] - ends[0])
    # A box without height or width shows neither.
    expected.append(lengths if all(lengths) else (0, 0))
  expected = np.array(expected)
  error = expected.std(0) / np.sqrt(len(sizes))
  assert np.all(np.abs(sizes.mean(0) - expected.mean(0)) < 4 * error)
  assert set(sizes[:, 0]) == set(expected[:, 0])
  assert set(sizes[:, 1]) == set(expected[:, 1])


def test_half_of_the_batch_by_each():
  images, labels = _mixed(1.0, 1.0)
  half = COUNT // 2
  weights = _check_mixup(images[:, :half], labels[:, :half], np.arange(half))
  sizes = _check_cutmix(
    images[:, half:], labels[:, half:], np.arange(half, COUNT)
  )
  # Not by the same draws: the middle of each half has no partner but itself.
  assert weights.std() > 0.1 and sizes.std() > 1


def test_soft_labels_are_mixed():
  images, labels = _batch()
  soft = np.random.default_rng(0).dirichlet(np.ones(3), COUNT)
  mix = functools.partial(
    mixing.mix, jax.random.key(5), jnp.asarray(images), mixup_alpha=0.4
  )
  _, hard = mix(jnp.asarray(labels), num_classes=CLASSES)
  mixed_images, mixed = mix(jnp.asarray(soft, jnp.float32), num_classes=3)
  assert mixed.shape == (COUNT, 3) and mixed_images.dtype == jnp.float32
  # One-hot labels are the rows of the matrix that mixes.
  np.testing.assert_allclose(mixed, hard @ soft, rtol=1e-5)


def _inner(variables, batch, rng):
  return variables, batch, rng


def test_an_objective_sees_mixed_batches():
  images, labels = _batch()
  batch = {'image': images, 'label': labels, 'other': 1}
  key = jax.random.key(3)
  wrapped = mixing.objective(_inner, num_classes=CLASSES, mixup_alpha=1.0)
  variables, mixed, rng = wrapped('variables', batch, key)
  assert variables == 'variables' and mixed['other'] == 1
  _check_mixup(
    np.asarray(mixed['image'])[None],
    np.asarray(mixed['label'])[None],
    np.arange(COUNT),
  )
  # Dropout must not share the draws of mixing.
  assert rng != key
  assert np.array_equal(batch['image'], images)  # as it was
  again = wrapped('variables', batch, key)
  np.testing.assert_array_equal(again[1]['image'], mixed['image'])
  other = wrapped('variables', batch, jax.random.key(4))
  assert not np.array_equal(other[1]['image'], mixed['image'])


def test_off_leaves_the_objective_as_it_is():
  assert mixing.objective(_inner, num_classes=CLASSES) is _inner


@pytest.mark.parametrize('key', ['mixup', 'cutmix'])
def test_alphas_below_0(key):
  with pytest.raises(UserError, match=rf'objective\.{key}=-0.1 is below 0'):
    mixing.objective(_inner, num_classes=2, **{f'{key}_alpha': -0.1})
