"""Checkpoints by Orbax: the state and everything that a resumed run needs.

A checkpoint holds two items: `state`, the arrays, and `run`, a JSON object with
the config, the data iterator's position, the metric history and the seconds
spent. It is written beside the training and appears under its final name only
when complete.
"""

import contextlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

from effnet_jax import errors
from effnet_jax.training import damage, parallel

METRIC = 'eval_top1_ema'

# Orbax warns of every checkpoint without a held-out figure; those between two
# evaluations have none.
logging.get_absl_logger().addFilter(
  lambda record: 'did not provide metrics' not in record.getMessage()
)


def open_workdir(workdir: epath.PathLike) -> epath.Path:
  """Returns a work directory's absolute path, on a disk or a bucket.

  Raises:
    UserError: a bucket cannot be reached, or the package for its kind is
      missing.
  """
  path = epath.Path(workdir).expanduser()
  if '://' not in str(path):
    path = path.absolute()
  try:
    path.exists()
  except ImportError as error:
    raise errors.UserError(
      f'{path} needs a package that is not installed ({error}): pip install '
      "'etils[epath-gcs]' google-cloud-storage"
    ) from error
  # Each kind of bucket has its own errors, with no class in common.
  except Exception as error:
    raise errors.UserError(
      f'{path} cannot be reached ({errors.first_line(error)[:200]}): for a '
      'bucket see its name, and run gcloud auth application-default login'
    ) from error
  return path


class Checkpoints:
  """The checkpoints of one run, in `workdir/checkpoints/STEP`.

  Keeps the last `keep` and the one with the best held-out top-1 (EMA weights).
  A context manager: leaving it waits for what is being written.

  Args:
    workdir: of the run.
    keep: how many of the last ones.
    writing: whether this process trains the run. Only then is what an earlier
      part of it left half written removed: a run that goes on elsewhere is
      writing just such a checkpoint.
  """

  def __init__(
    self, workdir: epath.PathLike, keep: int = 2, writing: bool = True
  ):
    self.directory = open_workdir(workdir) / 'checkpoints'
    score = lambda metrics: metrics[METRIC]
    policies = [
      checkpoint_managers.LatestN(keep),
      checkpoint_managers.BestN(
        get_metric_fn=score,
        n=1,
        keep_checkpoints_without_metrics=False,
      ),
    ]
    try:
      self._manager = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=checkpoint_managers.AnyPreservationPolicy(
            policies
          ),
          # Without it Orbax writes no metrics, whatever the policy asks for,
          # and takes the latest step for the best.
          best_fn=score,
          cleanup_tmp_directories=writing,
          async_options=ocp.AsyncOptions(
            post_finalization_callback=self._finalized
          ),
        ),
        item_handlers={
          'state': ocp.StandardCheckpointHandler(),
          'run': ocp.JsonCheckpointHandler(),
        },
      )
    except OSError as error:
      raise errors.UserError(
        f'the work directory cannot be written: {error}'
      ) from error
    except ValueError as error:  # Orbax reads all their metrics
      lines = str(error).strip().splitlines() or [type(error).__name__]
      raise errors.UserError(
        f'a checkpoint in {self.directory} could not be read '
        f'({lines[0][:200]}); remove the newest to go on from the one before'
      ) from error

  def _finalized(self) -> None:
    if parallel.process_index() == 0:
      damage.record(self.directory)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_) -> None:
    with self._writing():
      self._manager.close()

  def steps(self) -> list[int]:
    """Returns the steps of all checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """Returns the step of the newest checkpoint, None without any."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """Returns the step with the best held-out top-1 (EMA weights)."""
    return self._manager.best_step()

  def save(
    self,
    step: int,
    state: Any,
    run: dict[str, Any],
    eval_top1_ema: float | None = None,
  ) -> None:
    """Starts to save; training goes on while it is written.

    Args:
      step: names the checkpoint; one that is there already is left alone.
      state: a tree of arrays that are global (`parallel.to_global`).
      run: what can be written as JSON.
      eval_top1_ema: held-out top-1, where this step was evaluated.
    """
    if step in self._manager.all_steps():
      return
    metrics = None if eval_top1_ema is None else {METRIC: eval_top1_ema}
    with self._writing():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)
        ),
        metrics=metrics,
      )

  def wait(self) -> None:
    """Waits until everything is on disk."""
    with self._writing():
      self._manager.wait_until_finished()

  @contextlib.contextmanager
  def _writing(self):
    # A failure of the thread that writes surfaces at whatever comes next.
    try:
      yield
    except (OSError, RuntimeError, ValueError) as error:
      lines = str(error).strip().splitlines() or [type(error).__name__]
      raise errors.UserError(
        f'a checkpoint could not be written to {self.directory} '
        f'({lines[0][:200]}); the earlier ones are kept: make room there, then '
        'give the same command again'
      ) from error

  def run(self, step: int) -> dict[str, Any]:
    """Returns what was saved beside the state of a step."""
    with self._reading(step):
      restored = self._manager.restore(
        step, args=ocp.args.Composite(run=ocp.args.JsonRestore())
      )
    return restored['run']

  def state(self, step: int, abstract: Any, sharding: Any) -> Any:
    """Returns the state of a step.

    Args:
      step: of the checkpoint.
      abstract: shapes and dtypes, from `jax.eval_shape`.
      sharding: where every array goes.

    Raises:
      UserError: the checkpoint holds another tree or other shapes.
    """
    # Before Orbax finds out: it would leave threads behind, and their traces.
    with self._reading(step):
      saved = _shapes(self._manager.item_metadata(step)['state'].tree)
    wanted = _shapes(abstract)
    for name in sorted({**saved, **wanted}):
      if saved.get(name) != wanted.get(name):
        raise errors.UserError(
          f"checkpoint {step} in {self.directory} does not fit this config's "
          f'network and optimizer ({name} is {saved.get(name)} there, '
          f'{wanted.get(name)} here); use another --workdir'
        )
    target = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
      abstract,
    )
    with self._reading(step):
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(target)),
      )
    return restored['state']

  def variables(self, step: int, ema: bool = True) -> dict[str, Any]:
    """Returns the network's variables of a step, and reads nothing else.

    Args:
      step: of the checkpoint.
      ema: the averaged weights, or the raw ones.

    Returns:
      `params` and `batch_stats`, numpy arrays.
    """
    if why := damage.problem(self.directory / str(step)):
      raise errors.UserError(
        f'checkpoint {step} in {self.directory} is damaged ({why}): the same '
        'train command goes on from the one before'
      )
    prefix = 'ema_' if ema else ''
    names = {name: prefix + name for name in ('params', 'batch_stats')}
    with self._reading(step):
      saved = self._manager.item_metadata(step)['state'].tree
      wanted = {name: saved[name] for name in names.values()}
      numpy = ocp.RestoreArgs(restore_type=np.ndarray)
      restored = ocp.PyTreeCheckpointer().restore(
        self.directory / str(step) / 'state',
        args=ocp.args.PyTreeRestore(
          item=wanted,
          restore_args=jax.tree.map(lambda _: numpy, wanted),
          partial_restore=True,
        ),
      )
    return {name: restored[saved] for name, saved in names.items()}

  @contextlib.contextmanager
  def _reading(self, step):
    try:
      yield
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
      lines = str(error).strip().splitlines() or [type(error).__name__]
      raise errors.UserError(
        f'checkpoint {step} in {self.directory} could not be read '
        f'({lines[0][:200]}); remove it to go on from the one before'
      ) from error


def _shapes(tree: Any) -> dict[str, list[int]]:
  """Returns the shape of every array by its path, such as `params.w`."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): list(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
