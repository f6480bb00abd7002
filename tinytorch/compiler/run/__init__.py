"""Running a compiled program: its memory, its native call, and what it leaves in Tensors.

Knows recordings and launch plans; never passes. In the order in which they build on each other:

    program       the program of a graph: in memory, on disk, or made by the passes; a runner: one
                  arena, and the table that threads go through
    executable    a recording bound to its Tensors and its program: what one call does
    timing        one run as its threads noted it: who did what when
    roofline      the limits of the machine, and the least time of each kernel
    kernel_sums   equal kernels of such a run, taken together
    explain       kernels with their times, beside those limits
    trace         a run as a file for Chrome and Perfetto
    markup        text of a page, escaped
    charts        the pictures of a page: time line, memory over time, roofline
    page          everything about a program as one HTML page; page_style: how it looks
"""
