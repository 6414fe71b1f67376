// The same convolution by Winograd's minimal filtering F(4x4, 3x3): 36 products where 144 are needed
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4).
//
// Each tile of 4x4 outputs comes from 6x6 inputs. Inputs are transformed (B^T d B), multiplied with
// transformed weights point by point, summed over the channels, and transformed back (A^T m A).
// Interpolation points 0, +-5/8, +-3/2 and infinity: see model/winograd.py, which has the matrices
// and transforms the weights.

#pragma once

#include "vector.hpp"

namespace {

constexpr int kSide = 4, kPatch = kSide + 2, kPoints = kPatch * kPatch;
constexpr float kA = 0.625f, kB = 1.5f;
constexpr float kA2 = kA * kA, kB2 = kB * kB;

// Tiles whose products one thread computes before transforming them back: their sums fit its cache.
constexpr int64_t kRun = 3 * kPixels;

inline int64_t winograd_tiles(int64_t height, int64_t width) {
  return (height + kSide - 1) / kSide * ((width + kSide - 1) / kSide);
}

// B^T x for six vectors.
inline void forward(const Vector* x, int64_t step, Vector* y, int64_t to) {
  const Vector d0 = x[0], d1 = x[step], d2 = x[2 * step], d3 = x[3 * step], d4 = x[4 * step],
               d5 = x[5 * step];
  const Vector evenA = d4 - kB2 * d2, oddA = kA * (d3 - kB2 * d1);
  const Vector evenB = d4 - kA2 * d2, oddB = kB * (d3 - kA2 * d1);
  y[0] = kA2 * kB2 * d0 - (kA2 + kB2) * d2 + d4;
  y[to] = evenA + oddA;
  y[2 * to] = evenA - oddA;
  y[3 * to] = evenB + oddB;
  y[4 * to] = evenB - oddB;
  y[5 * to] = kA2 * kB2 * d1 - (kA2 + kB2) * d3 + d5;
}

// A^T x for six vectors.
inline void backward(const Vector* x, int64_t step, Vector* y, int64_t to) {
  const Vector m0 = x[0], m5 = x[5 * step];
  const Vector sumA = x[step] + x[2 * step], differenceA = x[step] - x[2 * step];
  const Vector sumB = x[3 * step] + x[4 * step], differenceB = x[3 * step] - x[4 * step];
  y[0] = m0 + sumA + sumB;
  y[to] = kA * differenceA + kB * differenceB;
  y[2 * to] = kA2 * sumA + kB2 * sumB;
  y[3 * to] = kA2 * kA * differenceA + kB2 * kB * differenceB + m5;
}

// Products at one point: P tiles, B blocks of outputs, summed over the channels in order.
// x: [channel block][tile][V]; out: [B][tile][V].
template <int B, int P>
inline void products(const float* x, int64_t block, int channels, const float* weight, float* out,
                     int64_t out_block) {
  Vector sum[B][P] = {};
  for (int first = 0; first < channels; first += V, x += block) {
    const int count = std::min(V, channels - first);
    for (int c = 0; c < count; ++c, weight += B * V) {
      Vector w[B];
#pragma GCC unroll 32
      for (int b = 0; b < B; ++b) w[b] = load(weight + b * V);
#pragma GCC unroll 32
      for (int i = 0; i < P; ++i) {
        const float value = x[i * V + c];
#pragma GCC unroll 32
        for (int b = 0; b < B; ++b) sum[b][i] += w[b] * value;
      }
    }
  }
#pragma GCC unroll 32
  for (int b = 0; b < B; ++b)
#pragma GCC unroll 32
    for (int i = 0; i < P; ++i) store(out + b * out_block + i * V, sum[b][i]);
}

// One layer on several images, in two stages with a barrier between them: the inputs' transforms, in
// units of a block and a tile; then, in units of a group of output blocks and a run of tiles, the
// products and the way back.
class WinogradConv {
 public:
  // Floats for the transformed inputs.
  static int64_t floats(const Activation& from, int64_t images) {
    return kPoints * blocks_of(from.channels) * V * padded(from, images);
  }

  WinogradConv(const float* weight, const float* bias, bool pool, const Activation& from,
               const Activation& to, int64_t images, float* transformed)
      : weight_(weight), bias_(bias), pool_(pool), from_(from), to_(to), transformed_(transformed),
        groups_(blocks_of(to.channels)), blocks_(blocks_of(from.channels)),
        columns_((from.width + kSide - 1) / kSide),
        each_(winograd_tiles(from.height, from.width)), tiles_(each_ * images),
        padded_(padded(from, images)), runs_((padded_ + kRun - 1) / kRun) {}

