"""TFLite's own metadata: what the input means, what the classes are called.

A table of the schema metadata_schema.fbs (TFLite Support, MediaPipe) in a
buffer of the model, and the files that it names in a ZIP archive at the file's
end. Written here by field number: the packages that do it are heavy, and
tensorflow brings flatbuffers along.
"""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

LABELS = 'labels.txt'

# Of the schema. A union takes two fields: which member, and the member.
_NAME = 'TFLITE_METADATA'
_IDENTIFIER = b'M001'
_PARSER_VERSION = '1.0.0'  # that knows every field written here
_DESCRIPTIONS, _TENSOR_AXIS_LABELS = 1, 2  # AssociatedFileType
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2  # ContentProperties
_NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions
_RGB = 1  # ColorSpaceType


def add(
  content: bytes, metadata: Mapping[str, Any], files: Mapping[str, str]
) -> bytes:
  """Returns a TFLite file with metadata and files in it.

  Args:
    content: a TFLite file of one input and one output.
    metadata: as in `job.Job`; `model`, `resolution`, `mean`, `std` (of pixels
      in 0..1) and `preprocess` count here.
    files: texts by name; `LABELS` names the classes, a line each.
  """
  # pyrefly: ignore[missing-import]
  from tensorflow.lite.python import schema_py_generated as schema

  # pyrefly: ignore[missing-import]
  from tensorflow.lite.tools import flatbuffer_utils

  model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
  buffer = schema.BufferT()
  buffer.data = list(model_metadata(metadata, files))
  entry = schema.MetadataT()
  entry.name, entry.buffer = _NAME, len(model.buffers)
  model.buffers.append(buffer)
  model.metadata = [*(model.metadata or []), entry]
  return append(flatbuffer_utils.convert_object_to_bytearray(model), files)


def append(content: bytes, files: Mapping[str, str]) -> bytes:
  """Returns the content with a ZIP archive of the files after it."""
  written = io.BytesIO(content)
  with zipfile.ZipFile(written, 'a') as archive:
    for name, text in files.items():
      archive.writestr(zipfile.ZipInfo(name), text)  # of 1980: no clock in it
  return written.getvalue()


def model_metadata(
  metadata: Mapping[str, Any], files: Mapping[str, str]
) -> bytes:
  """Returns a flatbuffer of the table ModelMetadata, arguments as `add`."""
  tables = _Tables()
  labels = [_associated_file(tables, LABELS, _TENSOR_AXIS_LABELS)]
  others = [
    _associated_file(tables, name, _DESCRIPTIONS)
    for name in files
    if name != LABELS
  ]
  subgraph = tables.table(
    {
      2: tables.vector([_input(tables, metadata)]),
      3: tables.vector(
        [_output(tables, metadata, labels if LABELS in files else [])]
      ),
    }
  )
  root = tables.table(
    {
      0: tables.text(metadata['model']),
      1: tables.text('image classifier, written by effnet_jax'),
      3: tables.vector([subgraph]),
      6: tables.vector(others),
      7: tables.text(_PARSER_VERSION),
    }
  )
  tables.builder.Finish(root, file_identifier=_IDENTIFIER)
  return bytes(tables.builder.Output())


def _associated_file(tables, name, kind):
  return tables.table({0: tables.text(name)}, bytes={2: kind})


def _input(tables, metadata):
  """TensorMetadata of the image."""
  side = metadata['resolution']
  size = tables.table(uints={0: side, 1: side})
  image = tables.table({1: size}, bytes={0: _RGB})
  content = tables.table({1: image}, bytes={0: _IMAGE_PROPERTIES})
  # Of pixels in 0..255. A network that takes pixels leaves them as they are.
  mean, std = (
    [default] if metadata['preprocess'] else [255 * v for v in metadata[name]]
    for name, default in (('mean', 0.0), ('std', 1.0))
  )
  options = tables.table({0: tables.floats(mean), 1: tables.floats(std)})
  unit = tables.table({1: options}, bytes={0: _NORMALIZATION_OPTIONS})
  return tables.table(
    {
      0: tables.text('images'),
      1: tables.text('RGB images, square'),
      3: content,
      4: tables.vector([unit]),
    }
  )


def _output(tables, metadata, labels):
  """TensorMetadata of logits or probabilities."""
  output = 'probabilities' if metadata['preprocess'] else 'logits'
  content = tables.table({1: tables.table()}, bytes={0: _FEATURE_PROPERTIES})
  return tables.table(
    {
      0: tables.text(output),
      1: tables.text(f'{output} of the classes'),
      3: content,
      6: tables.vector(labels),
    }
  )


class _Tables:
  """A flatbuffer under construction; gives and takes offsets in it."""

  def __init__(self):
    import flatbuffers

    self.builder = flatbuffers.Builder(1024)

  def text(self, text: str) -> int:
    return self.builder.CreateString(text)

  def vector(self, offsets: list[int]) -> int | None:
    """A vector of tables; None, an absent field, of none."""
    if not offsets:
      return None
    self.builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
      self.builder.PrependUOffsetTRelative(offset)
    return self.builder.EndVector()

  def floats(self, values: list[float]) -> int:
    self.builder.StartVector(4, len(values), 4)
    for value in reversed(values):
      self.builder.PrependFloat32(value)
    return self.builder.EndVector()

  def table(
    self,
    offsets: Mapping[int, int | None] | None = None,
    *,
    bytes: Mapping[int, int] | None = None,
    uints: Mapping[int, int] | None = None,
  ) -> int:
    """A table of fields by number: what lies elsewhere, and scalars."""
    offsets, bytes, uints = offsets or {}, bytes or {}, uints or {}
    self.builder.StartObject(1 + max([-1, *offsets, *bytes, *uints]))
    for field, offset in offsets.items():
      self.builder.PrependUOffsetTRelativeSlot(field, offset or 0, 0)
    for field, value in bytes.items():
      self.builder.PrependInt8Slot(field, value, 0)
    for field, value in uints.items():
      self.builder.PrependUint32Slot(field, value, 0)
    return self.builder.EndObject()
