"""Platforms that images are built for, by their OCI names, and what pip has to know to find wheels for them.

A wheel's platform tag is compared with the C library of the base image, not of the machine that builds: `manylinux_2_28`
runs where glibc is 2.28 or newer (PEP 600), `musllinux_1_2` where musl is 1.2 or newer (PEP 656).
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from builder.context import InvalidContext

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_OLDEST_GLIBC = {"amd64": 5, "arm64": 17}
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600, "Legacy manylinux tags"


@dataclass(frozen=True)
class Platform:
    """`architecture` is `amd64` or `arm64`; the operating system is Linux."""

    architecture: str

    def __str__(self) -> str:
        return f"linux/{self.architecture}"

    @property
    def machine(self) -> str:
        """What `uname -m` says there."""
        return _MACHINES[self.architecture]


@dataclass(frozen=True)
class Target:
    """What wheels must fit. `python` is `X.Y` or `X.Y.Z`; `libc` is `glibc` or `musl` and `libc_version` its (major, minor)."""

    platform: Platform
    python: str
    libc: str
    libc_version: tuple[int, int]

    def __str__(self) -> str:
        return f"Python {self.minor} on {self.platform} with {self.libc} {self.libc_version[0]}.{self.libc_version[1]}"

    @property
    def minor(self) -> str:
        """The Python version as `X.Y`."""
        return ".".join(self.python.split(".")[:2])

    def wheel_platforms(self) -> tuple[str, ...]:
        """Return the platform tags that fit, best first."""
        machine, (major, minor) = self.platform.machine, self.libc_version
        if self.libc == "musl":
            return tuple(f"musllinux_{major}_{n}_{machine}" for n in range(minor, -1, -1))
        tags = []
        for n in range(minor, _OLDEST_GLIBC[self.platform.architecture] - 1, -1):
            tags.append(f"manylinux_{major}_{n}_{machine}")
            if n in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[n]}_{machine}")
        return tuple(tags)

    def abis(self) -> tuple[str, ...]:
        """Return the ABI tags that fit."""
        return f"cp{self.minor.replace('.', '')}", "abi3", "none"

    def marker_environment(self) -> dict[str, str]:
        """Return the values of environment markers (PEP 508) there; what only a running kernel knows is empty."""
        full = self.python if self.python.count(".") == 2 else f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.platform.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.minor,
            "sys_platform": "linux",
        }


def parse_platform(text: str) -> Platform:
    """Return the platform of an OCI name such as `linux/amd64`; `linux/arm64/v8` is `linux/arm64`. Raises InvalidContext."""
    system, _, architecture = text.strip().partition("/")
    architecture = architecture.removesuffix("/v8") if architecture == "arm64/v8" else architecture
    if system != "linux" or architecture not in _MACHINES:
        raise InvalidContext(f"images are built for {' and '.join(f'linux/{a}' for a in _MACHINES)}, not for {text!r}")
    return Platform(architecture)


def host_platform() -> Platform:
    """Return the platform of this machine. Raises InvalidContext when images cannot be built for it."""
    machine = platform.machine().lower()
    known = {**{there: name for name, there in _MACHINES.items()}, **{name: name for name in _MACHINES}}
    return parse_platform(f"linux/{known.get(machine, machine)}")


def includes_host(platforms: Sequence[str]) -> bool:
    """Whether a build for these platforms is for this machine; no platform named is this one."""
    here = str(host_platform())
    return not platforms or any(name == here or name.startswith(here + "/") for name in platforms)


def check_includes_host(platforms: Sequence[str]) -> None:
    """A bundle runs where it is built: asking for more platforms is harmless, not asking for this one is not.

    Raises InvalidContext.
    """
    here = str(host_platform())
    if not includes_host(platforms):
        raise InvalidContext(f"this gateway builds for {here} only, not for {', '.join(platforms)}: pass --platforms {here}")
