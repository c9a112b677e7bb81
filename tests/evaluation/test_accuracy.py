"""Every example once: exact for any number of examples, devices, batch size."""

import functools

import jax
import numpy as np
import pytest

from effnet_jax.data import pipeline, preprocess, sources
from effnet_jax.evaluation import accuracy
from effnet_jax.models import efficientnet, normalize, spec
from effnet_jax.training import parallel

SIDE, CLASSES = 4, 7
PLAIN = preprocess.Preprocess(
  SIDE, crop_area=None, flip=False, crop_padding=None
)


def _source(count, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
  labels = rng.integers(0, CLASSES, count)
  return sources.ArraySource(images, labels, 'abcdefg')


def _weights(seed):
  rng = np.random.default_rng(seed)
  shape = (SIDE * SIDE * 3, CLASSES)
  return {'kernel': rng.normal(size=shape).astype(np.float32)}


def _normalize(pixels):
  return pixels / 255 - 0.5


def _apply(variables, images, train):
  assert not train
  flat = images.reshape(len(images), -1)
  return flat @ variables['kernel'], {}


def _by_numpy(source, kernel):
  """What all examples give in one go, in float64."""
  records = [source[i] for i in range(len(source))]
  images = np.stack([r['image'] for r in records]).astype(np.float64)
  labels = np.asarray([r['label'] for r in records])
  logits = (images / 255 - 0.5).reshape(len(records), -1) @ kernel
  order = np.argsort(-logits, axis=-1)
  right = order == labels[:, None]
  own = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
  return {
    'cross_entropy': (np.log(np.exp(logits).sum(-1)) - own).mean(),
    'top1': right[:, 0].mean(),
    'top5': right[:, :5].any(1).mean(),
  }


@functools.cache
def _step(num_devices):
  return parallel.pmap_eval(
    accuracy.eval_step(_apply, _normalize), jax.devices()[:num_devices]
  )


def _placed(source, devices, batch_size):
  batches = pipeline.eval_batches(source, PLAIN, batch_size=batch_size)
  return (parallel.shard(batch, devices) for batch in batches)


@pytest.mark.parametrize(
  ('count', 'num_devices', 'batch_size'),
  [
    (1, 1, 4),  # padding all but one
    (12, 1, 4),  # divides
    (13, 1, 4),
    (13, 2, 4),
    (13, 4, 8),  # in the last batch three devices see padding alone
    (30, 4, 8),
    (5, 4, 8),  # a single batch
    (8, 4, 8),
  ],
)
def test_the_means_are_those_of_numpy(count, num_devices, batch_size):
  source, devices = _source(count), jax.devices()[:num_devices]
  weights = {'': _weights(5), '_ema': _weights(3)}
  results = accuracy.evaluate(
    _step(num_devices),
    parallel.replicate(weights, devices),
    _placed(source, devices, batch_size),
  )
  expected = {
    name + suffix: value
    for suffix, variables in weights.items()
    for name, value in _by_numpy(source, variables['kernel']).items()
  }
  assert results.pop('examples') == count
  assert results == pytest.approx(expected, rel=1e-5)


def test_raw_and_averaged_weights_answer_differently():
  # Else the test above would not notice one in the other's place.
  raw, ema = (_by_numpy(_source(30), _weights(i)['kernel']) for i in (5, 3))
  for name, value in raw.items():
    assert abs(value - ema[name]) > 0.03


def test_every_example_is_seen_once():
  seen = []

  def step(variables, batch):
    labels = np.asarray(batch['label'])[np.asarray(batch['mask']) > 0]
    seen.append((variables, labels.tolist()))
    return {'top1': (0.0, len(labels))}

  images = np.zeros((13, SIDE, SIDE, 3), np.uint8)
  source = sources.ArraySource(images, np.arange(13), 'abcdefghijklm')
  batches = _placed(source, jax.devices()[:2], 4)
  results = accuracy.evaluate(step, {'': 'raw', '_ema': 'ema'}, batches)
  for name in ('raw', 'ema'):
    labels = [label for who, part in seen if who == name for label in part]
    assert sorted(labels) == list(range(13))
  assert results['examples'] == 13


def test_sums_grow_beyond_float32():
  # float32 has no odd number above 2^24.
  big = np.float32(2**24)
  steps = iter([(big, big), (np.float32(1), np.float32(1))])
  results = accuracy.evaluate(
    lambda variables, batch: {'top1': next(steps)}, {'': None}, [0, 1]
  )
  assert results['top1'] == 1
  assert int(results['examples']) == 2**24 + 1


def test_a_network_is_evaluated_with_its_moving_statistics():
  model = efficientnet.build(
    spec.ModelSpec(
      'tiny',
      spec.parse_stages('r1_k3_s1_e1_o8'),
      stem_filters=8,
      head_filters=16,
      num_classes=CLASSES,
      dropout_rate=0.5,
    ),
    bn_axis_name=parallel.AXIS,
  )
  variables = efficientnet.init(model, 0)
  rng = np.random.default_rng(0)
  variables['batch_stats'] = jax.tree.map(
    lambda x: np.asarray(x + rng.uniform(0.1, 1, x.shape), np.float32),
    variables['batch_stats'],
  )
  to_input = functools.partial(normalize.normalize, spec=model.spec)
  source, devices = _source(10), jax.devices()[:2]
  results = accuracy.evaluate(
    parallel.pmap_eval(accuracy.eval_step(model.apply, to_input), devices),
    {'': parallel.replicate(variables, devices)},
    _placed(source, devices, 8),
  )
  images = np.stack([source[i]['image'] for i in range(10)])
  labels = np.asarray([source[i]['label'] for i in range(10)])
  logits, _ = jax.jit(model.apply)(variables, to_input(images))
  logits = np.asarray(logits, np.float64)
  own = logits[np.arange(10), labels]
  cross_entropy = (np.log(np.exp(logits).sum(-1)) - own).mean()
  assert results['cross_entropy'] == pytest.approx(cross_entropy, rel=1e-5)
  assert results['top1'] == pytest.approx((logits.argmax(1) == labels).mean())
