"""The chapter names of the course: each file hands on what the documents import.

The framework's own names are PyTorch's and live in `nn`, `optim`, `data` and `training`; here the
same objects go by the names of the course. The slow twins that the course starts from (a matrix
product of three loops, attention in four lines, kernels over a grid) are written here and nowhere
else: they exist to be measured.
"""
