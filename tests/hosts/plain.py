"""Lets an interface send whole frames with checksums, for a switch in user space: ``python -m tests.hosts.plain NAME``.

What ethtool's ``-K NAME tx off tso off gso off`` does (linux/ethtool.h).
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from ctypes import addressof, create_string_buffer
from typing import Final

SIOCETHTOOL: Final = 0x8946
OFFLOADS: Final = (0x17, 0x1F, 0x24)
"""ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO."""


def main(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        for one in OFFLOADS:
            value = create_string_buffer(struct.pack("II", one, 0), 8)
            fcntl.ioctl(opened, SIOCETHTOOL, struct.pack("16sP", name.encode(), addressof(value)))


if __name__ == "__main__":
    main(sys.argv[1])
