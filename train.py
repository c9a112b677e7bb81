"""Trains an EfficientNet.

    python train.py --config=configs/b0.py --workdir=DIR [--config.key=value]

The same command again goes on from the last checkpoint in DIR. Exit status: 0
finished; 2 wrong input, one line says which; 130 or 143 interrupted by SIGINT
or SIGTERM, and saved.

On a CPU under Linux it starts itself again with huge pages for malloc: steps
take a half to two thirds of the time. EFFNET_JAX_TUNE=0 in the environment
leaves that out, JAX_ENABLE_COMPILATION_CACHE=0 the cache of compiled steps.
"""

import sys

from absl import flags, logging

from effnet_jax import environment, errors
from effnet_jax.flags import parse

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where checkpoints, metrics, summary and curves go.'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Join the other processes of a cluster (TPU pod, SLURM, Open MPI). Where the '
  'environment does not name them, give the three flags below.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of process 0, the same in every process.'
)
_PROCESS_COUNT = flags.DEFINE_integer(
  'process_count', None, 'Processes in all.'
)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Of this one, from 0.')
_JOIN_TIMEOUT = flags.DEFINE_integer(
  'join_timeout', 300, 'Seconds that all processes have to come.'
)


def main(argv: list[str], tune: bool = False) -> int:
  # Intentionally short: what can be imported and tested is in effnet_jax.
  if {'-h', '--help', '-help'} & set(argv):
    print(__doc__, flags.FLAGS.module_help('effnet_jax.flags'))
    print(flags.FLAGS.main_module_help())
    return 0
  parallel = None
  try:
    config = parse(argv)
    if not _WORKDIR.value:
      raise errors.UserError('--workdir is missing, e.g. --workdir=runs/b0')
    logging.set_verbosity(logging.WARNING)
    several = _DISTRIBUTED.value or _COORDINATOR.value or _PROCESS_COUNT.value
    if tune and not several:  # whoever launches many sets their environment
      environment.tune_malloc()
    environment.keep_compiled()

    # Here, for it takes seconds to import and --help should not.
    from effnet_jax.training import loop, parallel

    if several:
      parallel.initialize(
        _COORDINATOR.value,
        _PROCESS_COUNT.value,
        _PROCESS_ID.value,
        _JOIN_TIMEOUT.value,
      )
    try:
      loop.train_and_evaluate(config, _WORKDIR.value)
    except loop.Interrupted as interrupted:
      print(interrupted, flush=True)
      return 128 + interrupted.signal
  except errors.UserError as error:
    print(f'error: {error}', file=sys.stderr, flush=True)
    if parallel:
      parallel.leave(2)
    return 2
  except Exception:
    if parallel:
      parallel.leave(1)
    raise
  except KeyboardInterrupt:
    print('\ninterrupted; the last checkpoint stands', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv, tune=True))
