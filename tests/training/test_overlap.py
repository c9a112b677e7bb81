"""Input, transfer and step go on at once: the loop waits at its lines alone."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.training import loop, parallel, stages

LAST, LOG, EVALUATE, SAVE = 12, 4, 6, 8
BATCH = {'image': np.zeros((2, 4, 4, 3), np.uint8), 'label': np.zeros(2, int)}


class Events:
  """What has happened, and the step that the devices were given last."""

  def __init__(self):
    self.said, self.step = [], 0

  def say(self, what):
    self.said.append((what, self.step))


class OnDevice:
  """A scalar on a device that has not computed it until somebody waits."""

  def __init__(self, events, value=1.0):
    self._events, self._value, self._done = events, value, False

  def is_ready(self):
    return self._done

  def block_until_ready(self):
    if not self._done:
      self._events.say('wait')
      self._done = True
    return self

  def __array__(self, dtype=None, copy=None):
    self.block_until_ready()
    return np.asarray(self._value, dtype)

  def __float__(self):
    return float(np.asarray(self))

  def __int__(self):
    return int(np.asarray(self))

  def __bool__(self):
    return bool(np.asarray(self))

  def item(self):
    return float(self)

  tolist = item


class Checkpoints:
  directory = 'nowhere'

  def __init__(self, events):
    self._events = events

  def save(self, step, state, run, metric):
    float(state.step)  # as a real one reads it
    self._events.say('save')

  def wait(self):
    pass


class Report:
  history = ()

  def __init__(self, events):
    self._events = events

  def say(self, text):
    pass

  def add(self, entry):
    if 'loss' in entry:
      self._events.say('line')


def train(monkeypatch, careless=lambda state, metrics: None):
  """Runs the real loop over steps that only the devices know the end of.

  `careless` is called after each step.
  """
  events = Events()

  def train_step(state, batch, key):
    del state, key
    events.step += 1
    events.say(f'step with batch {int(batch["label"][0])}')
    pair = lambda: (OnDevice(events), OnDevice(events))
    metrics = {name: pair() for name in ('loss', 'top1')}
    state = types.SimpleNamespace(step=OnDevice(events, events.step))
    careless(state, metrics)
    return state, metrics

  class Batches:
    number = 0

    def __next__(self):
      self.number += 1
      return {**BATCH, 'label': BATCH['label'] + self.number}

    def get_state(self):
      return {}

    def close(self):
      events.say('close')

  def shard(batch, devices):
    events.say(f'transfer of batch {batch["label"][0]}')
    return batch

  config = types.SimpleNamespace(
    seed=0,
    batch_size=2,
    early_stop=None,
    to_dict=dict,
    log=types.SimpleNamespace(every=LOG),
    checkpoint=types.SimpleNamespace(every=SAVE),
    data=types.SimpleNamespace(train_examples=24),
    evaluation=types.SimpleNamespace(every=EVALUATE, report='last'),
  )
  program = types.SimpleNamespace(
    total_steps=LAST,
    steps=lambda every, key: every,
    devices=jax.devices()[:1],
    schedule=lambda step: 0.1,
    train_steps=(train_step,),
    stages=(stages.Stage(0, 8, None, 0.0, 0.0, 0.2),),
  )
  data = types.SimpleNamespace(
    train_batches=lambda start, stage: Batches(), class_names=list
  )
  run = {'history': [], 'data': None, 'window': {}, 'seconds': 0.0}
  monkeypatch.setattr(parallel, 'shard', shard)
  evaluated = {'examples': 1.0, 'top1': 1.0, 'top1_ema': 1.0}

  def evaluate(state, split):
    float(state.step)
    return evaluated

  first = types.SimpleNamespace(step=np.int32(0))
  loop.train(
    config,
    program,
    data,
    first,
    run,
    evaluate,
    Checkpoints(events),
    Report(events),
  )
  return events.said


def waits(said):
  return sorted({step for what, step in said if what == 'wait'})


def allowed(step):
  # Step 1: its compilation is left out of the figures.
  return step in (1, LAST) or not all(step % n for n in (LOG, EVALUATE, SAVE))


def test_the_loop_waits_for_the_devices_where_it_must_alone(monkeypatch):
  said = train(monkeypatch)
  assert waits(said) == [1, 4, 6, 8, 12]
  assert all(allowed(step) for step in waits(said))
  assert [step for what, step in said if what == 'line'] == [4, 8, 12]
  assert said[-1] == ('close', LAST)


def test_the_next_batch_is_sent_while_the_step_runs(monkeypatch):
  said = train(monkeypatch)
  for n in range(1, LAST):
    begun = said.index((f'step with batch {n}', n))
    sent = said.index((f'transfer of batch {n + 1}', n))
    assert begun < sent < said.index((f'step with batch {n + 1}', n + 1))
    if not allowed(n):
      # Nothing between: step n is under way when batch n + 1 is sent.
      assert sent == begun + 1


@pytest.mark.parametrize(
  'careless',
  [
    lambda state, metrics: float(metrics['loss'][0]),
    lambda state, metrics: jax.device_get(metrics),
    lambda state, metrics: jax.block_until_ready(state.step),
    lambda state, metrics: bool(metrics['top1'][0]),
    lambda state, metrics: np.asarray(metrics['top1'][1]),
    lambda state, metrics: f'{metrics["loss"][0].item():.3f}',
  ],
)
def test_a_careless_wait_would_be_seen(monkeypatch, careless):
  assert waits(train(monkeypatch, careless)) == list(range(1, LAST + 1))


def test_sending_a_batch_does_not_wait_for_what_is_running():
  @jax.jit
  def long(x):  # some 10^11 operations, a second or so
    return jax.lax.fori_loop(0, 800, lambda i, x: jnp.tanh(x @ x), x)

  device = jax.devices()[:1]
  x = parallel.replicate(np.full((400, 400), 0.01, np.float32), device)
  running = long.lower(x).compile()(x)
  batch = parallel.shard({'image': np.ones((64, 32, 32, 3), np.uint8)}, device)
  assert not running.is_ready()
  assert batch['image'].shape == (1, 64, 32, 32, 3)
  jax.block_until_ready(running)