  int64_t forward_units() const { return blocks_ * tiles_; }

  void transform(int64_t unit) const {
    const int64_t block = unit / tiles_, tile = unit % tiles_;
    const int64_t image = tile / each_, y = tile % each_ / columns_ * kSide,
                  x = tile % each_ % columns_ * kSide;
    Vector patch[kPoints], half[kPoints];
    const float* start = from_.at(image, block, y - 1, x - 1);
    const bool whole = y + kSide <= from_.height && x + kSide <= from_.width;
    for (int i = 0; i < kPatch; ++i)
      for (int j = 0; j < kPatch; ++j) {
        const bool inside = whole || (y + i < from_.height + 2 && x + j < from_.width + 2);
        patch[i * kPatch + j] = inside ? load(start + i * from_.row + j * V) : Vector{};
      }
    for (int i = 0; i < kPatch; ++i) forward(patch + i, kPatch, half + i, kPatch);
    for (int i = 0; i < kPatch; ++i) forward(half + i * kPatch, 1, patch + i * kPatch, 1);
    for (int point = 0; point < kPoints; ++point)
      store(transformed_ + ((point * blocks_ + block) * padded_ + tile) * V, patch[point]);
  }

  int64_t backward_units() const { return groups_.count * runs_; }

  void multiply(int64_t unit) const {
    const int64_t group = unit / runs_, run = unit % runs_;
    switch (groups_.size(group)) {
      case 3: return multiply<3>(groups_.start(group), run);
      case 2: return multiply<2>(groups_.start(group), run);
      default: return multiply<1>(groups_.start(group), run);
    }
  }

 private:
  static int64_t padded(const Activation& from, int64_t images) {
    return (winograd_tiles(from.height, from.width) * images + kPixels - 1) / kPixels * kPixels;
  }

  template <int B>
  void multiply(int64_t block, int64_t run) const {
    const int64_t first = run * kRun, count = std::min(kRun, padded_ - first);
    static thread_local Scratch scratch;
    float* sums = scratch.get(kPoints * B * kRun * V);  // [point][block][tile][V]
    const float* weight = weight_ + block * V * kPoints * from_.channels;
    for (int point = 0; point < kPoints; ++point, weight += B * V * from_.channels) {
      const float* x = transformed_ + (point * blocks_ * padded_ + first) * V;
      float* out = sums + point * B * kRun * V;
      for (int64_t tile = 0; tile < count; tile += kPixels)
        products<B, kPixels>(x + tile * V, padded_ * V, from_.channels, weight, out + tile * V,
                             kRun * V);
    }
    for (int64_t tile = first; tile < std::min(first + count, tiles_); ++tile)
      for (int b = 0; b < B; ++b)
        finish(sums + (b * kRun + tile - first) * V, B * kRun * V, block + b, tile);
  }

  // One tile of one block: back to 4x4 outputs, bias, ReLU, pool.
  void finish(const float* sums, int64_t step, int64_t block, int64_t tile) const {
    Vector points[kPoints], half[kSide * kPatch], out[kSide * kSide];
    for (int point = 0; point < kPoints; ++point) points[point] = load(sums + point * step);
    for (int i = 0; i < kPatch; ++i) backward(points + i, kPatch, half + i, kPatch);
    for (int i = 0; i < kSide; ++i) backward(half + i * kPatch, 1, out + i * kSide, 1);
    const Vector bias = load(bias_ + block * V);
    for (Vector& value : out) value = relu(value + bias);
    const int64_t image = tile / each_, y = tile % each_ / columns_ * kSide,
                  x = tile % each_ % columns_ * kSide;
    const int side = pool_ ? kSide / 2 : kSide;
    const int64_t top = pool_ ? y / 2 : y, left = pool_ ? x / 2 : x;
    for (int i = 0; i < side && top + i < to_.height; ++i)
      for (int j = 0; j < side && left + j < to_.width; ++j) {
        const Vector* four = out + 2 * i * kSide + 2 * j;
        const Vector value =
            pool_ ? larger(larger(four[0], four[1]), larger(four[kSide], four[kSide + 1]))
                  : out[i * kSide + j];
        store(to_.at(image, block, top + i, left + j), value, to_.lanes(block));
      }
  }

  const float *weight_, *bias_;
  const bool pool_;
  const Activation from_, to_;
  float* transformed_;  // [point][block][tile][V]
  const Groups groups_;
  const int64_t blocks_, columns_, each_, tiles_, padded_, runs_;
};

}  // namespace
