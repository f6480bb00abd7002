"""Nobody but base/files.py opens files. Ground truth: the names that open, write or remove one."""

import ast

import pytest

from tests.floors import PACKAGE, files

# Functions of the standard library and of NumPy, and methods of Path, by their last name. What is
# harmless under the same name (str.replace, list.remove) is told apart by how it is called.
NAMES = {
    "open", "fdopen", "openpty", "read_text", "read_bytes", "write_text", "write_bytes", "touch",
    "mkdir", "makedirs", "rmdir", "removedirs", "rmtree", "unlink", "rename", "renames", "symlink",
    "symlink_to", "hardlink_to", "mkfifo", "mknod", "chmod", "fchmod", "lchmod", "chown",
    "truncate", "ftruncate", "copy2", "copyfile", "copytree", "mkstemp", "mkdtemp",
    "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "umask", "memmap", "open_memmap",
    "fromfile", "tofile", "loadtxt", "savetxt", "genfromtxt", "savez", "savez_compressed",
    "ZipFile", "extractall", "make_archive", "unpack_archive", "open_code",
}  # fmt: skip
# With this before them: `np.load`, `os.replace`, `os.remove`, `np.save`, `pickle.load`.
MODULES = {("np", "load"), ("np", "save"), ("os", "replace"), ("os", "remove"), ("pickle", "load"),
           ("os", "utime"), ("os", "link"), ("shutil", "copy"), ("shutil", "move"),
           ("tar", "extract"), ("json", "load"), ("json", "dump")}  # fmt: skip

# Where another file may: each with the reason.
EXCEPTIONS = {
    ("base/files.py", "*"): "this is the place",
    ("storage/folder.py", "mkdir"): "folders that are written whole, in an opened parent",
    ("storage/folder.py", "rmdir"): "the same",
    ("storage/folder.py", "rename"): "the same",
    ("storage/folder.py", "unlink"): "the same",
    ("training/checkpoint.py", "rename"): "what is no checkpoint is moved aside, by name",
    ("codegen/cache.py", "open"): "the descriptor of the folder that was checked",
    ("codegen/cache.py", "unlink"): "entries, in that folder",
    ("codegen/cache.py", "utime"): "the time of last use, in that folder",
    ("codegen/cache.py", "truncate"): "of a file that base/files.py opened",
    ("data/official.py", "truncate"): "the same",
    ("data/official.py", "unlink"): "an empty part, in the opened folder",
    ("data/cifar10.py", "open"): "tarfile.open of bytes in memory: tar members are never extracted",
    ("data/image_files.py", "open"): "Image.open of bytes in memory",
    ("cli/results.py", "open"): "RunFolder.open",
    ("cli/train.py", "open"): "RunFolder.open",
    ("cli/runs.py", "open"): "RunFolder.open",
}


def opened(source: str) -> set[str]:
    """The names by which a file opens or changes files."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func
            if isinstance(name, ast.Attribute):
                owner = name.value.id if isinstance(name.value, ast.Name) else ""
                if name.attr in NAMES or (owner, name.attr) in MODULES:
                    found.add(name.attr)
                if name.attr == "GzipFile" and not any(k.arg == "fileobj" for k in node.keywords):
                    found.add(name.attr)
            elif isinstance(name, ast.Name) and name.id in NAMES | {"GzipFile"}:
                found.add(name.id)
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil", "tempfile", "io"):
            found |= {a.name for a in node.names if a.name in NAMES}
    return found


def test_files_are_opened_in_one_place():
    """Ground truth: the calls in every file of the package, doctests left out; each exception is
    still needed."""
    found = set()
    for path in files():
        name = str(path.relative_to(PACKAGE))
        found |= {(name, called) for called in opened(path.read_text())}
    allowed = {(n, c) for n, c in found if (n, c) in EXCEPTIONS or (n, "*") in EXCEPTIONS}
    assert not found - allowed, (
        "base/files.py opens files; another may with a reason, in EXCEPTIONS of "
        f"tests/test_files.py: {sorted(found - allowed)}"
    )
    needed = {(n, "*" if (n, "*") in EXCEPTIONS else c) for n, c in found}
    unneeded = set(EXCEPTIONS) - needed
    assert not unneeded, f"take out of EXCEPTIONS in tests/test_files.py: {sorted(unneeded)}"


@pytest.mark.parametrize(
    "source",
    [
        "open('x')", "with open('x') as f: pass", "Path('x').open('w')", "p.write_text('')",
        "p.read_bytes()", "os.open('x', 0)", "io.open('x')", "np.load('x')", "np.memmap('x')",
        "gzip.open('x')", "gzip.GzipFile('x')", "tarfile.open('x')", "tar.extractall()",
        "os.replace('a', 'b')", "shutil.rmtree('x')", "os.umask(0)", "tempfile.mkstemp()",
        "from os import unlink", "from shutil import rmtree", "p.mkdir()", "array.tofile('x')",
        "zipfile.ZipFile('x')", "pickle.load(f)",
    ],
)  # fmt: skip
def test_the_test_sees_each_way(source):
    """Ground truth: hand-made calls, one of each kind."""
    assert opened(source)


@pytest.mark.parametrize("source", ["'a'.replace('b', 'c')", "names.remove(x)", "urlopen(x)"])
def test_the_test_sees_nothing_else(source):
    """Ground truth: calls that touch no file."""
    assert not opened(source)
