"""The tables of names against what the peers themselves save."""

import gzip
import itertools
import pathlib
import re

import jax
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, spec, variants
from effnet_jax.weights import copier
from effnet_jax.weights.layouts import keras, native, pytorch, registry
from effnet_jax.weights.layouts import tensorflow as tf1

# Keys and shapes as timm 1.0.31, torchvision 0.29.1, efficientnet_pytorch 0.7.1
# and Keras 3.15.1 save them, step counters left out.
_KEYS = pathlib.Path(__file__).parent / 'golden' / 'keys.txt.gz'


def _peers():
  peers = {}
  for line in gzip.decompress(_KEYS.read_bytes()).decode().splitlines():
    if line.startswith('# '):
      arrays = peers[line[2:]] = {}
      continue
    key, shape = line.split()
    sides = () if shape == 'scalar' else tuple(map(int, shape.split('x')))
    arrays[key] = np.zeros(sides, np.float32)
  return peers


PEERS = _peers()
LAYOUTS = registry.LAYOUTS
_WITHOUT_EXPERTS = ('keras', 'torchvision', 'lukemelas')


def _shapes(model_spec):
  return efficientnet.shapes(efficientnet.build(model_spec))


def _numbered_variables(model_spec):
  """Every element of the variables another number."""
  count = itertools.count()

  def number(leaf):
    n = int(np.prod(leaf.shape))
    start = next(count) * 1000
    return (start + np.arange(n, dtype=np.float32)).reshape(leaf.shape)

  return jax.tree.map(number, _shapes(model_spec))


def _equal(a, b):
  paths = lambda tree: [p for p, _ in jax.tree_util.tree_leaves_with_path(tree)]
  return paths(a) == paths(b) and all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


@pytest.mark.parametrize('peer', PEERS)
def test_the_table_is_the_peers_own(peer):
  arrays = PEERS[peer]
  name = peer.split('/')[1].split('.')[0]
  layout = registry.recognise(arrays.keys(), peer)
  assert layout.name == peer.split('/')[0]
  model_spec = variants.get_spec(name)
  prepared = layout.prepare(arrays)
  # Strict: nothing missing, nothing left over, every shape equal.
  variables = copier.read(
    prepared,
    layout,
    layout.entries(model_spec),
    _shapes(model_spec),
    peer,
  )
  assert jax.tree.structure(variables) == jax.tree.structure(
    jax.tree.map(np.zeros_like, variables)
  )


@pytest.mark.parametrize('name', variants.list_models())
def test_every_layout_names_every_leaf_of_every_variant(name):
  model_spec = variants.get_spec(name)
  leaves = {
    tuple(key.key for key in path)
    for path, _ in jax.tree_util.tree_leaves_with_path(_shapes(model_spec))
  }
  for layout in LAYOUTS:
    if name.startswith('condconv') and layout.name in _WITHOUT_EXPERTS:
      continue
    entries = layout.entries(model_spec)
    assert {entry.path for entry in entries} == leaves
    assert len({entry.key for entry in entries}) == len(entries) == len(leaves)


@pytest.mark.parametrize(
  'name', ['b1', 'lite0', 'edgetpu_m', 'condconv_b0_4e', 'v2_b0']
)
@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda layout: layout.name)
def test_there_and_back_is_bit_for_bit(name, layout):
  if name.startswith('condconv') and layout.name in _WITHOUT_EXPERTS:
    pytest.skip(f'{layout.name} has no such network')
  model_spec = variants.get_spec(name, num_classes=7)
  variables = _numbered_variables(model_spec)
  entries = layout.entries(model_spec)
  theirs = copier.write(variables, entries)
  again = copier.read(theirs, layout, entries, _shapes(model_spec), 'there')
  assert _equal(variables, again)


