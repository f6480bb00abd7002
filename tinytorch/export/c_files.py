"""What a C program needs beside object code: a header, an archive, and an example of 30 lines.

Knows names, shapes and the layout of `ar`; never LLVM or a model.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinytorch.export import driver
from tinytorch.export.recorded import ArrayFact, NativeProgram

ABI = 1  # raise when a caller would have to be written anew

# number types: what C calls them, how printf shows one. Half floats are their bits.
_C_TYPES = {
    "float32": ("float", "%.9g"), "float64": ("double", "%.17g"),
    "int8": ("int8_t", "%d"), "int16": ("int16_t", "%d"), "int32": ("int32_t", "%d"),
    "int64": ("int64_t", "%lld"), "uint8": ("uint8_t", "%d"), "uint32": ("uint32_t", "%u"),
    "bool": ("uint8_t", "%d"), "float16": ("uint16_t", "%d"), "bfloat16": ("uint16_t", "%d"),
}  # fmt: skip
_CODES = {
    "OK": (driver.OK, "the outputs are written"),
    "NO_INSTRUCTIONS": (driver.NO_INSTRUCTIONS, "this processor lacks instructions of TARGET"),
    "NOT_BEGUN": (driver.NOT_BEGUN, "the workspace was not given to {name}_begin before"),
    "BAD_INDEX": (driver.BAD_INDEX, "a number of an input is an index outside its axis"),
    "NO_WORKSPACE": (driver.NO_WORKSPACE, "the workspace is a null pointer"),
}


def header(name: str, program: NativeProgram, version: str) -> str:
    """The text of NAME.h."""
    big = name.upper()
    lines = [
        f"/* {name}: a network as object code for {program.target.name}"
        f" ({program.target.architecture}), made by TinyTorch {version}.",
        "   Arrays are dense, the last axis fastest, and may begin anywhere; outputs overlap",
        "   nothing. A workspace is memory of the caller, wherever it begins: one for each thread",
        "   that calls at the same time. Nothing is allocated, and nothing but the outputs and the",
        "   workspace is written. */",
        f"#ifndef {big}_H", f"#define {big}_H", "",
        "#include <stddef.h>", "#include <stdint.h>", "",
        f"#define {big}_ABI {ABI}",
        f'#define {big}_TINYTORCH "{version}"',
        f'#define {big}_TARGET "{program.target.name}"',
    ]  # fmt: skip
    for array in (*program.inputs, *program.outputs):
        what, shape = f"{big}_{array.name.upper()}", ", ".join(map(str, array.shape or (1,)))
        lines += [
            f"#define {what}_SIZE {array.size}",
            f"#define {what}_RANK {len(array.shape)}",
            f"#define {what}_SHAPE {{{shape}}}",
        ]
    lines += ["", "enum {"]
    for code, (number, meaning) in _CODES.items():
        lines.append(f"  {big}_{code} = {number}, /* {meaning.format(name=name)} */")
    taken = [f"const {_c_type(a)} *{a.name}" for a in program.inputs]
    taken += [f"{_c_type(a)} *{a.name}" for a in program.outputs]
    return "\n".join([
        *lines, "};", "", "#ifdef __cplusplus", 'extern "C" {', "#endif",
        "/* Bytes of a workspace. */",
        f"size_t {name}_workspace_bytes(void);",
        "/* Sees that this processor has the instructions, and prepares a workspace, once. */",
        f"int {name}_begin(void *workspace);",
        "/* Computes the outputs. */",
        f"int {name}_run({', '.join(taken)}, void *workspace);",
        "#ifdef __cplusplus", "}", "#endif", "#endif", "",
    ])  # fmt: skip


def example_program(name: str, program: NativeProgram) -> str:
    """A C program that reads the inputs from a file and prints the outputs; at most 30 lines."""
    big, inputs, outputs = name.upper(), program.inputs, program.outputs
    places = [
        f"static {_c_type(a)} {a.name}[{big}_{a.name.upper()}_SIZE];" for a in (*inputs, *outputs)
    ]
    names = ", ".join(a.name for a in (*inputs, *outputs))
    missing = " || ".join(f"fread({a.name}, sizeof {a.name}, 1, file) != 1" for a in inputs)
    room = " + ".join(f"sizeof {a.name}" for a in inputs) or "(size_t)0"
    if len(places) > 8:  # what it declares stays short, however much there is
        places = [" ".join(places)]
    prints = [
        f"    for (size_t i = 0; i < {big}_{a.name.upper()}_SIZE; i++)"
        f' printf("{_C_TYPES[a.dtype.name][1]}\\n", {_printed(a)});'
        for a in outputs
    ]
    if len(prints) > 4:
        prints = ["".join(prints)]
    return "\n".join([
        f"/* Runs {name} on a file of raw numbers: cc main.c {name}.a -o main && ./main FILE */",
        "#include <stdio.h>", "#include <stdlib.h>", f'#include "{name}.h"', "", *places, "",
        "int main(int count, char **words) {",
        '    FILE *file = count == 2 ? fopen(words[1], "rb") : NULL;',
        f"    if (!file || {missing or '0'}) {{",
        f'        fprintf(stderr, "usage: %s FILE, of %zu bytes\\n", words[0], {room});',
        "        return 2;", "    }",
        f"    void *workspace = malloc({name}_workspace_bytes());",
        f"    int code = {name}_begin(workspace);",
        f"    if (code == {big}_OK) code = {name}_run({names}, workspace);",
        f"    if (code != {big}_OK) {{",
        f'        fprintf(stderr, "{name}: error %d, see {name}.h\\n", code);',
        "        return 1;", "    }", *prints, "    return 0;", "}", "",
    ])  # fmt: skip


def _c_type(array: ArrayFact) -> str:
    return _C_TYPES[array.dtype.name][0]


def _printed(array: ArrayFact) -> str:
    return ("(long long)" if array.dtype.name == "int64" else "") + f"{array.name}[i]"


def archive(members: Mapping[str, bytes], symbols: Mapping[str, str]) -> bytes:
    """A static library: object files in the form of `ar`, with an index of what they define.

    Args:
        members: object files by name, of at most 15 characters.
        symbols: for each symbol the member that defines it.

    Source: System V ABI, "ar" format; the index is the member "/", big-endian.
    """
    names = b"".join(s.encode() + b"\0" for s in symbols)
    size = 4 + 4 * len(symbols) + len(names)
    start = 8 + 60 + size + size % 2
    places: dict[str, int] = {}
    body = b""
    for name, content in members.items():
        places[name] = start + len(body)
        body += _member(name + "/", content)
    table = [len(symbols), *(places[member] for member in symbols.values())]
    index = b"".join(n.to_bytes(4, "big") for n in table) + names
    return b"!<arch>\n" + _member("/", index) + body


def _member(name: str, content: bytes) -> bytes:
    # no time, no owner: the same model gives the same bytes
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)
