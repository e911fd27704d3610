"""GPUs as XLA's CUDA compiler wants them described, to compile for one that is not there.

Numbers are those of NVIDIA's architecture papers and of the CUDA programming guide's table of
compute capabilities.
"""

from runtime.data_sheets import DataSheet

# By topology: compute capability, multiprocessors, MiB of L2, GHz, KiB of shared memory of each.
_CHIPS = {
    "a100-40": ((8, 0), 108, 40, 1.41, 164),
    "a100-80": ((8, 0), 108, 40, 1.41, 164),
    "h100": ((9, 0), 132, 50, 1.98, 228),
    "h200": ((9, 0), 132, 50, 1.98, 228),
    "b200": ((10, 0), 148, 126, 1.965, 228),
    "l4": ((8, 9), 58, 48, 2.04, 100),
}
_CORES = {8: {0: 64, 9: 128}, 9: {0: 128}, 10: {0: 128}}  # float32, of a multiprocessor
_THREADS = {(8, 9): 1536}  # of a multiprocessor; else 2048


def of(kind: str, sheet: DataSheet) -> str:
    """A GpuTargetConfigProto as text.

    Args:
      kind: of the topology, such as "h100".
      sheet: of the device.
    """
    capability, count, cache, clock, shared = _CHIPS[kind]
    major, minor = capability
    return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: {_THREADS.get(capability, 2048)}
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: {2**16 - 1}
  block_dim_limit_z: {2**16 - 1}
  registers_per_core_limit: {2**16}
  registers_per_block_limit: {2**16}
  shared_memory_per_block: {48 * 2**10}
  shared_memory_per_block_optin: {(shared - 1) * 2**10}
  shared_memory_per_core: {shared * 2**10}
  core_count: {count}
  fpus_per_core: {_CORES[major][minor]}
  clock_rate_ghz: {clock}
  l2_cache_size: {cache * 2**20}
  memory_bandwidth: {round(sheet.bandwidth)}
  device_memory_size: {sheet.memory}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{sheet.name}"
"""