def test_axes_by_hand():
  """One element of each kind of array, followed from ours to theirs."""
  model_spec = variants.get_spec('condconv_b0_4e', num_classes=7)
  variables = _numbered_variables(model_spec)
  params, stats = variables['params'], variables['batch_stats']
  torch = copier.write(variables, pytorch.TIMM.entries(model_spec))
  row, column, i, o = 2, 1, 0, 5
  assert (
    torch['conv_stem.weight'][o, i, row, column]
    == params['stem_conv']['kernel'][row, column, i, o]
  )
  channel = 3
  assert (
    torch['blocks.1.0.conv_dw.weight'][channel, 0, row, column]
    == params['blocks_1']['depthwise_conv']['kernel'][row, column, 0, channel]
  )
  assert (
    torch['blocks.1.0.se.conv_reduce.weight'][2, 7, 0, 0]
    == params['blocks_1']['se']['reduce']['kernel'][0, 0, 7, 2]
  )
  assert (
    torch['classifier.weight'][4, 9] == params['classifier']['kernel'][9, 4]
  )
  assert (
    torch['blocks.1.1.bn3.running_var'][6]
    == (stats['blocks_2']['project_bn']['var'][6])
  )
  # Block 8 is the first of stage 4, with experts: [experts, o * i * k * k].
  kernel = params['blocks_8']['expand_conv']['kernel']
  experts, _, _, inputs, filters = kernel.shape
  assert (experts, inputs, filters) == (4, 80, 480)
  assert (
    torch['blocks.4.0.conv_pw.weight'][3, 11 * inputs + 8]
    == kernel[3, 0, 0, 8, 11]
  )
  kernel = params['blocks_8']['depthwise_conv']['kernel']
  assert kernel.shape == (4, 5, 5, 1, 480)
  assert (
    torch['blocks.4.0.conv_dw.weight'][1, (11 * 5 + row) * 5 + column]
    == kernel[1, row, column, 0, 11]
  )
  assert (
    torch['blocks.4.0.routing_fn.weight'][2, 50]
    == params['blocks_8']['routing']['kernel'][50, 2]
  )
  # TensorFlow flattens [k, k, i, o] and [k, k, c, 1].
  tensorflow = copier.write(variables, tf1.TENSORFLOW.entries(model_spec))
  assert (
    tensorflow['blocks_8/conv2d/condconv_kernel'][3, 8 * filters + 11]
    == params['blocks_8']['expand_conv']['kernel'][3, 0, 0, 8, 11]
  )
  flat = tensorflow['blocks_8/depthwise_conv2d/depthwise_condconv_kernel']
  assert flat[1, (row * 5 + column) * 480 + 11] == kernel[1, row, column, 0, 11]
  assert (
    tensorflow['blocks_1/depthwise_conv2d/depthwise_kernel'][row, column, 3, 0]
    == params['blocks_1']['depthwise_conv']['kernel'][row, column, 0, 3]
  )


def _tensorflow_keys(name='b0', scope='efficientnet-b0', bn='tpu_'):
  """The variables of a released checkpoint, as efficientnet.md 4.1 has them."""
  model_spec = variants.get_spec(name, num_classes=7)
  variables = _numbered_variables(model_spec)
  arrays = copier.write(variables, tf1.TENSORFLOW.entries(model_spec))
  return (
    model_spec,
    variables,
    {
      f'{scope}/{key.replace("batch_normal", bn + "batch_normal")}': value
      for key, value in arrays.items()
    },
  )


def _read_tensorflow(model_spec, arrays):
  layout = registry.recognise(arrays.keys(), 'checkpoint')
  assert layout is tf1.TENSORFLOW
  return copier.read(
    layout.prepare(arrays),
    layout,
    layout.entries(model_spec),
    _shapes(model_spec),
    'checkpoint',
  )


