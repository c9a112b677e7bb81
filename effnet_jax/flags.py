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
    # A file that could not be read is told of when the config is touched.
    getattr(config, 'seed', None)
  except flags.Error as error:
    raise errors.UserError(_one_line(error)) from error
  except (
    AttributeError,
    KeyError,
    ImportError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
  ) as error:
    what = _unknown_key(argv, error) or _broken_file(argv, error)
    raise errors.UserError(what) from error
  if len(rest) > 1:
    raise errors.UserError(f'{rest[1]!r} is no flag: flags begin with --')
  if config is None:
    raise errors.UserError('--config is missing, e.g. --config=configs/b0.py')
  return config


def _unknown_key(argv, error):
  """The flag whose key ml_collections could not find; None if that's not it."""
  name = re.search(r'\w+', str(error))
  flag = name and next(
    (a for a in argv if re.match(rf'--?config\.(\w+\.)*{name[0]}\b', a)), None
  )
  if not flag or not isinstance(error, AttributeError | KeyError):
    return None
  near = re.search(r'Did you mean "(\w+)"', str(error))
  return f'unknown key {flag.split("=")[0].lstrip("-")}: ' + (
    f'did you mean {near[1]}?' if near else 'see configs/base.py'
  )


def _broken_file(argv, error):
  """What is wrong with the config file."""
  # Both --config=PATH and --config PATH.
  match = re.search('\0--?config[=\0]([^\0]*)', '\0'.join(argv))
  path = match[1] if match else ''
  if isinstance(error, OSError) and 'No such file' in str(error):
    return f'no config file {path!r}'
  return f'--config={path}: {_one_line(error)}'


def _one_line(error):
  """What a chain of libraries has to say, without their tracebacks."""
  last = str(error).strip().splitlines()[-1].strip()
  return re.sub(r'^(\w+\.)*\w*(Error|Exception): ', '', last)
