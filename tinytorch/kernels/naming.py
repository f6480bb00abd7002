"""Names a kernel after its code, so that equal kernels are one kernel.

Knows text and hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

from tinytorch.codegen.builder import Function
from tinytorch.codegen.kernel import Kernel, build

_PLACE = "@@"  # stands for the kernel's name while its code is written


def named_kernel(
    kind: str,
    arguments: Sequence[str],
    body: Callable,
    helpers: Callable[[str], list[Function]] | None = None,
    **known,
) -> Kernel:
    """Build a kernel whose name ends in a hash of its text.

    Args:
        kind: the name's first word.
        arguments, body, known: as in `codegen.kernel.build`.
        helpers: called after the body with the name's prefix; private functions that belong to it.
    """
    kernel = build(_PLACE, arguments, body, **known)
    written = helpers(_PLACE) if helpers else []
    text = "\n".join([*(h.finish() for h in written), kernel.ir])
    declarations = kernel.declarations.union(*(h.declarations for h in written))
    name = f"{kind}_{sha256((text + str(arguments)).encode()).hexdigest()[:12]}"
    return replace(kernel, name=name, ir=text.replace(_PLACE, name), declarations=declarations)