def test_names_of_the_tensorflow_originals():
  _, _, arrays = _tensorflow_keys()
  shapes = {key: value.shape for key, value in arrays.items()}
  b0 = 'efficientnet-b0/'
  assert shapes[b0 + 'stem/conv2d/kernel'] == (3, 3, 3, 32)
  assert shapes[b0 + 'stem/tpu_batch_normalization/gamma'] == (32,)
  # The first block expands nothing: its only convolution is the projection.
  assert shapes[b0 + 'blocks_0/conv2d/kernel'] == (1, 1, 32, 16)
  assert b0 + 'blocks_0/conv2d_1/kernel' not in shapes
  assert b0 + 'blocks_0/tpu_batch_normalization_1/beta' in shapes
  assert b0 + 'blocks_0/tpu_batch_normalization_2/beta' not in shapes
  assert shapes[b0 + 'blocks_1/conv2d_1/kernel'] == (1, 1, 96, 24)
  assert shapes[b0 + 'blocks_1/depthwise_conv2d/depthwise_kernel'] == (
    *(3, 3, 96, 1),
  )
  assert shapes[b0 + 'blocks_1/se/conv2d/kernel'] == (1, 1, 96, 4)
  assert shapes[b0 + 'blocks_1/se/conv2d_1/bias'] == (96,)
  assert b0 + 'blocks_15/tpu_batch_normalization_2/moving_variance' in shapes
  assert shapes[b0 + 'head/dense/kernel'] == (1280, 7)
  # V2: a fused block without expansion has one convolution.
  _, _, arrays = _tensorflow_keys('v2_b0', 'efficientnetv2-b0')
  shapes = {key: value.shape for key, value in arrays.items()}
  assert shapes['efficientnetv2-b0/blocks_0/conv2d/kernel'] == (3, 3, 32, 16)
  assert shapes['efficientnetv2-b0/blocks_1/conv2d/kernel'] == (3, 3, 16, 64)
  assert shapes['efficientnetv2-b0/blocks_1/conv2d_1/kernel'] == (1, 1, 64, 32)


@pytest.mark.parametrize('bn', ['', 'tpu_', 'sync_'])
def test_averages_are_preferred_and_slots_skipped(bn):
  model_spec, variables, averages = _tensorflow_keys(bn=bn)
  arrays = {'global_step': np.int64(218_949)}
  for key, value in averages.items():
    arrays[key] = value + 1  # the raw weights
    arrays[f'{key}/RMSProp'] = value * 0 + 2
    arrays[f'{key}/RMSProp_1'] = value * 0
    arrays[f'{key}/Momentum'] = value * 0
    arrays[f'{key}/ExponentialMovingAverage'] = value
  assert _equal(_read_tensorflow(model_spec, arrays), variables)
  # Whatever the order of the file.
  backwards = dict(reversed(arrays.items()))
  assert _equal(_read_tensorflow(model_spec, backwards), variables)
  raw = {k: v for k, v in arrays.items() if 'Exponential' not in k}
  read = _read_tensorflow(model_spec, raw)
  assert _equal(jax.tree.map(lambda x: x - 1, read), variables)


def test_a_file_of_averages_only():
  model_spec, variables, averages = _tensorflow_keys()
  shadows = {f'{k}/ExponentialMovingAverage': v for k, v in averages.items()}
  assert _equal(_read_tensorflow(model_spec, shadows), variables)


def test_two_networks_in_a_checkpoint():
  _, _, student = _tensorflow_keys()
  _, _, teacher = _tensorflow_keys(scope='teacher')
  with pytest.raises(UserError, match='several.*efficientnet-b0, teacher'):
    tf1.TENSORFLOW.prepare({**student, **teacher})


def test_no_layout_is_recognised():
  with pytest.raises(
    UserError, match=r'mine\.pth.*timm.*keras.*layer1\.weight'
  ):
    registry.recognise({'layer1.weight': 0}.keys(), 'mine.pth')


# Keras' normalisation: what its V1 models do to pixels in 0..255.


def _keras_preprocess(pixels, mean, variance, hosted):
  x = (pixels / 255 - mean) / np.sqrt(variance)
  return x / np.sqrt((0.229, 0.224, 0.225)) if hosted else x


@pytest.mark.parametrize(
  'mean, variance, hosted',
  [
    # What the hosted files hold: standard deviations, as the variance.
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), True),
    ((0.4, 0.5, 0.6), (0.04, 0.09, 0.0625), False),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), False),
  ],
)
@pytest.mark.parametrize(
  'names',
  [
    (
      'normalization/mean:0',
      'normalization/variance:0',
      'stem_conv/stem_conv/kernel:0',
    ),
    (
      'layers/normalization/vars/0',
      'layers/normalization/vars/1',
      'layers/conv2d/vars/0',
    ),
  ],
)
def test_the_built_in_normalisation_is_folded(mean, variance, hosted, names):
  arrays = dict(zip(names, map(np.float32, (mean, variance, 0)), strict=True))
  layout = registry.recognise(arrays.keys(), 'keras')
  folded_mean, folded_std = keras.normalization(layout.prepare(arrays))
  pixels = np.linspace(0, 255, 30).reshape(10, 3)
  np.testing.assert_allclose(
    (pixels / 255 - folded_mean) / folded_std,
    _keras_preprocess(pixels, mean, variance, hosted),
    rtol=1e-4,
    atol=1e-5,
  )


