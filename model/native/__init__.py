"""Optional kernels in C++: chains of small convolutions in one call.

Compiled when the package is installed, where a C++ compiler and an x86 processor are at hand;
without them everything runs in PyTorch's own operators: the same answers, slower for small images.
"""
