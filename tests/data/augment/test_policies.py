"""Which operations are chosen, and that chance comes from the generator."""

import collections
import dataclasses
import pickle

import numpy as np
import pytest
import skimage.data

from effnet_jax.data import augment
from effnet_jax.data.augment import erasing, policies, table
from effnet_jax.data.pipeline import train_batches
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.sources import ArraySource
from effnet_jax.errors import UserError

PHOTO = np.ascontiguousarray(skimage.data.chelsea()[:64, :64])
ALL = {
  'autoaugment': augment.create('autoaugment'),
  'randaugment': augment.create('randaugment', layers=3, magnitude=17),
  'trivialaugment': augment.create('trivialaugment'),
  'erasing': augment.create(erasing=1.0),
  'cutout': augment.create(cutout=0.5),
  'all': augment.create('randaugment', erasing=0.25, cutout=0.2),
}


def _applied(monkeypatch, policy, count):
  """(name, level) of every operation over many images."""
  applied = []

  def record(name, rng, image, level, scale):
    applied.append((name, level, scale))
    return image

  monkeypatch.setattr(table, 'apply', record)
  rng = np.random.default_rng(0)
  for _ in range(count):
    policy(rng, PHOTO)
  return applied


def test_policy_v0_has_the_published_entries():
  # Sums over the published table, counted by hand from its 25 rows.
  names = collections.Counter(
    n for row in policies.POLICY_V0 for n, _, _ in row
  )
  assert len(policies.POLICY_V0) == 25
  assert names == {
    'Equalize': 12, 'Color': 9, 'Solarize': 8, 'Rotate': 7, 'ShearY': 4,
    'ShearX': 2, 'SolarizeAdd': 2, 'AutoContrast': 2, 'Posterize': 2,
    'Invert': 1, 'TranslateY': 1,
  }  # fmt: skip
  assert set(names) <= set(table.OPERATIONS)


def test_autoaugment_applies_by_probability(monkeypatch):
  count = 20_000
  applied = _applied(monkeypatch, policies.AutoAugment(), count)
  assert {scale for _, _, scale in applied} == {table.AUTOAUGMENT}
  found = collections.Counter((name, level) for name, level, _ in applied)
  expected = collections.Counter()
  for row in policies.POLICY_V0:
    for name, probability, level in row:
      expected[name, level] += probability / 25
  for key, share in expected.items():
    assert found[key] / count == pytest.approx(share, abs=0.006), key
  assert set(found) <= set(expected)


def test_randaugment_always_applies_all_layers(monkeypatch):
  policy = policies.RandAugment(layers=2, magnitude=28)
  applied = _applied(monkeypatch, policy, 8000)
  assert len(applied) == 16_000
  assert {level for _, level, _ in applied} == {28}
  found = collections.Counter(name for name, _, _ in applied)
  assert set(found) == set(table.OPERATIONS) and len(found) == 16
  for number in found.values():
    assert number == pytest.approx(1000, abs=130)


def test_trivialaugment_stays_within_its_ranges(monkeypatch):
  seen = collections.defaultdict(list)
  for name in policies._TRIVIAL[1:]:
    monkeypatch.setattr(
      policies.ops,
      name,
      lambda image, *amount, name=name: (seen[name].append(amount), image)[1],
    )
  rng = np.random.default_rng(0)
  for _ in range(14_000):
    policies.TrivialAugment()(rng, PHOTO)
  assert len(seen) == 13  # and the identity
  assert sum(map(len, seen.values())) == pytest.approx(13_000, abs=150)
  amounts = {name: [a[0] for a in of if a] for name, of in seen.items()}
  for name, low, high in (
    ('shear_x', -0.99, 0.99),
    ('translate_y', -32, 32),
    ('rotate', -135, 135),
    ('contrast_of_mean', 0.01, 1.99),
    ('posterize', 2, 8),
    ('solarize', 0, 255),  # ceilings of torchvision's 255 - 8.5 k
  ):
    found = amounts[name]
    assert (min(found), max(found)) == (pytest.approx(low), pytest.approx(high))
  assert len(set(amounts['rotate'])) == 61  # 31 strengths, 2 signs, one 0
  assert sorted(set(amounts['solarize']))[-4:] == [230, 238, 247, 255]
  assert sorted(set(amounts['translate_x']))[-3:] == [29, 30, 32]


