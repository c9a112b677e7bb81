"""Tables of docs/speed.md: a GPU, and what is compiled for TPUs."""

from result_tables import read, result, table, versions


def gpu() -> str:
  """A row a case: images/s of the best of ours, of timm, and the ratio."""
  report = read('gpu')
  rows = []
  for row in report['rows']:
    case, competitors = row['case'], row.get('competitors')
    if competitors is None:
      continue
    speeds = {
      name: result.get('images_per_second')
      for name, result in competitors.items()
    }
    ours = [name for name in speeds if name.startswith('ours') and speeds[name]]
    best = max(ours, key=speeds.get, default=None)
    peers = [name for name in speeds if name.startswith('timm')]
    share = competitors[best].get('share_of_bandwidth') if best else None
    rows.append(
      (
        f'{case["section"]}, {case["variant"]}, batch {row["batch"]}',
        str(case['resolution']),
        f'{speeds[best]:,.0f} ({best.removeprefix("ours_")})' if best else '',
        ', '.join(
          f'{speeds[name]:,.0f} ({name})' if speeds[name] else f'error ({name})'
          for name in peers
        ),
        ', '.join(f'{value:.2f}' for value in row['speedups'].values()),
        f'{share:.0%}' if share else '',
      )
    )
  head = ('', 'pixels', 'ours', 'timm', 'ours / timm', 'of the bandwidth')
  return table(
    head,
    rows,
    f'Images/s in bfloat16 on one {report["device"]}, '
    f'{versions(report["versions"])} {result("gpu")}',
  )


def compiled() -> str:
  """A row a network and pod: does the published batch fit, and how fast?"""
  report = read('compile_table')
  rows = []
  for row in report['rows'].values():
    cells = [row['variant'], row['topology'], f'{row["batch"]:,}', row['remat']]
    if 'failed' in row:
      rows.append([*cells, row['failed'], '', '', '', '', ''])
      continue
    gib = lambda amount: f'{amount / 2**30:.1f}' if amount else '?'
    memory = f'{gib(row["peak_bytes"])} of {gib(row["hbm_bytes"])}'
    if not row['fits']:
      rows.append([*cells, f'**no**: {memory}', '', '', '', '', ''])
      continue
    rows.append(
      [
        *cells,
        memory,
        f'{row["flops"] / 1e9:,.0f}',
        f'{row["bytes_accessed"] / 1e9:.1f}',
        f'{row["hbm_traffic_bytes"] / 1e9:.1f}',
        f'{row["images_per_second_bound"] / 1e3:,.0f}',
        f'{row["images_per_second_by_hbm"] / 1e3:,.0f}',
      ]
    )
  head = (
    *('', 'pod', 'batch', 'remat', 'GiB a chip', 'GFLOP', 'GB accessed'),
    *('GB to HBM', "k images/s by XLA's bytes", 'at most, by HBM'),
  )
  compilers = next(
    (r['versions'] for r in report['rows'].values() if 'versions' in r), {}
  )
  limits = report['limits']
  return table(
    head,
    rows,
    'Arithmetic and bytes are of one chip and step, images/s of the pod. '
    f'Compiled with {versions(compilers)}; given up after '
    f'{limits["minutes"]} minutes of both cores or at {limits["gib"]} GiB '
    f'{result("compile_table")}',
  )


def step_bytes() -> str:
  """A row a change: bytes of B0's step on a v5e chip."""
  report = read('step_bytes')
  rows = [
    (
      name,
      *(
        f'{row[key] / 1e9:.1f}'
        for key in ('bytes_accessed', 'operand_bytes', 'hbm_traffic_bytes')
      ),
      f'{row["flops"] / 1e9:.0f}',
    )
    for name, row in report['rows'].items()
  ]
  head = ('', 'GB by XLA', 'GB of operands', 'GB to HBM', 'GFLOP')
  return table(
    head,
    rows,
    f'{report["network"]}, {report["topology"]} {result("step_bytes")}',
  )
