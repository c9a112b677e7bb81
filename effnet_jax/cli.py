"""`python -m effnet_jax <command>`, also `effnet <command>`: dispatch only.

A command is the function of its name in its room's commands.py. It is imported
when it is called, so that `--help` waits for nothing.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from effnet_jax import environment
from effnet_jax.errors import UserError, near_names

# command -> its module, and what it does.
COMMANDS = {
  'models': (
    'effnet_jax.models.commands',
    'list the networks: size, cost, resolution, published accuracy',
  ),
  'convert': (
    'effnet_jax.weights.commands',
    'read published weights; write them for timm or Keras',
  ),
  'predict': (
    'effnet_jax.inference.commands',
    'name what is on images',
  ),
  'evaluate': (
    'effnet_jax.evaluation.commands',
    'measure top-1 and top-5 on a labelled data set',
  ),
  'pseudo-label': (
    'effnet_jax.labelling.commands',
    'let a teacher label images for a student (Noisy Student)',
  ),
  'probe': (
    'effnet_jax.evaluation.probe.commands',
    'linear probe and neighbours on the features of a data set',
  ),
  'export': (
    'effnet_jax.weights.export.commands',
    'write a network for another runtime: StableHLO, ONNX, TensorFlow',
  ),
  'sweep': (
    'effnet_jax.sweep.commands',
    'run an ablation: variants of a config by seeds',
  ),
  'compile-check': (
    'effnet_jax.analysis.commands',
    'compile training for a TPU pod or the devices here: fits? fast?',
  ),
}

_EXAMPLES = """\
examples:
  python -m effnet_jax models b0 v2_s
  python -m effnet_jax predict photo.jpg --model lite0
  python -m effnet_jax predict --help

Training is `python train.py --config=configs/b0.py --workdir=DIR`."""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns the exit status.

  0 done; 2 wrong input, one line on stderr says which; 130 interrupted by
  Ctrl-C; 141 nobody reads the output any more, as in `| head`.
  """
  try:
    status = _run(list(sys.argv[1:] if argv is None else argv))
    sys.stdout.flush()  # here, where what goes wrong can be told
    return status
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('\ninterrupted', file=sys.stderr)
    return 130
  except BrokenPipeError:
    # Python flushes once more when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13  # as a program that SIGPIPE ends


def _run(argv: list[str]) -> int:
  command, *rest = argv or ['']
  if command in ('-h', '--help', 'help'):
    print(_help())
    return 0
  if command == '--version':
    print(f'effnet_jax {sys.modules["effnet_jax"].__version__}')
    return 0
  if command not in COMMANDS:
    what = f'unknown command {command!r}' if command else 'no command'
    near = near_names(command, COMMANDS)
    raise UserError(f'{what}: {near} (see python -m effnet_jax --help)')
  environment.keep_compiled()
  module = importlib.import_module(COMMANDS[command][0])
  try:
    return getattr(module, command.replace('-', '_'))(rest) or 0
  except SystemExit as stop:  # argparse has shown the help
    return stop.code if isinstance(stop.code, int) else 0


def _help() -> str:
  lines = [f'  {name:14}{what}' for name, (_, what) in COMMANDS.items()]
  return '\n'.join(
    [
      'usage: python -m effnet_jax <command> [...]',
      '',
      'commands (each has --help):',
      *lines,
      '',
      _EXAMPLES,
    ]
  )
