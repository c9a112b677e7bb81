"""The command line of everything that takes a config."""

import re
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from effnet_jax import errors

_config = config_flags.DEFINE_config_file(
  'config',
  None,
  'The config, with its argument if it takes one: configs/b0.py:baseline. Any '
  'key can be set, as in --config.batch_size=1024; configs/base.py has all.',
)


def parse(argv: Sequence[str]) -> ConfigDict:
  """Parses flags and returns the config, locked, with its keys set.

  Args:
    argv: the program's name and its flags; the modules that use others have
      defined them with absl.flags.

  Raises:
    UserError: a flag or a key that is unknown or has the wrong type, a config
      file that is missing or broken.
  """
  try:
    rest = flags.FLAGS(argv)
    config = _config.value
  except flags.Error as error:
    raise errors.UserError(_one_line(error)) from error
  except AttributeError as error:
    raise errors.UserError(f'unknown key {_key(argv, error)}') from error
  except (KeyError, OSError, TypeError, ValueError, ImportError) as error:
    raise errors.UserError(_one_line(error)) from error
  if len(rest) > 1:
    raise errors.UserError(f'{rest[1]!r} is no flag: flags begin with --')
  if config is None:
    raise errors.UserError('--config is missing, e.g. --config=configs/b0.py')
  return config


def _key(argv, error):
  """The flag whose key ml_collections could not find, and its suggestion."""
  match = re.match(r"'(\w+)'", str(error))
  name = match[1] if match else str(error)
  flag = next(
    (a for a in argv if re.match(rf'--config\.(\w+\.)*{name}\b', a)), name
  )
  near = re.search(r'Did you mean "(\w+)"', str(error))
  return flag.split('=')[0].lstrip('-') + (
    f': did you mean {near[1]}?' if near else ': see configs/base.py'
  )


def _one_line(error):
  """What a chain of libraries has to say, without their tracebacks."""
  text = str(error).strip()
  if 'No such file' in text:
    path = re.search(r"No such file or directory: '([^']*)'", text)
    return f'no config file {path[1]!r}' if path else text.splitlines()[-1]
  last = text.splitlines()[-1].strip()
  return re.sub(r'^(\w+\.)*\w*(Error|Exception): ', '', last)