def test_keras_without_normalisation():
  assert keras.normalization({'stem_conv/kernel': np.zeros(())}) is None


def test_names_of_tensorflows_keras():
  """Keras 2 calls the depthwise kernel by another name, and adds `:0`."""
  renamed = {
    re.sub('(dwconv/)kernel', r'\1depthwise_kernel', key) + ':0': value
    for key, value in PEERS['keras/EfficientNetB1.h5'].items()
  }
  assert any('depthwise_kernel:0' in key for key in renamed)
  for prefix in ('', 'model_weights/'):
    arrays = {prefix + key: value for key, value in renamed.items()}
    arrays['optimizer_weights/adam/stem_conv/kernel_m:0'] = np.zeros(1)
    layout = registry.recognise(arrays.keys(), 'keras')
    model_spec = variants.get_spec('b1')
    entries = layout.entries(model_spec)
    prepared = layout.prepare(arrays)
    copier.read(prepared, layout, entries, _shapes(model_spec), 'keras')


# Strictness.

_SMALL = spec.ModelSpec(
  'small', spec.parse_stages('r2_k3_s1_e1_o8_se'), num_classes=3
)


def _small():
  entries = native.NATIVE.entries(_SMALL)
  return dict(copier.write(_numbered_variables(_SMALL), entries)), entries


def _read_small(arrays, entries):
  return copier.read(
    arrays, native.NATIVE, entries, _shapes(_SMALL), 'small.safetensors'
  )


def test_all_that_does_not_fit_is_named():
  arrays, entries = _small()
  assert _read_small(arrays, entries)
  del arrays['head_bn/var'], arrays['classifier/bias']
  arrays['stem_conv/kernel'] = arrays['stem_conv/kernel'][:2]
  arrays['blocks_2/extra'] = np.zeros(3)
  arrays['blocks_0/project_bn/mean'] = np.full(8, np.nan)
  with pytest.raises(UserError) as caught:
    _read_small(arrays, entries)
  message = str(caught.value)
  for part in (
    'small.safetensors (effnet_jax layout) does not fit this network',
    'missing: head_bn/var, classifier/bias',
    'left over: blocks_2/extra',
    'shape: stem_conv/kernel [2, 3, 3, 32] for stem_conv/kernel [3, 3, 3, 32]',
    'not finite: blocks_0/project_bn/mean',
  ):
    assert part in message
  assert '\n' not in message


def test_many_keys_are_counted():
  arrays, entries = _small()
  with pytest.raises(UserError, match=r'missing: .* and \d+ more'):
    _read_small({'stem_conv/kernel': arrays['stem_conv/kernel']}, entries)


def test_a_key_is_used_once():
  arrays, entries = _small()
  with pytest.raises(UserError, match='used twice: stem_bn/scale'):
    _read_small(
      arrays,
      [
        *entries,
        next(e for e in entries if e.key == 'stem_bn/scale'),
      ],
    )


def test_another_number_of_axes():
  arrays, _ = _small()
  entries = pytorch.LUKEMELAS.entries(_SMALL)
  theirs = dict(copier.write(_numbered_variables(_SMALL), entries))
  theirs['_conv_stem.weight'] = theirs['_conv_stem.weight'].ravel()
  with pytest.raises(UserError, match=r'_conv_stem.weight \[864\] for stem'):
    copier.read(theirs, pytorch.LUKEMELAS, entries, _shapes(_SMALL), 'luke.pth')


def test_counters_are_no_weights():
  _, _ = _small()
  entries = pytorch.TIMM.entries(_SMALL)
  theirs = dict(copier.write(_numbered_variables(_SMALL), entries))
  theirs['bn1.num_batches_tracked'] = np.int64(7)
  copier.read(theirs, pytorch.TIMM, entries, _shapes(_SMALL), 'timm')
