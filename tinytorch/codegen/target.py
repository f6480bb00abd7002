"""What the CPU offers: the one place that knows instruction sets.

Knows feature names and register files, never kernels. Four targets exist, from widest to plainest:

    avx512     512-bit vectors, 32 registers; with bfloat16 dot products and AMX tiles where present
    avx2       256-bit vectors, 16 registers, fused multiply-add
    neon       128-bit vectors, 32 registers, fused multiply-add: every aarch64 processor; with dot
               products of bytes and of bfloat16 where present
    vector128  128-bit vectors, 16 registers, without it: SSE4.2 on x86-64 (what NumPy's own wheels
               require), a part of NEON on aarch64, the V extension on riscv64

A target below the host's can be forced by TINYTORCH_TARGET or `Target.named`, and is tested so.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import llvmlite.binding as llvm

from tinytorch.base.dtypes import DType
from tinytorch.base.errors import SettingError

NAMES = ("avx512", "avx2", "neon", "vector128")
_OF_ARCHITECTURE = {
    "x86_64": ("avx512", "avx2", "vector128"),
    "aarch64": ("neon", "vector128"),
    "riscv64": ("vector128",),
}

# features every target of this name has; optional ones are added when the host has them
_REQUIRED = {
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx2", "fma", "f16c"),
    "avx2": ("avx2", "fma", "f16c"),
    "vector128": ("sse4.2", "popcnt"),
}
_OPTIONAL = {
    "avx512": ("avx512bf16", "avx512vnni", "avx512vbmi", "avx512fp16", "bmi2", "lzcnt", "popcnt"),
    "avx2": ("avxvnni", "bmi2", "lzcnt", "popcnt"),
    "vector128": (),
}
_TILE_FEATURES = ("amx-tile", "amx-bf16", "amx-int8")
_CPU = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "vector128": "x86-64-v2"}
# LLVM's names of dot products on aarch64, and the bit of Linux's word that tells of each: number 16
# (AT_HWCAP) or 26 (AT_HWCAP2) of the auxiliary vector; source: Linux, arch/arm64, uapi/asm/hwcap.h
AARCH64_BITS = {"dotprod": (16, 20), "i8mm": (26, 13), "bf16": (26, 14)}
# processor model and features of the other architectures
_OTHERS = {"aarch64": ("generic", "+neon"), "riscv64": ("generic-rv64", "+m,+a,+f,+d,+c,+v")}
_BYTES = {"avx512": 64, "avx2": 32, "neon": 16, "vector128": 16}
_REGISTERS = {"avx512": 32, "avx2": 16, "neon": 32, "vector128": 16}
# Linux, arch/x86: arch_prctl is system call 158; ARCH_REQ_XCOMP_PERM = 0x1023; XTILEDATA is 18
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@dataclass(frozen=True)
class Target:
    """One kind of CPU to write code for.

    Args:
        name: one of NAMES.
        triple: LLVM's name of architecture and system.
        cpu: LLVM's name of the processor model to schedule for.
        features: LLVM's feature string.
        vector_bytes: bytes of one vector register.
        registers: how many vector registers there are.
        has_fma: whether a * b + c is one instruction with one rounding.
        has_bf16_dot: whether vdpbf16ps or bfdot exists (pairs of bfloat16 products added to
            float32).
        has_int8_dot: whether vpdpbusd exists (products of four unsigned bytes and four signed ones
            added to int32), or sdot and udot (of bytes of the same sign).
        has_mixed_dot: whether usdot exists (unsigned bytes times signed ones, on aarch64).
        has_fp16: whether arithmetic on vectors of float16 exists.
        has_amx: whether bfloat16 and int8 tiles exist and the system lets this process use them.

    Example:
        >>> from tinytorch.base.dtypes import float32, float64
        >>> t = Target.named("avx2", architecture="x86_64")
        >>> t.lanes(float32), t.lanes(float64), t.registers
        (8, 4, 16)
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool = True
    has_bf16_dot: bool = False
    has_int8_dot: bool = False
    has_mixed_dot: bool = False
    has_fp16: bool = False
    has_amx: bool = False

    def lanes(self, dtype: DType) -> int:
        """How many elements of `dtype` one vector register holds."""
        return self.vector_bytes // dtype.itemsize

    @property
    def key(self) -> str:
        """A short text that is equal exactly for targets for which the same code is written."""
        return _key(self)

    @property
    def architecture(self) -> str:
        """First part of the triple: "x86_64", "aarch64"."""
        return _normal(self.triple.split("-")[0])

    @staticmethod
    def host() -> Target:
        """The best target of this machine, or the one TINYTORCH_TARGET names.

        Raises: SettingError if TINYTORCH_TARGET names none, or one this machine cannot run.
        """
        forced = os.environ.get("TINYTORCH_TARGET", "").strip()
        return _host(forced)

    @staticmethod
    def named(name: str, architecture: str | None = None, portable: bool = False) -> Target:
        """The target of this name, with the optional features of this machine.

        Args:
            name: one of NAMES.
            architecture: "x86_64", "aarch64" or "riscv64"; default this machine's. Code for
                another architecture can be written, not run.
            portable: without the optional features: every processor of this name runs the code.

        Raises: SettingError for another architecture, or a name that it does not have.
        """
        triple = llvm.get_process_triple()
        host = _normal(triple.split("-")[0])
        architecture = _normal(architecture or host)
        if architecture not in _OF_ARCHITECTURE:
            raise SettingError(
                "no such architecture",
                got=repr(architecture),
                rule="one of " + ", ".join(_OF_ARCHITECTURE),
                fix="leave it out for this machine's",
            )
        available = _OF_ARCHITECTURE[architecture]
        if name not in available:
            raise SettingError(
                "no such target",
                got=repr(name),
                rule=f"on {architecture} one of " + ", ".join(available),
                fix=f'TINYTORCH_TARGET="{available[-1]}"',
            )
        if architecture != host:
            triple = f"{architecture}-unknown-linux-gnu"
        if name == "neon":
            return _neon(triple, host == "aarch64" and not portable)
        if architecture != "x86_64":
            cpu, features = _OTHERS[architecture]
            sizes = _BYTES[name], _REGISTERS[name]
            return Target(name, triple, cpu, features, *sizes, has_fma=False)
        return _x86(name, triple, host == "x86_64" and not portable)

    def without_amx(self) -> Target:
        """This target without tiles: who runs its code need not set them up, nor ask the system."""
        listed = [f for f in self.features.split(",") if f[1:] not in _TILE_FEATURES]
        return replace(self, features=",".join(listed), has_amx=False)

    def runnable(self) -> Target:
        """This target, if this machine can run code for it.

        Raises: SettingError for another architecture, or a feature this processor lacks: its code
            would end the process.
        """
        here = _normal(llvm.get_process_triple().split("-")[0])
        lacking = [] if self.architecture == here else [self.architecture]
        asked = [f[1:] for f in self.features.split(",") if f[:1] == "+"]
        if not lacking and here == "x86_64":
            tiles = host_features() if amx_permitted() else host_features() - {*_TILE_FEATURES}
            lacking = [f for f in asked if f not in tiles]
        if not lacking and here == "aarch64":
            lacking = [f for f in asked if f in AARCH64_BITS and f not in dot_features()]
        if lacking:
            raise SettingError(
                "this machine cannot run code for this target",
                got=f"{self.name} for {self.architecture}; missing here: {', '.join(lacking)}",
                rule="here one of " + (", ".join(runnable_names()) or "none: run eagerly"),
                fix="target=None, for the best this machine has",
            )
        return self


