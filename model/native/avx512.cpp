// The kernels for processors with AVX-512.
#include "chain.hpp"
