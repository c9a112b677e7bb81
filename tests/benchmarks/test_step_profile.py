"""Where the time of a step goes."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import step_profile

_BLOCK = 'jit(f)/jvp(EfficientNet)/blocks_1'


@pytest.mark.parametrize(
  'op_name, kind',
  [
    (f'{_BLOCK}/depthwise_conv/conv_general_dilated', 'depthwise'),
    (f'{_BLOCK}/depthwise_conv/mul', 'depthwise'),
    (f'{_BLOCK}/depthwise_conv/depthwise_bn/mul', 'elementwise'),
    (f'{_BLOCK}/expand_conv/expand_bn/dot_general', 'convolution'),
    (f'{_BLOCK}/expand_bn/reduce_sum', 'batch_norm_reduction'),
    (f'{_BLOCK}/se/reduce/dot_general', 'squeeze_excite'),
    (f'{_BLOCK}/jit(silu)/mul', 'silu'),
    (f'{_BLOCK}/add', 'elementwise'),
    (
      'jit(f)/transpose(jvp(EfficientNet))/stem_conv/dot_general',
      'convolution',
    ),
    ('jit(f)/jvp()/reduce_sum', 'loss'),
    ('jit(f)/sqrt', 'optimizer'),
    ('reduce_sum', 'other'),
  ],
)
def test_the_module_tells_the_kind(op_name, kind):
  assert step_profile.kind_of_name(op_name) == kind


_PROGRAM = """\
HloModule jit_f, is_scheduled=true

%inner (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %m = f32[8]{0} multiply(%p, %p), metadata={op_name="jit(f)/x_bn/reduce"}
}

%fused (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %i = f32[8]{0} fusion(%p.1), kind=kLoop, calls=%inner
}

ENTRY %main (a: f32[8]) -> (f32[8]) {
  %a = f32[8]{0} parameter(0)
  %f.1 = f32[8]{0} fusion(%a), calls=%fused, metadata={op_name="jit(f)/sqrt"}
  %w = (s32[], /*index=1*/f32[8]{0}) while(%a), condition=%c, body=%b
  ROOT %copy.1 = f32[8]{0} copy(%f.1)
}
"""


def test_a_fusion_is_what_is_most_of_it():
  kinds = step_profile.kinds(_PROGRAM)
  # By what it calls, two levels down, before what it says itself.
  assert kinds['f.1'] == 'batch_norm_reduction'
  assert kinds['copy.1'] == 'other'
  assert kinds['w'] is None


def test_a_report_adds_up():
  found = [
    step_profile.Kernel('w', 9e6),  # contains the others
    step_profile.Kernel('f.1', 6e6),
    step_profile.Kernel('copy.1', 2e6),
  ]
  report = step_profile.report(found, _PROGRAM, steps=2, top=1)
  assert report['milliseconds'] == 4.0
  assert report['share']['batch_norm_reduction'] == 0.75
  assert report['share']['other'] == 0.25
  (longest,) = report['longest']
  assert longest == {
    'name': 'f.1',
    'kind': 'batch_norm_reduction',
    'milliseconds': 3.0,
  }


# jaxlib's binding makes a type without a module, of which Python 3.12 warns; as
# an error inside C++ the warning would end the process.
@pytest.mark.filterwarnings('ignore:builtin type .* has no __module__')
def test_a_trace_names_instructions_of_the_program(tmp_path):
  with jax.default_device(jax.devices()[0]):
    compiled = jax.jit(lambda x: (x @ x).sum()).lower(jnp.ones((64, 64)))
    compiled = compiled.compile()
    x = jax.block_until_ready(jnp.ones((64, 64)))
    with jax.profiler.trace(str(tmp_path)):
      jax.block_until_ready(compiled(x))
  found = step_profile.kernels(tmp_path)
  known = step_profile.kinds(compiled.as_text())
  assert {kernel.name for kernel in found} & known.keys()
