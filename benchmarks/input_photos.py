"""Real photos as three data sets of the same bytes, for input_pipeline.py.

    python benchmarks/input_photos.py FOLDER

Crops of foolbox's, scikit-image's and scikit-learn's photos, resized to 500 x
375, each a JPEG (4:2:0) of the quality that gives the size that ImageNet's
have in the mean. FOLDER/files/train/CLASS/*.jpg, FOLDER/tfds (ArrayRecord) and
FOLDER/train.tfrecord hold the same examples.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NAME = 'photos'  # of the TFDS data set
COUNT, WIDTH, HEIGHT, BYTES = 512, 500, 375, 96_000
CLASSES = ['even', 'odd']
_TOLERANCE = 0.05  # of BYTES; smooth crops, that no quality brings there, go
_SHARE = (0.6, 1.0)  # of the largest crop's sides


def sources() -> list[Image.Image]:
  """Returns the photos that the packages hold, uncropped."""
  import foolbox
  import skimage
  import sklearn.datasets

  data = Path(skimage.__file__).parent / 'data'
  names = (
    'astronaut.png',
    'chelsea.png',
    'coffee.png',
    'hubble_deep_field.jpg',
    'motorcycle_left.png',
    'retina.jpg',
    'rocket.jpg',
  )
  files = [
    *sorted(
      (Path(foolbox.__file__).parent / 'data').glob('imagenet_[0-9]*.jpg')
    ),
    *(data / name for name in names if (data / name).exists()),
    *sorted((Path(sklearn.datasets.__file__).parent / 'images').glob('*.jpg')),
  ]
  return [Image.open(file).convert('RGB') for file in files]


def jpegs(count: int = COUNT) -> list[bytes]:
  """Returns `count` different photos, encoded; the same in every call."""
  photos, rng, found = sources(), np.random.default_rng(0), []
  for number in range(100 * count):
    photo = photos[number % len(photos)]
    unit = min(photo.width / WIDTH, photo.height / HEIGHT)
    unit *= rng.uniform(*_SHARE)
    width, height = unit * WIDTH, unit * HEIGHT
    left = rng.uniform(0, photo.width - width)
    top = rng.uniform(0, photo.height - height)
    crop = photo.resize(
      (WIDTH, HEIGHT),
      Image.Resampling.LANCZOS,
      box=(left, top, left + width, top + height),
    )
    encoded = _encode(crop)
    if abs(len(encoded) - BYTES) <= _TOLERANCE * BYTES:
      found.append(encoded)
    if len(found) == count:
      return found
  raise RuntimeError(f'only {len(found)} crops of about {BYTES} bytes')


def _encode(image):
  """The JPEG nearest to BYTES, found by halving the range of qualities."""
  low, high, encoded = 30, 100, []
  while high - low > 1:
    quality = (low + high) // 2
    stream = io.BytesIO()
    image.save(stream, 'JPEG', quality=quality, subsampling='4:2:0')
    encoded.append(stream.getvalue())
    low, high = (quality, high) if len(encoded[-1]) < BYTES else (low, quality)
  return min(encoded, key=lambda data: abs(len(data) - BYTES))


def write(folder: Path) -> None:
  """Writes all three forms."""
  images = jpegs()
  for number, data in enumerate(images):
    path = folder / 'files' / 'train' / CLASSES[number % 2]
    path.mkdir(parents=True, exist_ok=True)
    (path / f'{number:04}.jpg').write_bytes(data)
  _write_array_record(folder / 'tfds', images)
  _write_tfrecord(folder / 'train.tfrecord', images)


def _write_array_record(folder, images):
  import tensorflow_datasets as tfds

  examples = (
    (number, {'image': io.BytesIO(data), 'label': number % 2})
    for number, data in enumerate(images)
  )
  features = {
    'image': tfds.features.Image(shape=(None, None, 3)),
    'label': tfds.features.ClassLabel(names=CLASSES),
  }
  tfds.dataset_builders.store_as_tfds_dataset(
    NAME,
    '1.0.0',
    features=tfds.features.FeaturesDict(features),
    split_datasets={'train': examples},
    data_dir=folder,
    file_format='array_record',
  )


def _write_tfrecord(path, images):
  import tensorflow as tf

  feature = lambda **kind: tf.train.Feature(**kind)
  with tf.io.TFRecordWriter(str(path)) as writer:
    for number, data in enumerate(images):
      features = {
        'image/encoded': feature(bytes_list=tf.train.BytesList(value=[data])),
        'image/class/label': feature(
          int64_list=tf.train.Int64List(value=[number % 2])
        ),
      }
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())


if __name__ == '__main__':
  write(Path(sys.argv[1]))
