"""Every key that a config has, with its unit and its reason.

The values are those of the published V1 training (Tan and Le 2019, and the
authors' TPU code); what depends on the data set or the variant is filled in by
the other configs. A duration is a number and its unit: `350 epochs`,
`1000 steps`, `5e6 examples`. A key that is None takes the value named beside
it. Set any key on the command line: `--config.batch_size=1024`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
  config = ConfigDict()

  config.seed = 0  # of initial weights, data order, augmentation and dropout
  config.duration = '350 epochs'
  config.batch_size = 4096  # images a step, over all devices and processes
  # Parts that each device's share of the batch is worked through in: memory
  # falls, batch norm sees smaller batches, the learning rate stays.
  config.accumulate = 1
  # What the backward pass computes again instead of keeping it in memory: none,
  # every block, or every stage as a whole. Same numbers, about a third more
  # arithmetic; `python -m effnet_jax compile-check` shows what it saves.
  config.remat = 'none'
  # Weights to begin with: what `effnet_jax.create_model(pretrained=...)` takes,
  # a file, a directory or a name. '': fresh ones. init_head is `same` (its size
  # must be the data set's), `new` (drawn as in a fresh network: of few classes
  # with large logits, hence large first gradients) or `zero`, a new one at 0.
  config.init_from = ''
  config.init_head = 'same'
  # Decay of the moving average of weights and batch statistics, reached as
  # (1 + n) / (10 + n); evaluation is on the average (and on the raw weights).
  config.ema = 0.9999

  # Parameters that stay as they began, by a pattern on their paths such as
  # 'stem|blocks_[0-3]', see training/groups.py. '': none. Their batch norms'
  # statistics still move: model.frozen_bn.
  config.freeze = ''
  # Evaluations on eval_split without a better top-1 (EMA) before training
  # ends; needs evaluation.report=best. 0: to the end of `duration`.
  config.early_stop = 0

  config.model = model = ConfigDict()
  model.name = 'b0'  # python -c 'import effnet_jax; effnet_jax.list_models()'
  # Of convolutions and activations: float32 or bfloat16. Parameters, batch
  # statistics, logits and loss are float32 either way.
  model.dtype = 'float32'
  model.depthwise = 'auto'  # or grouped, shifted; same numbers, other speed
  # Devices whose images share batch norm statistics: local (each its own),
  # global, a number n (groups of n), tpu (the published V1 runs': local up to 8
  # devices, then groups of max(8, devices // 8)) or tpu_v2 (the V2 runs':
  # groups of 8, of all where there are fewer).
  model.bn_groups = 'local'
  # True: the batch norms of the whole network run on their moving statistics
  # in training too, and keep them: for few images, or batches of few.
  model.frozen_bn = False

  # Fields of ModelSpec that replace the variant's own: what ablations turn.
  # None: the variant's.
  model.overrides = overrides = ConfigDict()
  overrides.stages = placeholder(str)  # 'r1_k3_s1_e1_o16_se r2_k3_s2_...'
  overrides.width = placeholder(float)  # times the channels
  overrides.depth = placeholder(float)  # times the layers a stage
  overrides.resolution = placeholder(int)  # pixels a side, train and test
  overrides.train_resolution = placeholder(int)  # where it is another
  overrides.dropout_rate = placeholder(float)  # before the classifier
  overrides.survival_probability = placeholder(float)  # of the last block
  overrides.se_ratio = placeholder(float)  # of a block's input; 0: no gates
  overrides.activation = placeholder(str)  # silu, relu, relu6
  overrides.stem_filters = placeholder(int)  # before `width`
  overrides.stem_stride = placeholder(int)  # 1 for small images
  overrides.head_filters = placeholder(int)  # before `width`
  overrides.depth_divisor = placeholder(int)  # channels are multiples of it
  overrides.min_filters = placeholder(int)  # before rounding
  overrides.ninety_percent = placeholder(bool)  # V1's rounding rule
  overrides.fix_head_stem = placeholder(bool)  # unscaled, as in Lite
  overrides.padding = placeholder(str)  # same (TensorFlow's) or symmetric
  # Of Fused-MBConv: in its expand or in its project convolution.
  overrides.stride_in = placeholder(str)
  overrides.bn_momentum = placeholder(float)  # share of the old value
  overrides.bn_epsilon = placeholder(float)
  overrides.mean = placeholder(tuple)  # of pixels in 0..1, three channels
  overrides.std = placeholder(tuple)

  config.data = data = ConfigDict()
  data.source = 'tfds'  # tfds, folder, fashion_mnist, digits
  data.name = ''  # of the TFDS data set
  data.path = ''  # where it lies; '': the source's usual place
  # All three `auto`: chosen by what a folder holds (data/folder_source.py).
  data.train_split = 'train'
  # Evaluated while training; chooses the best checkpoint (evaluation.report).
  data.eval_split = 'test'
  data.test_split = 'test'  # reported once, at the end
  # Known sizes, so that a step can be built without the data; None: counted.
  data.num_classes = placeholder(int)
  data.train_examples = placeholder(int)
  # Random crop: share of the image's area, width / height, share of the whole
  # image it must cover (V1 has .1, so areas below 10 % never occur). () for
  # crop_area: no random crop.
  data.crop_area = ()
  data.crop_aspect = (3 / 4, 4 / 3)
  data.min_covered = 0.1
  # Pixels that the resized image is moved by at random, each way.
  data.shift = 0
  data.flip = True  # left and right, half of the images
  # After crop and flip: '' (nothing), autoaugment (policy v0), randaugment or
  # trivialaugment. Of randaugment: operations an image, and their level, 10 and
  # beyond where published.
  data.augment = ''
  data.augment_layers = 2
  data.augment_magnitude = 10.0
  # Levels that grow stronger throughout; as published posterize and solarize
  # grow weaker.
  data.augment_increasing = False
  data.erasing = 0.0  # probability of random erasing
  data.erasing_mode = 'pixel'  # noise, or const: grey of 128
  data.cutout = 0.0  # side of a square of noise, as a share of the image's
  # tf1, tf_bilinear (the published recipes) or pillow, pillow_bilinear (what
  # timm's weights expect), see data/resample.py. None: the variant's.
  data.resampling = placeholder(str)
  # Evaluation crops the centre, size / (size + crop_padding) of the shorter
  # side; -1 squashes the whole image. None: the variant's (V1: 32).
  data.crop_padding = placeholder(int)
  data.exif_orientation = False  # the published pipelines ignore it
  data.workers = 0  # that decode, of each process; 0: its own threads
  # Share of the images that may be undecodable (replaced, counted, named in
  # the log) before the run stops.
  data.max_bad_fraction = 0.0

  # Of noisy_student: what `python -m effnet_jax pseudo-label --out=DIR` wrote,
  # and how many of its images a step sees for each of batch_size. Epochs and
  # the learning rate count labelled images alone.
  data.unlabelled = ''
  data.unlabelled_ratio = 1

  config.objective = objective = ConfigDict()
  # supervised, or noisy_student (labelled and pseudo-labelled images together).
  objective.name = 'supervised'  # or noisy_student, advprop
  objective.label_smoothing = 0.1
  # Alphas of the Beta distributions that weights of mixed images are drawn
  # from; 0: none. Both on: half of the batch each (V2-L: .5 and .5).
  objective.mixup = 0.0
  objective.cutmix = 0.0
  # Of advprop: how far its attack changes a pixel, in how many steps of what
  # size; of 0..255.
  objective.attack_epsilon = 4.0
  objective.attack_steps = 5
  objective.attack_step_size = 1.0

  # Progressive learning (V2, section 4): the run in equal parts, each with its
  # own image size and regularisation; the values above and of the variant are
  # those of the last. 1: no stages (V2: 4).
  config.stages = stages = ConfigDict()
  stages.count = 1
  # released (the authors' code: the first stage is one step above the least
  # size, dropout stays) or paper (Table 6: it has the least size and dropout).
  stages.ladder = 'released'
  stages.min_resolution = 128  # pixels a side
  stages.min_magnitude = 5.0  # of RandAugment; mixup and cutmix begin with 0
  stages.min_dropout = 0.1  # of the paper's ladder

  config.optimizer = optimizer = ConfigDict()
  optimizer.name = 'rmsprop'  # as TensorFlow 1 has it; or sgd, lars
  optimizer.momentum = 0.9
  optimizer.rms_decay = 0.9
  optimizer.epsilon = 1e-3  # inside the root
  optimizer.weight_decay = 1e-5  # L2 in the loss, not decoupled
  # not_batch_norm (V1: biases too) or kernels (V2). With lars also which have a
  # trust ratio (published: kernels).
  optimizer.decay_mask = 'not_batch_norm'
  optimizer.clip_norm = placeholder(float)  # of the gradient; None: no limit
  optimizer.trust_coefficient = 1e-3  # of lars
  # Factors on the learning rate by patterns on parameter paths, the first that
  # matches: 'classifier=10 blocks_[0-5]=0.1', see training/groups.py.
  optimizer.group_rates = ''

  config.schedule = schedule = ConfigDict()
  schedule.learning_rate = 0.016  # for 256 images a step, scaled to batch_size
  schedule.warmup = '5 epochs'  # linear, from 0
  # exponential (a staircase), cosine or constant, which count from step 0, or
  # polynomial (published with lars), which counts from the end of warm-up.
  schedule.decay = 'exponential'
  schedule.decay_factor = 0.97
  schedule.decay_every = '2.4 epochs'
  schedule.final_fraction = 0.0  # of the peak, where the cosine ends
  schedule.power = 2.0  # of the polynomial
  # Where the polynomial ends; as it is, not scaled to batch_size. .1 as in the
  # authors' code suits peaks above 10 (batch 32,768 and more).
  schedule.end_rate = 0.1

  config.evaluation = evaluation = ConfigDict()
  evaluation.every = '1 epoch'
  evaluation.batch_size = 1024  # over all devices; the last is padded
  # What the test split is evaluated on at the end: the `last` weights, or the
  # checkpoint that was `best` on eval_split (EMA top-1), which must then be
  # another split than test_split.
  evaluation.report = 'last'

  config.checkpoint = checkpoint = ConfigDict()
  checkpoint.every = '1 epoch'
  checkpoint.keep = 2  # the last ones; the best of the saved is kept besides

  config.log = log = ConfigDict()
  log.every = '100 steps'

  return config.lock()