@pytest.mark.parametrize('name', ALL)
def test_chance_comes_from_the_generator_alone(name):
  made = pickle.loads(pickle.dumps(ALL[name]))
  images = [
    made(np.random.default_rng(seed), PHOTO) for seed in (1, 1, *range(2, 30))
  ]
  assert np.array_equal(images[0], images[1])
  assert any(not np.array_equal(images[0], image) for image in images[2:])
  assert all(i.shape == PHOTO.shape and i.dtype == np.uint8 for i in images)


def test_erasing_covers_what_was_asked_for():
  shares, blank = [], np.zeros((100, 80, 3), np.uint8)
  policy = erasing.RandomErasing(0.5)
  for seed in range(600):
    found = policy(np.random.default_rng(seed), blank)
    rows, columns = (np.flatnonzero(found.any((1 - a, 2))) for a in (0, 1))
    if len(rows):
      h, w = np.ptp(rows) + 1, np.ptp(columns) + 1
      shares.append(h * w / 8000)
      assert 0.2 < h / w < 4.2
  assert len(shares) == pytest.approx(300, abs=50)
  assert 0.015 < min(shares) and max(shares) < 0.35
  assert not blank.any()


def test_erasing_by_a_constant():
  policy = erasing.RandomErasing(1.0, mode='const')
  image = np.zeros((40, 40, 3), np.uint8)
  found = policy(np.random.default_rng(0), image)
  assert set(np.unique(found)) == {0, 128} and not image.any()


def test_the_square_of_v2s_fine_tuning():
  found = erasing.Cutout(0.5)(np.random.default_rng(3), np.zeros_like(PHOTO))
  rows = np.flatnonzero(found.any((1, 2)))
  assert 16 <= np.ptp(rows) + 1 <= 32  # half the side, or less at a border


@pytest.mark.parametrize('workers', [0, 1])
def test_what_is_seen_depends_on_seed_and_position(workers):
  images = np.random.default_rng(0).integers(0, 256, (9, 20, 20, 3), np.uint8)
  source = ArraySource(images, np.arange(9), [str(i) for i in range(9)])
  shown = Preprocess(16, 'pillow')

  def batches(batch_size, seed=0, workers=0, start=None):
    return train_batches(
      source,
      shown,
      batch_size=batch_size,
      seed=seed,
      workers=workers,
      augment=ALL['all'],
      start=start,
    )

  straight = batches(6)
  seen = np.concatenate([next(straight)['image'] for _ in range(4)])
  state = straight.get_state()
  other = batches(8, workers=workers)
  again = np.concatenate([next(other)['image'] for _ in range(3)])
  assert np.array_equal(seen, again)
  resumed = batches(6, start=state)
  assert np.array_equal(next(resumed)['image'], next(straight)['image'])
  changed = batches(6, seed=1)
  assert not np.array_equal(next(changed)['image'], seen[:6])
  for iterator in (straight, other, resumed, changed):
    iterator.close()


def test_nothing_to_do_is_none():
  assert augment.create() is None
  assert dataclasses.asdict(augment.create('randaugment'))['steps'] == (
    {'layers': 2, 'magnitude': 10.0, 'increasing': False},
  )


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ({'policy': 'randaug'}, 'did you mean randaugment'),
    ({'policy': 'randaugment', 'layers': 0}, '0 layers'),
    ({'policy': 'randaugment', 'magnitude': -1.0}, 'magnitude -1.0'),
    ({'erasing': 1.5}, 'erasing of 1.5'),
    ({'erasing_mode': 'cons'}, 'did you mean const'),
    ({'cutout': -0.5}, 'cutout of -0.5'),
  ],
)
def test_bad_arguments_are_one_line(arguments, text):
  with pytest.raises(UserError, match=text) as caught:
    augment.create(**arguments)
  assert '\n' not in str(caught.value)
