"""The paper's transfer data sets: their sizes, steps and rates."""

import importlib
from pathlib import Path

import jax
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import program

# Of the paper's Table 6: training images, classes; the native size of the
# smaller network.
PUBLISHED = {
  'cifar10': (50_000, 10, 224),
  'cifar100': (50_000, 100, 224),
  'birdsnap': (47_386, 500, 456),
  'cars': (8_144, 196, 300),
  'flowers': (2_040, 102, 456),
  'aircraft': (6_667, 100, 300),
  'pets': (3_680, 37, 380),
  'food': (75_750, 101, 380),
}


@pytest.fixture
def transfer(monkeypatch):
  monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
  return importlib.import_module('configs.transfer')


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_data_set(transfer, name):
  examples, classes, size = PUBLISHED[name]
  config = transfer.get_config(name)
  assert (config.data.source == 'tfds') == bool(config.data.name)
  if name == 'birdsnap':  # counted, for links to it are dead
    config.data.train_examples = examples
  assert config.data.train_examples == examples
  built = program.build(config, jax.devices()[:1])
  assert built.model.spec.num_classes == classes
  assert built.model.spec.resolution == size
  assert built.total_steps == 20_000
  # A quarter of .016, for 256 images; half of it half way.
  assert float(built.schedule(0)) == pytest.approx(0.004)
  assert float(built.schedule(10_000)) == pytest.approx(0.002)
  assert f'tf_efficientnet_{config.model.name}.aa_in1k' in config.init_from


@pytest.mark.parametrize('name', ['cifar10', 'cifar100', 'flowers', 'cars'])
def test_version_2(transfer, name):
  config = transfer.get_config(f'{name}-v2')
  built = program.build(config, jax.devices()[:1])
  assert (config.batch_size, built.total_steps) == (512, 10_000)
  assert float(built.schedule(0)) == pytest.approx(0.001)
  assert built.model.spec.num_classes == PUBLISHED[name][1]
  assert config.optimizer.weight_decay == 0


def test_an_unknown_data_set_names_the_known(transfer):
  assert set(transfer.DATA_SETS) == set(PUBLISHED)
  with pytest.raises(UserError, match='did you mean cifar10, cifar100'):
    transfer.get_config('cifar')
  with pytest.raises(UserError, match="no data set 'pets-v2'"):
    transfer.get_config('pets-v2')
