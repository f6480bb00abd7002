"""Ground truth: cpuid through LLVM, and the manuals' sizes of registers."""

import dataclasses
import os
import subprocess
import sys
import types

import pytest

import tinytorch as tt
from tinytorch.base.dtypes import bfloat16, float32, float64, int8
from tinytorch.base.errors import SettingError
from tinytorch.codegen import target as module
from tinytorch.codegen.target import NAMES, Target, host_features, runnable_names


@pytest.mark.parametrize("name, bytes", [*zip(NAMES, (64, 32, 16, 16), strict=True)])
def test_lanes_are_register_bytes_over_item_bytes(name, bytes):
    """Closed form."""
    t = Target.named(name, "aarch64" if name == "neon" else "x86_64")
    assert t.vector_bytes == bytes
    lanes = [t.lanes(d) for d in (int8, bfloat16, float32, float64)]
    assert lanes == [bytes, bytes // 2, bytes // 4, bytes // 8]


def test_host_is_the_widest_that_runs_here(monkeypatch):
    """Invariant."""
    monkeypatch.delenv("TINYTORCH_TARGET", raising=False)
    assert Target.host().name == runnable_names()[0]
    assert Target.host() is Target.host()


def test_a_lower_target_can_be_forced(monkeypatch):
    """TINYTORCH_TARGET is read each time."""
    for name in runnable_names():
        monkeypatch.setenv("TINYTORCH_TARGET", name)
        assert Target.host().name == name


def test_names_that_do_not_exist_are_refused(monkeypatch):
    """The errors list what would have been right."""
    monkeypatch.setenv("TINYTORCH_TARGET", "mmx")
    with pytest.raises(SettingError, match="cannot run") as caught:
        Target.host()
    assert runnable_names()[0] in caught.value.rule
    with pytest.raises(SettingError, match="no such target"):
        Target.named("mmx")
    with pytest.raises(SettingError, match="on aarch64 one of neon, vector128"):
        Target.named("avx2", "aarch64")


def test_a_target_the_processor_lacks_is_refused(monkeypatch):
    """A processor with AVX2 only, pretended."""
    monkeypatch.setattr(module, "runnable_names", lambda: ("avx2", "vector128"))
    monkeypatch.setattr(module.llvm, "get_process_triple", lambda: "x86_64-unknown-linux-gnu")
    module._host.cache_clear()
    with pytest.raises(SettingError, match="here one of avx2, vector128"):
        module._host("avx512")
    assert module._host("").name == "avx2"
    monkeypatch.setattr(module, "runnable_names", tuple)
    module._host.cache_clear()
    with pytest.raises(SettingError, match="not supported by compiled code"):
        module._host("")
    module._host.cache_clear()


def test_keys_are_equal_exactly_for_equal_targets():
    """Invariant: every field counts, and another process finds the same key."""
    a = Target.named("avx2", "x86_64")
    assert a.key == Target.named("avx2", "x86_64").key
    assert a.key != dataclasses.replace(a, registers=32).key
    code = "from tinytorch.codegen.target import Target; print(Target.host().key)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.stdout.strip() == Target.host().key


def test_tiles_only_where_permitted(monkeypatch):
    """A system that refuses (or a processor without) AMX: no tile features in the string."""
    monkeypatch.setattr(module, "amx_permitted", lambda: False)
    t = Target.named("avx512", "x86_64")
    assert not t.has_amx and "amx" not in t.features
    monkeypatch.setattr(module, "amx_permitted", lambda: True)
    t = Target.named("avx512", "x86_64")
    assert t.has_amx and "+amx-bf16" in t.features


def test_amx_is_not_asked_for_without_the_features(monkeypatch):
    """A processor without tiles: no system call, False."""
    monkeypatch.setattr(module, "host_features", frozenset)
    module.amx_permitted.cache_clear()
    try:
        assert module.amx_permitted() is False
    finally:
        module.amx_permitted.cache_clear()


def test_neon():
    """aarch64: 32 registers of 16 bytes, fused products; its plain form does without half."""
    t = Target.named("neon", "aarch64")
    assert (t.vector_bytes, t.registers, t.has_fma, t.architecture) == (16, 32, True, "aarch64")
    plain = Target.named("vector128", "aarch64")
    assert (plain.vector_bytes, plain.registers, plain.has_fma) == (16, 16, False)
    with pytest.raises(SettingError, match="on x86_64 one of avx512, avx2, vector128"):
        Target.named("neon", "x86_64")


def test_dot_products_of_aarch64_are_what_linux_says(monkeypatch):
    """Closed form: bits 20 of the first word, 13 and 14 of the second (uapi/asm/hwcap.h)."""

    def target(first, second):
        words = {16: first, 26: second}

        def getauxval(number):
            return words[number]

        monkeypatch.setattr(
            module.ctypes, "CDLL", lambda _: types.SimpleNamespace(getauxval=getauxval)
        )
        monkeypatch.setattr(module.llvm, "get_process_triple", lambda: "aarch64-unknown-linux-gnu")
        monkeypatch.setattr(module.sys, "platform", "linux")
        module.dot_features.cache_clear()
        return Target.named("neon")

    try:
        t = target(1 << 20, 1 << 13 | 1 << 14)
        assert t.features == "+neon,+dotprod,+i8mm,+bf16"
        assert t.has_int8_dot and t.has_mixed_dot and t.has_bf16_dot
        assert t.runnable() is t
        old = target(~(1 << 20), ~(1 << 13 | 1 << 14))
        assert old.features == "+neon"
        assert not (old.has_int8_dot or old.has_mixed_dot or old.has_bf16_dot)
        with pytest.raises(SettingError, match="missing here: dotprod, i8mm, bf16"):
            t.runnable()
    finally:
        module.dot_features.cache_clear()


def test_features_are_read_once():
    """Invariant."""
    assert host_features() is host_features()


def test_riscv_has_its_own_features():
    """Found from outside: it was given NEON. Ground truth: LLVM, which ignores what it lacks."""
    t = Target.named("vector128", "riscv64")
    assert t.architecture == "riscv64" and t.vector_bytes == 16
    assert "+v" in t.features.split(",") and "neon" not in t.features
    with pytest.raises(SettingError, match="no such architecture"):
        Target.named("vector128", "sparc")


def test_code_that_would_end_the_process_is_refused(monkeypatch):
    """Found from outside: SIGILL and SIGSEGV. A processor without AVX-512 is pretended."""
    for t in (Target.named("neon", "aarch64"), Target.named("vector128", "riscv64")):
        if t.architecture != Target.host().architecture:
            with pytest.raises(SettingError, match=f"missing here: {t.architecture}"):
                t.runnable()
    for name in runnable_names():
        assert Target.named(name).runnable().name == name
    wide, plain = Target.named("avx512", "x86_64"), Target.named("vector128", "x86_64")
    few = frozenset(("sse4.2", "popcnt", "avx2", "fma", "f16c"))
    monkeypatch.setattr(module, "host_features", lambda: few)
    monkeypatch.setattr(module.llvm, "get_process_triple", lambda: "x86_64-unknown-linux-gnu")
    monkeypatch.setattr(module, "amx_permitted", lambda: False)
    with pytest.raises(SettingError, match="cannot run code.*\n.*avx512f") as caught:
        wide.runnable()
    assert "avx2, vector128" in caught.value.rule
    assert plain.runnable() is plain
    odd = dataclasses.replace(plain, features="+sse4.2,+amx-tile")
    with pytest.raises(SettingError, match="amx-tile"):
        odd.runnable()


def test_compile_refuses_a_target_before_it_records(monkeypatch):
    """Found from outside: `tt.compile(target="avx512")` on a machine without it: SIGILL."""
    monkeypatch.setattr(module, "host_features", lambda: frozenset(("sse4.2", "popcnt")))
    monkeypatch.setattr(module.llvm, "get_process_triple", lambda: "x86_64-unknown-linux-gnu")
    for target in ("avx512", "avx2", Target.named("vector128", "aarch64")):
        with pytest.raises(SettingError, match="cannot run code"):
            tt.compile(abs, target=target)
    with pytest.raises(SettingError, match="not a target"):
        tt.compile(abs, target=512)


@pytest.mark.parametrize("name", ["avx512", "avx2", "vector128"])
def test_optional_features_are_those_of_this_processor(name):
    """Ground truth: what the processor says it has; a feature too many ends the process."""
    if Target.host().architecture != "x86_64":
        return
    optional = {f for f in module._OPTIONAL[name] if f in host_features()}
    listed = {f[1:] for f in Target.named(name).features.split(",") if f[0] == "+"}
    tiles = set(module._TILE_FEATURES)
    assert listed - tiles == {*module._REQUIRED[name], *optional} - tiles
    assert listed - tiles <= host_features() or name not in runnable_names()
