"""ONNX files run in ONNX Runtime and give what `model.apply` gives."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.special

from effnet_jax.errors import UserError
from effnet_jax.weights.export import export
from effnet_jax.weights.export import onnx as writer


def _session(path):
  return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])


def _run(path, images):
  session = _session(path)
  (given,) = session.get_inputs()
  assert given.name == 'images'
  return session.run(None, {'images': images})[0]


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'activation': 'relu6', 'padding': 'symmetric', 'stem_stride': 1},
    {'activation': 'relu', 'stride_in': 'project', 'resolution': 21},
  ],
  ids=['silu', 'relu6 symmetric', 'relu late'],
)
def test_logits(fields, make_sample, difference, tmp_path):
  sample = make_sample(**fields)
  path = str(tmp_path / 'sample.onnx')
  assert export(sample.model, sample.variables, path, 'onnx') == [path]
  for count in (1, 3):
    images = sample.images(count, seed=count)
    found = _run(path, images)
    assert found.dtype == np.float32
    assert difference(found, sample.logits(images)) <= 1e-5


def test_probabilities_of_pixels(sample, difference, tmp_path):
  path = str(tmp_path / 'sample.onnx')
  export(sample.model, sample.variables, path, 'onnx', preprocess=True)
  pixels = sample.pixels(3)
  wanted = scipy.special.softmax(sample.logits(sample.images(3)), axis=1)
  found = _run(path, pixels)
  assert found.sum(axis=1) == pytest.approx(1, rel=1e-5)
  assert difference(found, wanted) <= 1e-5
  assert [x.name for x in _session(path).get_outputs()] == ['probabilities']


def test_float16_halves_the_file(sample, difference, tmp_path):
  whole, half = str(tmp_path / 'whole'), str(tmp_path / 'half')
  export(sample.model, sample.variables, whole, 'onnx')
  export(sample.model, sample.variables, half, 'onnx', dtype='float16')
  images = sample.images(2)
  found = _run(half, images)
  assert found.dtype == np.float32
  # 11 bits of mantissa.
  assert 1e-6 < difference(found, sample.logits(images)) < 5e-3
  weights = [
    sum(len(x.raw_data) for x in onnx.load(path).graph.initializer)
    for path in (whole, half)
  ]
  assert weights[1] < 0.7 * weights[0]


def test_graph(sample, tmp_path):
  path = str(tmp_path / 'sample.onnx')
  export(sample.model, sample.variables, path, 'onnx', class_names='abcde')
  model = onnx.load(path)
  onnx.checker.check_model(model, full_check=True)
  kinds = [node.op_type for node in model.graph.node]
  # Channels first throughout, batch norm gone.
  assert kinds.count('Transpose') == 1 and 'BatchNormalization' not in kinds
  names = {x.name for x in model.graph.initializer}
  assert {'stem_conv/kernel', 'blocks_4/se/reduce/bias'} <= names
  assert 'blocks_8/routing/kernel' in names and 'classifier/bias' in names
  shape = model.graph.input[0].type.tensor_type.shape.dim
  assert shape[0].dim_param and [d.dim_value for d in shape[1:]] == [22, 22, 3]
  metadata = _session(path).get_modelmeta().custom_metadata_map
  assert metadata['model'] == 'sample'
  assert json.loads(metadata['class_names']) == list('abcde')
  assert json.loads(metadata['mean']) == list(sample.spec.mean)


def test_large_weights_lie_beside(sample, difference, tmp_path, monkeypatch):
  monkeypatch.setattr(writer, '_MOST_BYTES', 1000)
  path = str(tmp_path / 'sample.onnx')
  written = export(sample.model, sample.variables, path, 'onnx')
  assert written == [path, f'{path}.data']
  assert {x.name for x in tmp_path.iterdir()} == {
    *('sample.onnx', 'sample.onnx.data')
  }
  images = sample.images(2)
  assert difference(_run(path, images), sample.logits(images)) <= 1e-5


def test_large_weights_of_before_go(sample, tmp_path, monkeypatch):
  path = str(tmp_path / 'sample.onnx')
  weights = tmp_path / 'sample.onnx.data'
  arguments = (sample.model, sample.variables, path, 'onnx')
  with monkeypatch.context() as patched:
    patched.setattr(writer, '_MOST_BYTES', 1000)
    export(*arguments)
    before = weights.read_bytes()
    with pytest.raises(UserError, match='--overwrite'):
      export(*arguments)
    assert weights.read_bytes() == before
    export(*arguments, overwrite=True)
    assert weights.read_bytes() == before
  assert export(*arguments, overwrite=True) == [path]
  assert not weights.exists()
  # Weights that the file does not name are somebody else's.
  weights.write_bytes(b'thesis')
  with pytest.raises(UserError, match='.data exists and is no onnx export'):
    export(*arguments, overwrite=True)
  assert weights.read_bytes() == b'thesis'


def test_bfloat16_is_refused(sample, tmp_path):
  with pytest.raises(UserError, match='onnx takes float32 or float16, not bf'):
    export(
      *(sample.model, sample.variables, str(tmp_path / 'x'), 'onnx'),
      dtype='bfloat16',
    )
  assert not list(tmp_path.iterdir())


def test_without_the_package(sample, tmp_path, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'onnx', None)
  with pytest.raises(UserError, match=r"pip install 'effnet_jax\[onnx\]'"):
    export(sample.model, sample.variables, str(tmp_path / 'x'), 'onnx')
