"""The parser of every command: its mistakes end in one line, as all others do.

`flags` is for what takes a config; a command has a handful of options only.
"""

import argparse
import sys
from collections.abc import Sequence

from effnet_jax.errors import UserError, near_names


class ArgumentParser(argparse.ArgumentParser):
  """argparse's, but a mistake raises `UserError` with the nearest option.

  The description and the epilog keep their lines, for examples; an option is
  not known by its first letters, for `--to` must not become `--top` in silence.

  >>> parser = ArgumentParser(prog='python -m effnet_jax models')
  """

  def __init__(self, *args, **kwargs):
    kwargs.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
    kwargs.setdefault('allow_abbrev', False)
    super().__init__(*args, **kwargs)

  def parse_args(self, args=None, namespace=None):
    # Before argparse looks: of `--modle b0` it would say that --model is
    # missing.
    self._refuse_unknown_options(sys.argv[1:] if args is None else args)
    return super().parse_args(args, namespace)

  def error(self, message: str):
    raise UserError(f'{message} (see {self.prog} --help)')

  def _refuse_unknown_options(self, args: Sequence[str]) -> None:
    known = [name for action in self._actions for name in action.option_strings]
    for arg in args:
      if arg == '--':
        return
      option = arg.partition('=')[0]
      if option.startswith('--') and option not in known:
        near = near_names(option, [n for n in known if n.startswith('--')])
        raise UserError(f'unknown option {option}: {near}')
