"""What goes into TensorFlow's formats, as far as tensorflow is not needed.

benchmarks/exports.py runs the formats themselves (make parity).
"""

import dataclasses
import io
import struct
import sys
import zipfile

import numpy as np
import pytest

from effnet_jax import errors
from effnet_jax.models import variants
from effnet_jax.weights.export import tensorflow, tflite_metadata
from effnet_jax.weights.export.job import Job

LITE0 = variants.get_spec('lite0')
WRITERS = {
  'savedmodel': tensorflow.write_savedmodel,
  'tflite': tensorflow.write_tflite,
}
METADATA = {
  'model': 'lite0',
  'resolution': 224,
  'mean': [0.25, 0.5, 0.75],
  'std': [0.5, 1.0, 0.25],
  'preprocess': False,
}
FILES = {'effnet_jax.json': '{}\n', 'labels.txt': 'tench\ncafé\n'}


@pytest.fixture
def no_tensorflow(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow', None)  # not importable


@pytest.mark.parametrize('format', WRITERS)
def test_the_missing_package_is_named(format, no_tensorflow, tmp_path):
  with pytest.raises(errors.UserError) as raised:
    WRITERS[format](Job(LITE0, {}), str(tmp_path / 'lite0'))
  assert str(raised.value) == (
    f"export to {format} needs tensorflow: pip install 'effnet_jax[tensorflow]'"
  )
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'arguments, line',
  [
    ({'dtype': 'bfloat16'}, 'tflite takes float32 or float16, not bfloat16'),
    (
      {'dtype': 'float16', 'quantize': 'int8'},
      'quantize int8 decides the dtype of weights: leave out dtype float16',
    ),
  ],
)
def test_dtypes_that_tflite_has_not(arguments, line, no_tensorflow, tmp_path):
  with pytest.raises(errors.UserError) as raised:
    tensorflow.write_tflite(Job(LITE0, {}, **arguments), str(tmp_path / 'x'))
  assert str(raised.value) == line


@pytest.mark.parametrize(
  'arguments, fits',
  [({}, False), ({'dtype': 'float16'}, True), ({'quantize': 'int8'}, True)],
)
def test_two_gigabytes_of_tflite(arguments, fits, no_tensorflow, tmp_path):
  # 2.4 GB in float32, and no memory at all.
  kernel = np.broadcast_to(np.float32(0), (600, 1_000_000))
  job = Job(LITE0, {'classifier': {'kernel': kernel}}, **arguments)
  line = 'needs tensorflow' if fits else 'lite0 passes the 2 GB that a TFLite'
  with pytest.raises(errors.UserError, match=line):
    tensorflow.write_tflite(job, str(tmp_path / 'lite0'))


def test_calibration_sees_what_the_network_takes():
  crops = np.array([0, 127, 255], np.uint8).repeat(12).reshape(3, 2, 2, 3)
  job = Job(LITE0, {}, quantize='int8', calibrate=crops)
  inputs = [batch for (batch,) in tensorflow._calibration_inputs(job)]
  assert [batch.shape for batch in inputs] == [(1, 2, 2, 3)] * 3
  assert {batch.dtype for batch in inputs} == {np.dtype('float32')}
  # (x - 127) / 128, as Lite's weights were trained.
  for batch, value in zip(inputs, (-127 / 128, 0, 1), strict=True):
    np.testing.assert_allclose(batch, value, atol=1e-6)
  pixels = dataclasses.replace(job, preprocess=True)
  (first, *_) = tensorflow._calibration_inputs(pixels)
  np.testing.assert_array_equal(first[0], crops[:1])


def test_files_that_travel_along():
  metadata = {**METADATA, 'class_names': ['tench', 'two\nlines']}
  files = tensorflow._companions(Job(LITE0, {}, metadata=metadata))
  assert files['labels.txt'] == 'tench\ntwo lines\n'  # a line a class
  nameless = Job(LITE0, {}, metadata={**METADATA, 'class_names': None})
  assert list(tensorflow._companions(nameless)) == ['effnet_jax.json']


def test_the_archive_follows_the_model():
  content = tflite_metadata.append(b'TFL3' * 100, FILES)
  assert content.startswith(b'TFL3' * 100)
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    assert archive.testzip() is None
    assert {n: archive.read(n).decode() for n in archive.namelist()} == FILES
  assert content == tflite_metadata.append(b'TFL3' * 100, FILES)


class Table:
  """A flatbuffer's table, read by the format's definition."""

  def __init__(self, data, at=None):
    self.data = data
    self.at = self._number('I', 0) if at is None else at
    self.vtable = self.at - self._number('i', self.at)

  def _number(self, kind, at):
    return struct.unpack_from(f'<{kind}', self.data, at)[0]

  def _where(self, field):
    if 4 + 2 * field >= self._number('H', self.vtable):
      return None
    offset = self._number('H', self.vtable + 4 + 2 * field)
    return self.at + offset if offset else None

  def scalar(self, field, kind='B'):
    return self._number(kind, self._where(field))

  def _follow(self, at):
    return at + self._number('I', at)

  def table(self, field):
    return Table(self.data, self._follow(self._where(field)))

  def text(self, field):
    at = self._follow(self._where(field))
    return self.data[at + 4 : at + 4 + self._number('I', at)].decode()

  def _elements(self, field):
    if self._where(field) is None:
      return []
    at = self._follow(self._where(field))
    return [at + 4 + 4 * i for i in range(self._number('I', at))]

  def tables(self, field):
    return [Table(self.data, self._follow(at)) for at in self._elements(field)]

  def floats(self, field):
    return [self._number('f', at) for at in self._elements(field)]


def tensors(metadata, files):
  """The tables of the model, its input and its output."""
  data = tflite_metadata.model_metadata(metadata, files)
  assert data[4:8] == b'M001'
  model = Table(data)
  (subgraph,) = model.tables(3)
  return model, *subgraph.tables(2), *subgraph.tables(3)


def test_metadata_say_how_to_normalise():
  model, image, _ = tensors(METADATA, FILES)
  assert (model.text(0), model.text(7)) == ('lite0', '1.0.0')
  (unit,) = image.tables(4)
  assert unit.scalar(0) == 1  # normalisation
  options = unit.table(1)
  assert options.floats(0) == [63.75, 127.5, 191.25]  # of pixels in 0..255
  assert options.floats(1) == [127.5, 255.0, 63.75]


def test_metadata_say_what_the_input_is():
  _, image, _ = tensors(METADATA, FILES)
  content = image.table(3)
  assert content.scalar(0) == 2  # an image
  properties = content.table(1)
  assert properties.scalar(0) == 1  # RGB
  size = properties.table(1)
  assert (size.scalar(0, 'I'), size.scalar(1, 'I')) == (224, 224)


def test_metadata_name_the_classes():
  model, _, output = tensors(METADATA, FILES)
  assert output.text(0) == 'logits'
  (labels,) = output.tables(6)
  assert (labels.text(0), labels.scalar(2)) == ('labels.txt', 2)
  (other,) = model.tables(6)
  assert (other.text(0), other.scalar(2)) == ('effnet_jax.json', 1)


def test_metadata_without_classes_and_with_preprocessing():
  metadata = {**METADATA, 'preprocess': True}
  _, image, output = tensors(metadata, {'effnet_jax.json': '{}'})
  assert output.text(0) == 'probabilities' and not output.tables(6)
  (unit,) = image.tables(4)
  options = unit.table(1)
  assert (options.floats(0), options.floats(1)) == ([0.0], [1.0])
