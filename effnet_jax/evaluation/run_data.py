"""The images of a training run, as its config names them."""

import numpy as np

from effnet_jax import pretrained
from effnet_jax.data import sources
from effnet_jax.errors import UserError
from effnet_jax.evaluation.label_sets import LabelSet

NAME = 'run'


def open_run_data(
  run: str, num_outputs: int, *, split: str = '', data_dir: str = ''
) -> LabelSet:
  """Opens images of the data set that a run was trained on.

  Args:
    run: its work directory.
    num_outputs: of the network.
    split: `train`, `eval` or `test` for what the run took for these; another
      one of the data set, such as `test[:1000]`. '' for `test`.
    data_dir: where the data lie now, '' for where the run found them.

  Raises:
    UserError: `run` is no training run; its data are not there, or have other
      classes.
  """
  config = pretrained.config_of_run(run)
  if config is None:
    raise UserError(
      f'--data run takes the data from the config of a training run, and {run} '
      'is none: give a folder or the name of a data set'
    )
  data = config['data']
  split = data.get(f'{split or "test"}_split') or split
  source = sources.open_source(
    data['source'], split, name=data['name'], path=data_dir or data['path']
  )
  if len(source.class_names) != num_outputs:
    raise UserError(
      f'{source!r} has {len(source.class_names)} classes, the network '
      f'{num_outputs}: are these still the images of {run}?'
    )
  title = f'{data["name"] or data["path"] or data["source"]} {split}'
  return LabelSet(title, '', source, np.ones(num_outputs, bool))
