"""Weights in: what keys say, what only names say, and what does not fit."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import effnet_jax
from effnet_jax import cli
from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, variants
from effnet_jax.weights import conventions, copier, files, native, write
from effnet_jax.weights.hub_config import HubConfig
from effnet_jax.weights.layouts.native import NATIVE
from effnet_jax.weights.layouts.pytorch import TIMM
from effnet_jax.weights.layouts.tensorflow import TENSORFLOW
from effnet_jax.weights.load import load

MICRO = variants.get_spec('micro', num_classes=7)


def _variables(spec, seed=0):
  return efficientnet.init(efficientnet.build(spec), seed)


@pytest.fixture(scope='module')
def b0():
  """Variables of B0 with seven classes."""
  return _variables(variants.get_spec('b0', num_classes=7))


def _save(path, layout, spec, variables):
  path.parent.mkdir(parents=True, exist_ok=True)
  arrays = copier.write(variables, layout.entries(spec))
  files.write_safetensors(path, arrays, {})
  return path


def _equal(a, b):
  return jax.tree.all(jax.tree.map(np.array_equal, dict(a), dict(b)))


def _one_line(caught):
  assert '\n' not in str(caught.value)
  return str(caught.value)


# timm's layout: the name says how the network pads.


@pytest.mark.parametrize(
  'file, name, form',
  [
    ('tf_efficientnet_b0_ns.safetensors', None, ('same', 1e-3, 0.99)),
    ('efficientnet_b0_ra.safetensors', None, ('symmetric', 1e-5, 0.9)),
    ('mine.safetensors', 'tf_efficientnet_b0', ('same', 1e-3, 0.99)),
    ('mine.safetensors', 'efficientnet_b0', ('symmetric', 1e-5, 0.9)),
    ('efficientnet_b0.safetensors', 'b0', ('symmetric', 1e-5, 0.9)),
  ],
)
def test_timm_by_its_name(tmp_path, b0, file, name, form):
  spec = variants.get_spec('b0', num_classes=7)
  path = _save(tmp_path / file, TIMM, spec, b0)
  weights = load(path, name)
  assert weights.layout == 'timm'
  assert _equal(weights.variables, b0)
  read = weights.spec
  assert read.num_classes == 7
  assert (read.padding, read.bn_epsilon, read.bn_momentum) == form


def test_timm_without_a_name_that_tells(tmp_path, b0):
  spec = variants.get_spec('b0', num_classes=7)
  path = _save(tmp_path / 'mine.safetensors', TIMM, spec, b0)
  with pytest.raises(UserError, match='tf_efficientnet_b0.*efficientnet_b0'):
    load(path, 'b0')
  # Or all that the name would say.
  weights = load(path, 'b0', padding='same', bn_epsilon=1e-3)
  assert (weights.spec.padding, weights.spec.bn_epsilon) == ('same', 1e-3)
  with pytest.raises(UserError, match='does not say which network') as caught:
    load(path)
  assert '--model' in _one_line(caught)


def test_names_that_pad_in_two_ways(tmp_path, b0):
  spec = variants.get_spec('b0', num_classes=7)
  path = _save(tmp_path / 'tf_efficientnet_b0.safetensors', TIMM, spec, b0)
  with pytest.raises(
    UserError, match='efficientnet_b0 and tf_efficientnet_b0 pad in two ways'
  ):
    load(path, 'efficientnet_b0')


@pytest.mark.parametrize(
  'file, mean',
  [
    ('tf_efficientnet_b0_ap-f262efe1.safetensors', 0.5),
    ('advprop/tf_efficientnet_b0.safetensors', 0.5),
    ('tf_efficientnet_b0_aa.safetensors', 0.485),
    ('maps/tf_efficientnet_b0_apt.safetensors', 0.485),
  ],
)
def test_advprop_takes_other_images(tmp_path, b0, file, mean):
  path = tmp_path / 'weights' / file
  spec = variants.get_spec('b0', num_classes=7)
  assert conventions.by_file(path, spec).get('mean', spec.mean)[0] == mean
  if '-' not in file:  # where the name is no checksum
    _save(path, TIMM, spec, b0)
    assert load(path).spec.mean[0] == mean


def test_l2_at_475_pixels():
  spec = variants.get_spec('l2')
  path = Path('tf_efficientnet_l2_ns_475-bebbd00a.pth')
  fields = conventions.by_file(path, spec)
  assert fields == {'name': 'l2_475', 'resolution': 475}
  assert conventions.by_file(Path('tf_efficientnet_l2_ns.pth'), spec) == {}


def test_torchvisions_second_b1():
  fields = conventions.torchvision('b1', 'efficientnet_b1-c27df63c.pth')
  assert (fields['resolution'], fields['crop_padding']) == (240, 15)
  assert fields['resampling'] == 'pillow_bilinear'
  first = conventions.torchvision(
    'b1', 'efficientnet_b1_rwightman-bac287d4.pth'
  )
  assert (first['crop_padding'], first['resampling']) == (16, 'pillow')


def test_fields_given_go_before_all(tmp_path, b0):
  spec = variants.get_spec('b0', num_classes=7)
  path = _save(tmp_path / 'efficientnet_b0.safetensors', TIMM, spec, b0)
  read = load(path, resolution=96, bn_momentum=0.5).spec
  assert (read.resolution, read.bn_momentum) == (96, 0.5)
  assert read.padding == 'symmetric'
  with pytest.raises(UserError, match="no field 'paddding': did you mean pad"):
    load(path, paddding='same')


# torchvision: epsilon, momentum and transforms by variant.


@pytest.mark.parametrize(
  'name, epsilon, momentum, crop, resized, resampling, mean',
  [
    ('b0', 1e-5, 0.9, 224, 256, 'pillow', 0.485),
    ('b1', 1e-5, 0.9, 240, 256, 'pillow', 0.485),
    ('b2', 1e-5, 0.9, 288, 288, 'pillow', 0.485),
    ('b3', 1e-5, 0.9, 300, 320, 'pillow', 0.485),
    ('b4', 1e-5, 0.9, 380, 384, 'pillow', 0.485),
    ('b5', 1e-3, 0.99, 456, 456, 'pillow', 0.485),
    ('b6', 1e-3, 0.99, 528, 528, 'pillow', 0.485),
    ('b7', 1e-3, 0.99, 600, 600, 'pillow', 0.485),
    ('v2_s', 1e-3, 0.9, 384, 384, 'pillow_bilinear', 0.485),
    ('v2_m', 1e-3, 0.9, 480, 480, 'pillow_bilinear', 0.485),
    ('v2_l', 1e-3, 0.9, 480, 480, 'pillow', 0.5),
  ],
)
def test_torchvision_by_variant(
  name, epsilon, momentum, crop, resized, resampling, mean
):
  spec = dataclasses.replace(
    variants.get_spec(name), **conventions.torchvision(name)
  )
  assert spec.padding == 'symmetric'
  assert (spec.bn_epsilon, spec.bn_momentum) == (epsilon, momentum)
  assert spec.resolution == crop
  assert spec.resolution + spec.crop_padding == resized
  assert (spec.resampling, spec.mean[0]) == (resampling, mean)


# The hub's config.


def test_hub_config():
  spec = variants.get_spec('b0')
  config = HubConfig(
    'tf_efficientnet_b0',
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    resolution=256,
    interpolation='bilinear',
    crop_fraction=0.8,
  )
  assert conventions.hub(config, spec) == {
    'mean': (0.5, 0.5, 0.5),
    'std': (0.25, 0.25, 0.25),
    'resolution': 256,
    'resampling': 'pillow_bilinear',
    'crop_padding': 64,  # 256 is .8 of 320
  }
  assert conventions.hub(HubConfig('tf_efficientnet_b0'), spec) == {}
  squash = HubConfig('b', crop_mode='squash', crop_fraction=0.9)
  assert conventions.hub(squash, spec) == {'crop_padding': None}
  # timm's .875 at 224 pixels is the published 32 pixels of padding.
  published = HubConfig('b', interpolation='bicubic', crop_fraction=0.875)
  assert conventions.hub(published, spec) == {
    'resampling': 'pillow',
    'crop_padding': 32,
  }


def test_a_copy_of_a_hub_repository(tmp_path, b0):
  spec = variants.get_spec('b0', num_classes=7)
  _save(tmp_path / 'model.safetensors', TIMM, spec, b0)
  config = {
    'architecture': 'efficientnet_b0',
    'num_classes': 7,
    'label_names': list('abcdefg'),
    'pretrained_cfg': {
      'tag': 'ra_in1k',
      'mean': [0.5, 0.4, 0.3],
      'std': [0.2, 0.2, 0.2],
      'input_size': [3, 64, 64],
      'test_input_size': [3, 96, 96],
      'interpolation': 'bicubic',
      'crop_pct': 1.0,
    },
  }
  (tmp_path / 'config.json').write_text(json.dumps(config))
  weights = load(tmp_path)
  assert weights.class_names == tuple('abcdefg')
  assert weights.tag == 'ra_in1k'
  read = weights.spec
  assert (read.mean, read.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
  assert (read.resolution, read.crop_padding) == (96, 0)
  assert (read.padding, read.bn_epsilon) == ('symmetric', 1e-5)
  with pytest.raises(UserError, match='holds b0, not b1'):
    load(tmp_path, 'b1')


# TensorFlow's EdgeTPU: the stride where it was trained, and a background.


@pytest.fixture(scope='module')
def edgetpu(tmp_path_factory):
  spec = variants.get_spec('edgetpu_s', num_classes=1001)
  variables = _variables(spec)
  path = tmp_path_factory.mktemp('edgetpu') / 'model.safetensors'
  arrays = copier.write(variables, TENSORFLOW.entries(spec))
  files.write_safetensors(
    path, {f'efficientnet-edgetpu-S/{k}': v for k, v in arrays.items()}, {}
  )
  return path, variables


def test_edgetpu_of_tensorflow(edgetpu):
  path, variables = edgetpu
  weights = load(path, 'edgetpu_s')
  assert weights.layout == 'tensorflow'
  assert weights.spec.stride_in == 'project'
  assert weights.spec.num_classes == 1001
  assert _equal(weights.variables, variables)


def test_edgetpu_without_the_background(edgetpu):
  path, variables = edgetpu
  weights = load(path, 'edgetpu_s', num_classes=1000)
  assert weights.spec.num_classes == 1000
  ours, theirs = (
    tree['params']['classifier'] for tree in (weights.variables, variables)
  )
  assert np.array_equal(ours['kernel'], theirs['kernel'][:, 1:])
  assert np.array_equal(ours['bias'], theirs['bias'][1:])


# Heads.


@pytest.fixture(scope='module')
def micro(tmp_path_factory):
  """A directory that `convert` would write, and its variables."""
  directory = tmp_path_factory.mktemp('micro')
  variables = _variables(MICRO)
  names = tuple('abcdefg')
  native.write(
    directory, MICRO, variables, class_names=names, source='runs/micro'
  )
  return directory, variables


def test_a_head_of_another_size_only_on_request(micro):
  directory, variables = micro
  with pytest.raises(UserError, match='7 classes, not 10.*new_head=True'):
    load(directory, num_classes=10)
  weights = load(directory, num_classes=10, new_head=True, seed=5)
  assert weights.spec.num_classes == 10 and weights.class_names is None
  trunk = lambda tree: {
    **tree,
    'params': {k: v for k, v in tree['params'].items() if k != 'classifier'},
  }
  assert _equal(trunk(weights.variables), trunk(variables))
  fresh = _variables(variants.get_spec('micro', num_classes=10), seed=5)
  assert _equal(
    weights.variables['params']['classifier'], fresh['params']['classifier']
  )
  # Of the same size too.
  weights = load(directory, new_head=True, seed=5)
  ours = weights.variables['params']['classifier']['kernel']
  assert ours.shape == variables['params']['classifier']['kernel'].shape
  assert not np.array_equal(ours, variables['params']['classifier']['kernel'])


def test_a_file_without_a_head(tmp_path):
  variables = _variables(MICRO)
  arrays = copier.write(variables, NATIVE.entries(MICRO))
  arrays = {k: v for k, v in arrays.items() if 'classifier' not in k}
  header = {'spec': native.spec_to_json(MICRO), 'class_names': None}
  path = tmp_path / 'trunk.safetensors'
  metadata = {'effnet_jax': json.dumps({**header, 'source': None})}
  files.write_safetensors(path, arrays, metadata)
  with pytest.raises(UserError, match='no classifier .*new_head=True'):
    load(path)
  assert load(path, new_head=True, num_classes=3).spec.num_classes == 3


# This project's own files.


def test_a_converted_directory(micro):
  directory, variables = micro
  weights = load(directory)
  assert weights.spec == MICRO
  assert weights.layout == 'effnet_jax'
  assert weights.class_names == tuple('abcdefg')
  assert weights.origin == 'runs/micro'
  assert _equal(weights.variables, variables)
  with pytest.raises(UserError, match='holds micro, not b0'):
    load(directory, 'b0')


@pytest.mark.parametrize('name', variants.list_models())
def test_a_specification_in_json_and_back(name):
  for spec in (
    variants.get_spec(name),
    variants.get_spec(
      name, padding='symmetric', num_classes=3, mean=(0.1, 0.2, 0.3)
    ),
  ):
    text = json.dumps(native.spec_to_json(spec))
    assert native.spec_from_json(json.loads(text)) == spec


def test_a_file_of_a_newer_version(tmp_path):
  fields = {**native.spec_to_json(MICRO), 'heads': 2}
  with pytest.raises(UserError, match="newer.*'heads'.*upgrade"):
    native.spec_from_json(fields)


def test_a_file_that_does_not_say_its_network(tmp_path):
  arrays = copier.write(_variables(MICRO), NATIVE.entries(MICRO))
  path = tmp_path / 'bare.safetensors'
  files.write_safetensors(path, arrays, {})
  with pytest.raises(UserError, match='does not say which network.*convert'):
    load(path)


# create_model and load.


def test_create_model_from_weights(micro):
  directory, variables = micro
  model, loaded = effnet_jax.create_model('micro', pretrained=directory)
  assert model.spec == MICRO
  assert _equal(loaded, variables)
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(loaded))
  model, loaded = effnet_jax.create_model(
    'micro', 3, directory, new_head=True, dtype='bfloat16', resolution=24
  )
  assert model.dtype == 'bfloat16'
  assert (model.spec.num_classes, model.spec.resolution) == (3, 24)
  with pytest.raises(UserError, match='new_head is for pretrained'):
    effnet_jax.create_model('micro', new_head=True)


@pytest.mark.parametrize('source', [True, False, 3])
def test_no_source_of_weights(source):
  with pytest.raises(
    UserError, match=f'{source} names no weights: give a path'
  ):
    effnet_jax.create_model('micro', pretrained=source)
  with pytest.raises(UserError, match='None names no weights'):
    effnet_jax.load(None)


@pytest.mark.parametrize(
  'source, message',
  [
    ('https://example.org/b0.pth', 'download it'),
    ('ftp://example.org/b0.pth', 'download it'),
    ('', 'no weights named'),
  ],
)
def test_addresses_are_not_fetched(source, message):
  with pytest.raises(UserError, match=message) as caught:
    effnet_jax.load(source)
  _one_line(caught)


def test_no_classes():
  with pytest.raises(UserError, match='num_classes must be 1 or more'):
    effnet_jax.create_model('micro', num_classes=0)


# Heads and headers that nobody's program writes.


@pytest.mark.parametrize(
  'change',
  [
    {'classifier/bias': np.zeros((), np.float32)},
    {'classifier/bias': np.zeros((7, 1), np.float32)},
    {'classifier/bias': np.zeros(1001, np.float32)},
    {'classifier/kernel': np.zeros(3, np.float32)},
    {'a\nb\x1b[2J': np.zeros(3, np.float32)},
  ],
)
def test_hostile_arrays(tmp_path, change):
  arrays = dict(copier.write(_variables(MICRO), NATIVE.entries(MICRO)))
  header = {'spec': native.spec_to_json(MICRO), 'class_names': None}
  path = tmp_path / 'hostile.safetensors'
  metadata = {'effnet_jax': json.dumps({**header, 'source': None})}
  files.write_safetensors(path, {**arrays, **change}, metadata)
  for num_classes in (None, 1000):
    with pytest.raises(UserError) as caught:
      load(path, num_classes=num_classes)
    assert _one_line(caught).isprintable()


@pytest.mark.parametrize(
  'field, value, message',
  [
    ('depth', 1e4, 'more than 1000 layers'),
    ('depth', float('inf'), 'depth=inf is no float'),
    ('width', float('nan'), 'width=nan is no float'),
    ('stages', 3, 'does not say which network'),
    ('num_classes', 7.5, 'num_classes=7.5 is no int'),
    ('name', 'a\nb', 'is no str'),
    ('mean', ['x', 1, 2], 'mean=.* is no tuple'),
    ('resampling', 'nearest', "unknown resampling 'nearest'"),
  ],
)
def test_hostile_headers(tmp_path, field, value, message):
  spec = {**native.spec_to_json(MICRO), field: value}
  metadata = {'spec': spec, 'class_names': None, 'source': None}
  with pytest.raises(UserError, match=message) as caught:
    native.read_metadata({'effnet_jax': json.dumps(metadata)}, 'hostile')
  assert _one_line(caught).isprintable()


def test_load_anything(micro):
  directory, variables = micro
  model, loaded = effnet_jax.load(directory)
  assert model.spec == MICRO and _equal(loaded, variables)


# Weights out.


def test_there_and_back_through_timm(tmp_path, b0):
  for form in (
    {'padding': 'same', 'bn_epsilon': 1e-3},
    {'padding': 'symmetric', 'bn_epsilon': 1e-5, 'bn_momentum': 0.9},
  ):
    spec = variants.get_spec('b0', num_classes=7, resampling='pillow', **form)
    out = tmp_path / form['padding']
    names = tuple('abcdefg')
    written = write.write('timm', out, spec, b0, class_names=names)
    again = load(out)
    assert again.layout == 'timm'
    assert _equal(again.variables, b0)
    assert again.spec == spec
    assert again.class_names == names
    assert 'local-dir' in written.how


@pytest.mark.parametrize('name', ['b0', 'v2_b0'])
def test_there_and_back_through_keras(tmp_path, name):
  spec = variants.get_spec(name, num_classes=7)
  variables = _variables(spec)
  written = write.write('keras', tmp_path, spec, variables)
  again = load(written.path, name)
  assert again.layout == 'keras'
  assert _equal(again.variables, variables)
  assert again.spec == spec
  assert not written.note


def test_what_a_peer_does_not_have(tmp_path):
  variables = {}
  for to, name, overrides, message in (
    ('timm', 'micro', {}, 'timm has no micro; it has b0'),
    ('keras', 'lite0', {}, 'Keras has no lite0'),
    ('keras', 'b0', {'padding': 'symmetric'}, 'same padding.*only'),
    ('timm', 'b0', {'padding': 'symmetric'}, 'no b0 with symmetric.*0.001'),
    ('timm', 'edgetpu_s', {'stride_in': 'project'}, 'another stride_in'),
    ('keras', 'b0', {'se_ratio': 0.5}, 'another se_ratio'),
    ('torch', 'b0', {}, "nothing writes for 'torch'"),
  ):
    spec = variants.get_spec(name, **overrides)
    with pytest.raises(UserError, match=message):
      write.write(to, tmp_path / 'out', spec, variables)
  assert not (tmp_path / 'out').exists()


def test_every_variant_has_timms_name():
  for name in variants.list_models():
    if name == 'micro':
      continue
    architecture = write._timm_architecture(variants.get_spec(name))
    assert architecture.startswith('tf_efficientnet')
    expected = 'l2' if name == 'l2_475' else name
    assert variants.get_spec(architecture).name == expected


def test_keras_with_other_images(tmp_path):
  """V2's normalisation is a constant of Keras' code."""
  spec = variants.get_spec('v2_b0', num_classes=3, mean=(0.5, 0.5, 0.5))
  written = write.write('keras', tmp_path, spec, _variables(spec))
  assert 'include_preprocessing=False' in written.how
  assert '(0.5, 0.5, 0.5)' in written.note


# The command.


def test_convert_over_an_earlier_conversion(tmp_path, micro, capsys):
  source, variables = micro
  out = tmp_path / 'out'
  assert cli.main(['convert', str(source), '--out', str(out)]) == 0
  assert 'effnet_jax.load' in capsys.readouterr().out
  assert cli.main(['convert', str(source), '--out', str(out)]) == 2
  assert 'not empty' in capsys.readouterr().err
  (out / 'config.json').write_text('{"architecture": "of timm"}')
  # Onto itself: read whole, then replaced; what is stale goes.
  assert cli.main(['convert', str(out), '--out', str(out), '--overwrite']) == 0
  assert [path.name for path in out.iterdir()] == ['model.safetensors']
  assert _equal(load(out).variables, variables)
  (out / 'thesis.tex').write_text('mine')
  status = cli.main(['convert', str(source), '--out', str(out), '--overwrite'])
  assert status == 2 and 'thesis.tex' in capsys.readouterr().err
  assert load(out).layout == 'effnet_jax'


@pytest.mark.parametrize(
  'arguments, message',
  [
    ([], 'SOURCE'),
    (['nothing.pth', '--out', 'x'], "no file 'nothing.pth'"),
    (['lite0', '--model', 'b0', '--out', 'x'], 'holds lite0, not b0'),
    (['lite0', '--classes', 'many', '--out', 'x'], "invalid int value: 'many'"),
    (['lite0', '--classes', '10', '--out', 'x'], '1000 classes, not 10'),
    (['lite0', '--to', 'keras', '--out', 'x'], 'Keras has no lite0'),
    (['lite0', '--to', 'kears', '--out', 'x'], 'did you mean keras?'),
    (['lite0', '--out', ''], "--out '' is no directory"),
    (['lite0', '--raw', '--out', 'x'], 'lite0 is no training run'),
  ],
)
def test_convert_with_mistakes(
  tmp_path, monkeypatch, capsys, arguments, message
):
  monkeypatch.chdir(tmp_path)
  assert cli.main(['convert', *arguments]) == 2
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
  assert not list(tmp_path.iterdir())
