"""Bytes read from the text of compiled programs."""

import textwrap

import pytest

from effnet_jax.analysis import hlo


def _text(*lines):
  body = textwrap.indent('\n'.join(lines), '  ')
  return (
    'HloModule step\n\n'
    '%sum (a: f32[], b: f32[]) -> f32[] {\n'
    '  %a = f32[] parameter(0)\n'
    '  ROOT %c = f32[] add(%a, %a)\n'
    '}\n\n'
    '%body (p: (s32[], f32[10])) -> (s32[], f32[10]) {\n'
    '  %q = f32[10]{0} parameter(0)\n'
    '  ROOT %r = f32[10]{0} negate(%q)\n'
    '}\n\n'
    f'ENTRY %main (x: f32[4]) -> f32[4] {{\n{body}\n}}\n'
  )


@pytest.mark.parametrize(
  ('line', 'size'),
  [
    ('%r = f32[8,4]{1,0} all-reduce(%x), to_apply=%sum', 128),
    ('%r = (bf16[8]{0}, f32[2]{0}) all-reduce(%x, %y), to_apply=%sum', 24),
    ('%r = f32[] all-reduce(%x), to_apply=%sum', 4),
    ('%r = f32[16]{0:T(256)} all-reduce-start(%x), to_apply=%sum', 64),
    ('%d = f32[16]{0} all-reduce-done(%r)', 0),
    ('%r = u8[3,5]{1,0} all-gather(%x), dimensions={0}', 15),
    ('%r = f32[8]{0} fusion(%x), calls=%all-reduce.1', 0),
    ('%r = f32[8]{0} add(%x, %x), metadata={op_name="a = all-reduce(b)"}', 0),
  ],
)
def test_collectives(line, size):
  assert hlo.collective_bytes(_text(line)) == size


@pytest.mark.parametrize(
  ('lines', 'size'),
  [
    # An operand and a result in memory.
    (('%x = f32[4]{0} parameter(0)', '%r = f32[4]{0} negate(%x)'), 32),
    # S(1) is on the chip.
    (
      (
        '%x = bf16[4]{0:T(8,128)(2,1)} parameter(0)',
        '%y = bf16[4]{0:T(8,128)(2,1)S(1)} negate(%x)',
        '%z = bf16[4]{0:T(8,128)(2,1)} negate(%y)',
      ),
      16,
    ),
    # Ahead of its use, to the chip: read once.
    (
      (
        '%x = f32[6]{0} parameter(0)',
        '%s = (f32[6]{0:S(1)}, f32[6]{0}, u32[]{:S(2)}) copy-start(%x)',
        '%d = f32[6]{0:S(1)} copy-done(%s)',
      ),
      24,
    ),
    (
      (
        '%x = f32[6]{0} parameter(0)',
        '%s = ((f32[6]{0}), f32[2]{0:S(1)}, s32[]) slice-start(%x)',
        '%d = f32[2]{0:S(1)} slice-done(%s)',
      ),
      8,
    ),
    # A tuple's parts count where they are used, the tuple never.
    (
      (
        '%x = (f32[4]{0}, f32[2]{0:S(1)}) parameter(0)',
        '%a = f32[4]{0} get-tuple-element(%x), index=0',
        '%b = f32[2]{0:S(1)} get-tuple-element(%x), index=1',
        'ROOT %r = f32[4]{0} fusion(%a, %b), kind=kLoop, calls=%sum',
      ),
      32,
    ),
    # A library reads its operands and writes its results; not its workspace.
    (
      (
        '%x = f32[4]{0} parameter(0)',
        '%k = f32[2]{0} parameter(1)',
        '%r = (f32[3]{0}, u8[1000]{0}) custom-call(%x, %k), '
        'custom_call_target="__cudnn$convForward"',
        '%a = f32[3]{0} get-tuple-element(%r), index=0',
      ),
      36,
    ),
    (
      (
        '%x = bf16[4]{0} parameter(0)',
        '%r = bf16[6]{0} custom-call(%x), custom_call_target="__cublas$gemm"',
      ),
      20,
    ),
    # Its result may itself be bytes.
    (
      (
        '%r = (s8[2,3]{1,0}, u8[7]{0}) custom-call(), '
        'custom_call_target="__cudnn$convBiasActivationForward"',
      ),
      6,
    ),
    # A kernel of somebody's, on what is on the chip and what is not.
    (
      (
        '%x = f32[4]{0} parameter(0)',
        '%y = f32[8]{0:S(1)} negate(%x)',
        '%r = f32[2]{0} custom-call(%x, %y), '
        'custom_call_target="tpu_custom_call"',
      ),
      40,
    ),
    # A TPU's room, and its parts of an array as a whole.
    (
      ('%b = f32[9]{0} custom-call(), custom_call_target="AllocateBuffer"',),
      0,
    ),
    (
      (
        '%x = f32[4]{0} parameter(0)',
        '%r = f32[8]{0} custom-call(%x, %x), '
        'custom_call_target="ConcatBitcast", backend_config={}',
      ),
      0,
    ),
    # What is called counts where it is called.
    (('%c = f32[10]{0} call(%x), to_apply=%body',), 80),
    # A loop's body as often as it runs.
    (
      (
        '%w = (s32[], f32[10]{0}) while(%x), condition=%c, body=%body, '
        'backend_config={"known_trip_count":{"n":"3"}}',
      ),
      240,
    ),
  ],
)
def test_what_crosses_to_memory(lines, size):
  assert hlo.memory_bytes(_text(*lines)) == size


def test_what_a_step_asks_for():
  text = _text(
    '%x = f32[6]{0} parameter(0)',
    '%s = (f32[6]{0:S(1)}, f32[6]{0}, u32[]{:S(2)}) copy-start(%x)',
    '%d = f32[6]{0:S(1)} copy-done(%s)',
    '%r = f32[6]{0:S(1)} negate(%d)',
  )
  assert hlo.operand_bytes(text) == 48
  assert hlo.memory_bytes(text) == 24


def test_cycles_of_the_entry_alone():
  config = 'backend_config={"estimated_cycles":"%d","is_mask":false}'
  text = _text(
    f'%a = f32[6]{{0}} fusion(%x), kind=kLoop, {config % 200}',
    f'ROOT %b = f32[6]{{0}} fusion(%a), kind=kOutput, {config % 34}',
  )
  inner = f'ROOT %r = f32[10]{{0}} negate(%q), {config % 5000}'
  text = text.replace('ROOT %r = f32[10]{0} negate(%q)', inner)
  assert inner in text
  assert hlo.estimated_cycles(text) == 234
  assert hlo.estimated_cycles(_text('ROOT %r = f32[4]{0} negate(%x)')) == 0
