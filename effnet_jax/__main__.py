"""`python -m effnet_jax <command>`."""

import sys

from effnet_jax import cli

if __name__ == '__main__':
  sys.exit(cli.main())
