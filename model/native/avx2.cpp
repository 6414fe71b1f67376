// The kernels for processors with AVX2 and FMA.
#include "chain.hpp"