def _normal(architecture: str) -> str:
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)


def _x86(name: str, triple: str, here: bool) -> Target:
    present = host_features() if here else frozenset[str]()
    listed = [*_REQUIRED[name], *(f for f in _OPTIONAL[name] if f in present)]
    amx = name == "avx512" and here and amx_permitted()
    if amx:
        listed += _TILE_FEATURES
    features = ",".join("+" + f for f in listed)
    if name == "avx512":  # LLVM's x86-64-v4 would use 256-bit vectors by itself
        features += ",-prefer-256-bit"
    return Target(
        name,
        triple,
        _CPU[name],
        features,
        _BYTES[name],
        _REGISTERS[name],
        has_fma=name != "vector128",
        has_bf16_dot="avx512bf16" in listed,
        has_int8_dot="avx512vnni" in listed or "avxvnni" in listed,
        has_fp16="avx512fp16" in listed,
        has_amx=amx,
    )


def _neon(triple: str, here: bool) -> Target:
    cpu, features = _OTHERS["aarch64"]
    present = [f for f in AARCH64_BITS if here and f in dot_features()]
    return Target(
        "neon",
        triple,
        cpu,
        ",".join([features, *(f"+{f}" for f in present)]),
        _BYTES["neon"],
        _REGISTERS["neon"],
        has_bf16_dot="bf16" in present,
        has_int8_dot="dotprod" in present,
        has_mixed_dot="i8mm" in present,
    )


@lru_cache
def _key(target: Target) -> str:
    text = "|".join(f"{f.name}={getattr(target, f.name)}" for f in fields(target))
    return f"{target.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@lru_cache
def _host(forced: str) -> Target:
    runnable = runnable_names()
    if not runnable:
        raise SettingError(
            "this processor is not supported by compiled code",
            got=llvm.get_process_triple(),
            rule="x86-64 with SSE4.2, or aarch64",
            fix="run eagerly: do not call tt.compile",
        )
    if forced and forced not in runnable:
        raise SettingError(
            "TINYTORCH_TARGET names a target this machine cannot run",
            got=repr(forced),
            rule="here one of " + ", ".join(runnable),
            fix=f"TINYTORCH_TARGET={runnable[0]}, or leave it unset",
        )
    return Target.named(forced or runnable[0])


def runnable_names() -> tuple[str, ...]:
    """The targets this machine can run, widest first."""
    architecture = _normal(llvm.get_process_triple().split("-")[0])
    if architecture == "aarch64":  # its Linux and its other systems ask for NEON
        return _OF_ARCHITECTURE[architecture]
    if architecture != "x86_64":
        return ()
    names = _OF_ARCHITECTURE[architecture]
    return tuple(name for name in names if host_features() >= {*_REQUIRED[name]})


@lru_cache
def host_features() -> frozenset[str]:
    """LLVM's names of the features this CPU has (from cpuid, not from its model name)."""
    try:
        return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
    except RuntimeError:  # LLVM cannot tell on this system
        return frozenset()


@lru_cache
def dot_features() -> frozenset[str]:
    """LLVM's names of the dot products that this aarch64 processor has, as Linux tells of them."""
    if not sys.platform.startswith("linux"):
        return frozenset()
    word = ctypes.CDLL(None).getauxval
    word.restype, word.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return frozenset(f for f, (number, bit) in AARCH64_BITS.items() if word(number) >> bit & 1)


@lru_cache
def amx_permitted() -> bool:
    """Whether this process may use AMX tiles; asks the system for it, once, before threads need it.

    Source: Linux Documentation/arch/x86/xstate.rst. Threads and children inherit the permission.
    """
    if not sys.platform.startswith("linux") or not host_features() >= {*_TILE_FEATURES}:
        return False
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    arguments = (_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
    return syscall(*(ctypes.c_long(a) for a in arguments)) == 0
