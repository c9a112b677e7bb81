"""Data sets of the TFDS catalogue, prepared on disk as ArrayRecord.

Nothing here goes to the network: a data set that is not there is an error that
says how to prepare it. TFDS itself would retry its servers for minutes.
"""

from typing import Any

from effnet_jax.data.preprocess import DecodeError
from effnet_jax.data.splits import resolve_split
from effnet_jax.errors import UserError


class TfdsSource:
  """One split of a prepared data set; images stay encoded.

  Args:
    data: random access to decoded examples, but for the image.
    kept: the indices within the split.
    class_names: one a class.
    title: what `repr` shows.
    split: the split's name, for the names of the records.
  """

  def __init__(
    self,
    data: Any,
    kept: range,
    class_names: tuple[str, ...],
    title: str,
    split: str,
  ):
    self._data, self._kept = data, kept
    self._title, self._split = title, split
    self.class_names = class_names

  def __len__(self) -> int:
    return len(self._kept)

  def __getitem__(self, index: int) -> dict[str, Any]:
    position = self._kept[index]
    name = f'{self._title} {self._split}[{position}]'
    try:
      example = self._data[position]
    # ArrayRecord raises what its C++ gives: no common class below Exception.
    except Exception as error:
      raise DecodeError(name, f'cannot be read: {error}') from error
    label = int(example['label'])
    return {'image': example['image'], 'label': label, 'name': name}

  def __repr__(self) -> str:
    return f'tfds({self._title}, {self._split}, {len(self)} examples)'


def open_tfds(name: str, split: str, path: str = '') -> TfdsSource:
  """Opens a split of a data set that is prepared as ArrayRecord.

  Args:
    name: NAME, NAME:VERSION or NAME/CONFIG:VERSION of the catalogue.
    split: its name, with an optional slice.
    path: the TFDS data directory, '' for TFDS's own default.

  Raises:
    UserError: not prepared, prepared in another format, or without the
      features `image` and `label`.
  """
  import tensorflow_datasets as tfds

  if not name:
    raise UserError('a tfds source needs config.data.name, e.g. imagenet2012')
  builder = _find_builder(tfds, name, path)
  _check_features(tfds, builder, name)
  sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
  split_name, kept = resolve_split(split, sizes)
  data = builder.as_data_source(
    split_name, decoders={'image': tfds.decode.SkipDecoding()}
  )
  class_names = tuple(builder.info.features['label'].names)
  return TfdsSource(data, kept, class_names, builder.info.name, split_name)


def _find_builder(tfds: Any, name: str, path: str) -> Any:
  """Finds the prepared data set by its files alone."""
  where = {'data_dir': path} if path else {}
  looked = path or tfds.core.constants.DATA_DIR
  try:
    builder = tfds.core.read_only_builder.builder_from_files(name, **where)
  except tfds.core.DatasetNotFoundError:
    raise UserError(_how_to_prepare(name, looked, path)) from None
  except (ValueError, OSError, AssertionError) as error:
    line = str(error).strip().splitlines()[0]
    raise UserError(f'cannot open {name} in {looked}: {line}') from None
  array_record = tfds.core.FileFormat.ARRAY_RECORD
  formats = {builder.info.file_format, *builder.info.alternative_file_formats}
  if array_record not in formats:
    raise UserError(
      f'{name} in {looked} is prepared as {builder.info.file_format.value}, '
      'which has no random access: prepare it again as array_record, into '
      f'another directory: {_command(name, "OTHER_DIR")}, and '
      '--config.data.path=OTHER_DIR'
    )
  if builder.info.file_format is not array_record:
    return tfds.builder_from_directory(builder.data_dir, array_record)
  return builder


def _check_features(tfds: Any, builder: Any, name: str) -> None:
  features = builder.info.features
  keys = sorted(features) if hasattr(features, 'keys') else []
  if not {'image', 'label'} <= set(keys) or not isinstance(
    features['label'], tfds.features.ClassLabel
  ):
    raise UserError(
      f'{name} has the features {", ".join(keys)}; training needs image and '
      'label, a ClassLabel'
    )


def _how_to_prepare(name: str, looked: str, path: str) -> str:
  first = ''
  if name.split(':')[0].split('/')[0] == 'imagenet2012':
    first = (
      'put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into '
      f'{looked}/downloads/manual, then '
    )
  return (
    f'{name} is not prepared in {looked}: {first}run {_command(name, path)} '
    '(where TFDS asks for it, after pip install tensorflow-cpu)'
  )


def _command(name: str, path: str) -> str:
  where = f', data_dir={path!r}' if path else ''
  call = f"tfds.builder('{name}'{where}, file_format='array_record')"
  return (
    'python -c "import tensorflow_datasets as tfds; '
    f'{call}.download_and_prepare()"'
  )
