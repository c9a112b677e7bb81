"""One input pipeline, as a worker of input_pipeline.py.

    python benchmarks/input_readers.py PIPELINE FOLDER CORES [AUGMENT]

PIPELINE is a key of PIPELINES; FOLDER holds what input_photos.py has written;
the process, and what it starts, is kept to CORES cores. All give batches of
training crops, mirrored at random, of ours and tf.data also under AUGMENT
(randaugment of two layers at magnitude 9, or autoaugment), in the type that the
framework's own recipe sends to the device: uint8, and bfloat16 from tf.data.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import input_photos
import workers

BATCH, SIZE = 256, 224
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
LAYERS, MAGNITUDE = 2, 9.0  # of randaugment


class AsLong:
  """A source over and over, as many examples as ImageNet has.

  What shuffles an epoch is slower by 70 microseconds an example where there are
  only 512.
  """

  def __init__(self, source: Any):
    self.source, self.class_names = source, source.class_names

  def __len__(self) -> int:
    return 1_281_167

  def __getitem__(self, index: int) -> Any:
    return self.source[index % len(self.source)]


def ours(
  folder: Path, cores: int, processes: bool, policy: str = ''
) -> Iterator[Any]:
  from effnet_jax.data import augment, pipeline, preprocess, sources

  source = sources.open_source(
    'tfds', 'train', name=input_photos.NAME, path=str(folder / 'tfds')
  )
  return pipeline.train_batches(
    AsLong(source),
    preprocess.Preprocess(SIZE, crop_area=AREA, crop_aspect=ASPECT),
    batch_size=BATCH,
    seed=0,
    workers=cores if processes else 0,
    augment=augment.create(policy, layers=LAYERS, magnitude=MAGNITUDE),
  )


def augmented(image: Any, policy: str) -> Any:
  """As the released input pipeline calls the ops of its autoaugment.py."""
  import tensorflow as tf
  import tf_augment_ops

  from effnet_jax.data.augment.policies import POLICY_V0

  image = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
  if policy == 'randaugment':
    return tf_augment_ops.randaugment(image, LAYERS, MAGNITUDE)
  return tf_augment_ops.autoaugment(image, POLICY_V0)


def tf_data(
  folder: Path, cores: int, processes: bool, policy: str = ''
) -> Iterator[Any]:
  """The ops of the recipe that trained the published V1 weights."""
  del processes
  import tensorflow as tf

  features = {
    'image/encoded': tf.io.FixedLenFeature([], tf.string),
    'image/class/label': tf.io.FixedLenFeature([], tf.int64),
  }

  def resized(image):
    return tf.compat.v1.image.resize_bicubic([image], [SIZE, SIZE])[0]

  def centre(data, shape):
    side = tf.cast(
      SIZE / (SIZE + 32) * tf.cast(tf.reduce_min(shape[:2]), tf.float32),
      tf.int32,
    )
    corner = (shape[:2] - side + 1) // 2
    return tf.concat([corner, [side, side]], 0)

  def example(record):
    parsed = tf.io.parse_single_example(record, features)
    data = parsed['image/encoded']
    shape = tf.io.extract_jpeg_shape(data)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
      shape,
      tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
      min_object_covered=0.1,
      aspect_ratio_range=ASPECT,
      area_range=AREA,
      max_attempts=10,
      use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], 0)
    whole = tf.reduce_all(size[:2] == shape[:2])
    window = tf.cond(whole, lambda: centre(data, shape), lambda: window)
    image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
    image = tf.image.random_flip_left_right(resized(image))
    image = augmented(image, policy) if policy else image
    return tf.cast(image, tf.bfloat16), parsed['image/class/label']

  options = tf.data.Options()
  options.deterministic = False
  options.threading.private_threadpool_size = cores
  data = tf.data.TFRecordDataset(str(folder / 'train.tfrecord'))
  data = data.repeat().shuffle(input_photos.COUNT)
  data = data.map(example, num_parallel_calls=cores)
  data = data.batch(BATCH, drop_remainder=True).prefetch(1)
  return iter(data.with_options(options))


def torch(folder: Path, cores: int, processes: bool) -> Iterator[Any]:
  """timm's transforms and collation; in this process without `processes`."""
  import timm.data
  import torch
  from timm.data.loader import fast_collate

  torch.set_num_threads(1)
  transform = timm.data.create_transform(
    SIZE,
    is_training=True,
    use_prefetcher=True,  # uint8: the prefetcher normalises on the device
    scale=AREA,
    ratio=ASPECT,
    interpolation='bicubic',
    color_jitter=None,
    auto_augment=None,
    hflip=0.5,
  )
  loader = torch.utils.data.DataLoader(
    timm.data.ImageDataset(
      str(folder / 'files' / 'train'), transform=transform
    ),
    batch_size=BATCH,
    shuffle=True,
    num_workers=cores if processes else 0,
    collate_fn=fast_collate,
    drop_last=True,
    persistent_workers=processes,
  )
  while True:
    yield from loader


# (function, worker processes).
PIPELINES = {
  'ours, threads': (ours, False),
  'ours, processes': (ours, True),
  'tf.data': (tf_data, False),
  'torch': (torch, False),
  'torch, processes': (torch, True),
}


def cpu_seconds(process: int) -> float:
  """Returns what a process and those below it have computed so far."""
  root = Path('/proc') / str(process)
  try:
    fields = (root / 'stat').read_text().rpartition(')')[2].split()
    tasks = list((root / 'task').iterdir())
    below = {
      int(child)
      for task in tasks
      for child in (task / 'children').read_text().split()
    }
  except FileNotFoundError:  # it has ended meanwhile
    return 0.0
  ticks = int(fields[11]) + int(fields[12])
  own = ticks / os.sysconf('SC_CLK_TCK')
  return own + sum(cpu_seconds(child) for child in below)


def main() -> None:
  name, folder, cores = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
  policy = sys.argv[4:]  # or none
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
  make, processes = PIPELINES[name]

  def measure(skip: int, count: int) -> dict[str, float]:
    """Starts the pipeline, drops `skip` batches and times `count`.

    What it reads ahead would otherwise be work that no clock has seen.
    """
    batches = make(folder, cores, processes, *policy)
    for _ in range(skip):
      next(batches)
    begun, used = time.perf_counter(), cpu_seconds(os.getpid())
    for _ in range(count):
      next(batches)
    seconds = time.perf_counter() - begun
    used = cpu_seconds(os.getpid()) - used
    if hasattr(batches, 'close'):
      batches.close()
    images = count * BATCH
    return {'per_second': images / seconds, 'per_core_second': images / used}

  workers.serve({'measure': measure})


if __name__ == '__main__':
  main()
