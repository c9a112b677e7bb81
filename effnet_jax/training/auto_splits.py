"""The splits of a config that leaves them to what a folder holds."""

from ml_collections import ConfigDict

from effnet_jax.data import folder_source
from effnet_jax.errors import UserError

AUTO = 'auto'
_KEYS = ('train_split', 'eval_split', 'test_split')


def resolve(config: ConfigDict) -> tuple[ConfigDict, str]:
  """Returns the config with its splits named, and a line on how.

  The line is '' where the config names them itself.

  Raises:
    UserError: `auto` for some of the splits only, or of another source than a
      folder; a folder with neither splits nor classes.
  """
  data = config.data
  asked = [
    AUTO == s for s in (data.train_split, data.eval_split, data.test_split)
  ]
  if not any(asked):
    return config, ''
  if not all(asked) or data.source != 'folder':
    raise UserError(
      f'config.data.{_KEYS[asked.index(True)]}=auto is for a folder, and for '
      'all three splits: name train_split, eval_split and test_split, such as '
      'train[500:], train[:500] and test'
    )
  chosen = folder_source.choose_splits(data.path)
  config = config.copy_and_resolve_references()
  config.data.train_split = chosen.train
  config.data.eval_split = chosen.evaluation
  config.data.test_split = chosen.test
  return config, chosen.said
