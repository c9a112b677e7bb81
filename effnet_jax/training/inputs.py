"""The data of a run: what its config names, opened, and the batches of it."""

import functools
from typing import Any

from ml_collections import ConfigDict

from effnet_jax import errors, pretrained
from effnet_jax.data import (
  augment,
  fingerprint,
  paired,
  pipeline,
  preprocess,
  pseudo_labels,
  sources,
)
from effnet_jax.training import auto_splits, parallel, stages


class Data:
  """The sources that a config names, and the batches they give.

  Attributes:
    config: as given, with the splits and the sizes of the data set filled in.
    said: a line on splits that were chosen, '' where the config names them.
  """

  def __init__(self, config: ConfigDict):
    config, self.said = auto_splits.resolve(config)
    if (
      config.evaluation.report == 'best'
      and config.data.eval_split == config.data.test_split
    ):
      raise errors.UserError(
        'config.evaluation.report=best would choose the checkpoint on the '
        f'split that is reported, {config.data.test_split!r}: set another '
        'config.data.eval_split, or report=last'
      )
    open_split = functools.cache(
      lambda split: sources.open_source(
        config.data.source,
        split,
        name=config.data.name,
        path=config.data.path,
      )
    )
    self._sources = {
      'train': open_split(config.data.train_split),
      'eval': open_split(config.data.eval_split),
      'test': open_split(config.data.test_split),
    }
    self.config = self._with_sizes(config)
    self._unlabelled = self._open_unlabelled()
    # What is wrong with them is said before anything runs.
    self._arguments(), self._augment()

  def class_names(self) -> list[str]:
    """Returns the names of the classes, in the order of the outputs."""
    return list(self._sources['train'].class_names)

  def fingerprints(self) -> dict[str, str]:
    """Returns a digest of each split, the same wherever its files lie."""
    opened = {**self._sources, 'unlabelled': self._unlabelled}
    return {
      name: fingerprint.fingerprint(source)
      for name, source in opened.items()
      if source is not None
    }

  def _open_unlabelled(self):
    path = self.config.data.unlabelled
    if bool(path) != (self.config.objective.name == 'noisy_student'):
      raise errors.UserError(
        f'config.data.unlabelled={path!r} and config.objective.name='
        f'{self.config.objective.name!r}: noisy_student, and it alone, trains '
        'on the directory of a pseudo-label command'
      )
    return (
      pseudo_labels.open_pseudo_labelled(path, self.class_names())
      if path
      else None
    )

  def _with_sizes(self, config):
    config = config.copy_and_resolve_references()
    train = self._sources['train']
    for key, counted in (
      ('num_classes', len(train.class_names)),
      ('train_examples', len(train)),
    ):
      said = config.data[key]
      if said is not None and said != counted:
        raise errors.UserError(
          f'config.data.{key}={said}, but {train!r} has {counted}'
        )
      config.data[key] = counted
    return config

  def _arguments(self, stage=None):
    data, model = self.config.data, pretrained.spec_of_run(self.config)
    return {
      'preprocess': preprocess.Preprocess(
        size=stage.resolution if stage else model.resolution,
        resampling=model.resampling,
        crop_area=tuple(data.crop_area) or None,
        crop_aspect=data.crop_aspect,
        min_covered=data.min_covered,
        shift=data.shift,
        flip=data.flip,
        crop_padding=model.crop_padding,
        exif_orientation=data.exif_orientation,
      ),
      'process_index': parallel.process_index(),
      'process_count': parallel.process_count(),
      'workers': data.workers,
      'max_bad_fraction': data.max_bad_fraction,
    }

  def _augment(self, magnitude=None):
    data = self.config.data
    return augment.create(
      data.augment,
      layers=data.augment_layers,
      magnitude=data.augment_magnitude if magnitude is None else magnitude,
      increasing=data.augment_increasing,
      erasing=data.erasing,
      erasing_mode=data.erasing_mode,
      cutout=data.cutout,
    )

  def train_batches(
    self, start: dict[str, Any] | None, stage: stages.Stage
  ) -> pipeline.TrainIterator | paired.PairedIterator:
    """Returns this process's endless batches of a stage, from `start` on."""
    return paired.train_batches(
      self._sources['train'],
      self._unlabelled,
      ratio=self.config.data.unlabelled_ratio,
      batch_size=self.config.batch_size // parallel.process_count(),
      seed=self.config.seed,
      start=start,
      augment=self._augment(stage.magnitude),
      **self._arguments(stage),
    )

  def eval_batches(self, split: str) -> pipeline.EvalBatches:
    """Returns this process's batches of `eval` or `test`."""
    batch_size = self.config.evaluation.batch_size
    return pipeline.eval_batches(
      self._sources[split],
      batch_size=batch_size // parallel.process_count(),
      **self._arguments(),
    )
