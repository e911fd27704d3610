"""Data sheets of accelerators: what one JAX device could do at best, as its maker says.

Sources: Google Cloud's page of each TPU version, NVIDIA's data sheets of A100, H100, H200, HGX B200
and L4 (SXM modules, without sparsity) and of the DGX machines they are sold in.
"""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class DataSheet:
    """One JAX device.

    Attributes:
      name: of it, for people.
      kind: regular expression that its `device_kind` has.
      operations: dense bfloat16 operations per second.
      memory: bytes.
      bandwidth: bytes per second of that memory.
      link: bytes per second that it can send to its neighbours, all links together, one way.
      island: devices that such links connect; 0: all there are.
      network: bytes per second of its share of the machine's network, one way; 0: not needed.
      clock: cycles per second of the core that XLA counts in; 0: it counts none.
    """

    name: str
    kind: str
    operations: float
    memory: int
    bandwidth: float
    link: float
    island: int = 0
    network: float = 0.0
    clock: float = 0.0


def _tpu(name: str, kind: str, tera: float, gib: int, bandwidth: float, link: float, width: int):
    """A TPU.

    Args:
      name, kind: as of DataSheet.
      tera: 10^12 operations per second.
      gib: GiB of memory.
      bandwidth, link: GB per second; the pages give what links carry both ways together, twice it.
      width: multiply-adds of all matrix units per cycle. The pages give no clock: the peak over
        twice this number is it, which for v4 and v5p are the 1.05 and 1.75 GHz given elsewhere.
    """
    clock = tera * 1e12 / (2 * width)
    memory = gib * 2**30
    return DataSheet(name, kind, tera * 1e12, memory, bandwidth * 1e9, link * 1e9, clock=clock)


def _gpu(
    name: str, kind: str, tera: float, gb: int, bandwidth: float, link: float, network: float
) -> DataSheet:
    """A GPU, eight of which share a machine; of `link` and `network` see DataSheet, in GB/s."""
    return DataSheet(
        name,
        kind,
        tera * 1e12,
        gb * 10**9,
        bandwidth * 1e9,
        link * 1e9,
        island=8,
        network=network * 1e9,
    )


# v4 and v5p have two cores a chip, which JAX sees as one device.
TPUS = {
    "v4": _tpu("TPU v4", r"\bTPU v4\b", 275, 32, 1228, 300, 2 * 4 * 128**2),
    "v5e": _tpu("TPU v5e", r"\bTPU v5 lite\b", 197, 16, 819, 200, 4 * 128**2),
    "v5p": _tpu("TPU v5p", r"\bTPU v5p?\b(?! lite)", 459, 95, 2765, 600, 2 * 4 * 128**2),
    "v6e": _tpu("TPU v6e", r"\bTPU v6 lite\b", 918, 32, 1638, 400, 4 * 256**2),
}
GPUS = {
    "a100-40": _gpu("A100 40 GB", r"\bA100\b(?!.*\b80)", 312, 40, 1555, 300, 25),
    "a100-80": _gpu("A100 80 GB", r"\bA100\b.*\b80", 312, 80, 2039, 300, 25),
    "h100": _gpu("H100", r"\bH100\b", 989, 80, 3350, 450, 50),
    "h200": _gpu("H200", r"\bH200\b", 989, 141, 4800, 450, 50),
    "b200": _gpu("B200", r"\bG?B200\b", 2250, 180, 8000, 900, 50),
    # On PCIe 4.0.
    "l4": _gpu("L4", r"\bL4\b", 121, 24, 300, 32, 12.5),
}


def of(device_kind: str) -> DataSheet | None:
    """The data sheet of a device, None where there is none here."""
    for sheet in (*TPUS.values(), *GPUS.values()):
        if re.search(sheet.kind, device_kind):
            return sheet
    return None
