// Vectors, activations in memory, and each thread's scratch memory.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

#if defined(__AVX512F__)
constexpr int V = 16;       // floats in a vector register
constexpr int kPixels = 8;  // of one tile: with 3 blocks, 24 sums in 32 registers
#else
constexpr int V = 8;
constexpr int kPixels = 4;  // 12 sums in 16 registers
#endif
constexpr int kBlocks = 3;  // blocks of V output channels in one tile, at most

typedef float Vector __attribute__((vector_size(4 * V)));

inline Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Small batches read weights faster than memory brings them unasked. What the loops over them read is
// asked for about a hundred cycles earlier; beyond the end that is no fault.
constexpr int kAhead = 512;
constexpr int kLine = 16;  // floats that memory brings at once

inline void prefetch(const float* from) { __builtin_prefetch(from); }

// What is read after the weights at hand, asked for in small pieces while these are computed with.
struct Prefetch {
  const float* next;
  int lines;  // of each piece

  void piece() {
    for (int line = 0; line < lines; ++line, next += kLine) __builtin_prefetch(next, 0, 2);
  }
};

inline void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

inline void store(float* to, Vector value, int lanes) {
  std::memcpy(to, &value, lanes * sizeof(float));
}

// Written so that NaN stays NaN.
inline Vector relu(Vector a) {
  const Vector zero = {};
  return a < zero ? zero : a;
}

// Larger value; NaN if either is.
inline Vector larger(Vector a, Vector b) { return ((a > b) | (a != a)) ? a : b; }

inline int64_t blocks_of(int64_t channels) { return (channels + V - 1) / V; }

// Blocks in groups of at most kBlocks, as equal as can be.
struct Groups {
  explicit Groups(int64_t blocks)
      : count((blocks + kBlocks - 1) / kBlocks), small(blocks / count), larger(blocks % count) {}
  int64_t count, small, larger;
  int64_t size(int64_t group) const { return small + (group < larger); }
  int64_t start(int64_t group) const { return group * small + std::min(group, larger); }
};

// Activations of several images, strides in floats. Between layers they are bordered:
// [image][block][H + 2][W + 2][pixel], a pixel being V channels (fewer for an image), the border 0.
// The last layer may write the caller's memory instead: [image][H][W][channels], nothing beyond.
struct Activation {
  float* data;
  int64_t pixel, row, block, image;
  int channels, height, width;
  bool bordered;

  float* at(int64_t number, int64_t channel_block, int64_t y, int64_t x) const {
    return data + number * image + channel_block * block + (y + bordered) * row +
           (x + bordered) * pixel;
  }
  // Channels of a block that may be written.
  int lanes(int64_t channel_block) const {
    return bordered ? V : static_cast<int>(std::min<int64_t>(V, channels - channel_block * V));
  }
};

inline Activation bordered(float* data, int channels, int height, int width, int pixel) {
  const int64_t row = static_cast<int64_t>(width + 2) * pixel, block = row * (height + 2);
  const int64_t blocks = (channels + pixel - 1) / pixel;
  return {data, pixel, row, block, block * blocks, channels, height, width, true};
}

inline Activation plain(float* data, int channels, int height, int width) {
  const int64_t row = static_cast<int64_t>(width) * channels;
  return {data, channels, row, V, row * height, channels, height, width, false};
}

// A thread's own scratch memory; grows, and is returned when the thread ends.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }

  float* get(int64_t floats) {
    if (floats > size_) {
      std::free(data_);
      data_ = nullptr;
      size_ = 0;
      const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) + 63) / 64 * 64;
      data_ = static_cast<float*>(std::aligned_alloc(64, bytes));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = floats;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace
