"""Finds data sets that TFDS has prepared, and says how to prepare others.

Nothing here goes to the network: TFDS itself would retry its servers for
minutes.
"""

from typing import Any

from effnet_jax.errors import UserError, first_line

_VALIDATION = 'ILSVRC2012_img_val.tar'
# What must be downloaded by hand: ImageNet wants its terms accepted.
_MANUAL = {
  'imagenet2012': f'ILSVRC2012_img_train.tar (to train) and {_VALIDATION}',
  'imagenet2012_real': _VALIDATION,
}


def find_builder(name: str, path: str, option: str) -> Any:
  """Finds a data set that is prepared as ArrayRecord, by its files alone.

  Args:
    name: NAME, NAME:VERSION or NAME/CONFIG:VERSION of the catalogue.
    path: the TFDS data directory, '' for TFDS's own default.
    option: by which the user names the directory, as an error would say it.

  Returns:
    TFDS's builder, for `info` and `as_data_source`.

  Raises:
    UserError: not prepared, or prepared in another format.
  """
  import tensorflow_datasets as tfds

  where = {'data_dir': path} if path else {}
  looked = path or tfds.core.constants.DATA_DIR
  try:
    builder = tfds.core.read_only_builder.builder_from_files(name, **where)
  except tfds.core.DatasetNotFoundError:
    raise UserError(_how_to_prepare(name, looked, path)) from None
  except (ValueError, OSError, AssertionError) as error:
    why = first_line(error)
    raise UserError(f'cannot open {name} in {looked}: {why}') from None
  array_record = tfds.core.FileFormat.ARRAY_RECORD
  formats = {builder.info.file_format, *builder.info.alternative_file_formats}
  if array_record not in formats:
    raise UserError(
      f'{name} in {looked} is prepared as {builder.info.file_format.value}, '
      'which has no random access: prepare it again as array_record, into '
      f'another directory: {_command(name, "OTHER_DIR")}, and '
      f'{option}=OTHER_DIR'
    )
  if builder.info.file_format is not array_record:
    return tfds.builder_from_directory(builder.data_dir, array_record)
  return builder


def _how_to_prepare(name: str, looked: str, path: str) -> str:
  manual = _MANUAL.get(name.split(':')[0].split('/')[0])
  first = (
    f'put {manual} into {looked}/downloads/manual, then ' if manual else ''
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
