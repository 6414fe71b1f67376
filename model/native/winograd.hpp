// The same convolution by Winograd's minimal filtering F(4x4, 3x3): 36 products where 144 are needed
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4).
//
// Each tile of 4x4 outputs comes from 6x6 inputs. Inputs are transformed (B^T d B), multiplied with
// transformed weights point by point, summed over the channels, and transformed back (A^T m A).
// Interpolation points 0, +-5/8, +-3/2 and infinity: see model/winograd.py.
//
// The weights are transformed in advance where there is memory for four times as many, else in every
// call, in the cache.

#pragma once

#include "vector.hpp"

namespace {

constexpr int kSide = 4, kPatch = kSide + 2, kPoints = kPatch * kPatch;
constexpr float kA = 0.625f, kB = 1.5f;
constexpr float kA2 = kA * kA, kB2 = kB * kB;

// Tiles whose products one thread computes before transforming them back: their sums fit its cache.
constexpr int64_t kRun = 4 * kPixels;

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

// G x for three vectors: a row is (1, p, p^2) over the Lagrange denominator of its point p.
inline void kernel(const Vector* x, int64_t step, Vector* y, int64_t to) {
  constexpr float zero = 1 / (kA2 * kB2), a = 1 / (2 * kA2 * (kA2 - kB2)),
                  b = 1 / (2 * kB2 * (kB2 - kA2));
  const Vector g0 = x[0], g1 = x[step], g2 = x[2 * step];
  const Vector evenA = a * g0 + (a * kA2) * g2, oddA = (a * kA) * g1;
  const Vector evenB = b * g0 + (b * kB2) * g2, oddB = (b * kB) * g1;
  y[0] = zero * g0;
  y[to] = evenA + oddA;
  y[2 * to] = evenA - oddA;
  y[3 * to] = evenB + oddB;
  y[4 * to] = evenB - oddB;
  y[5 * to] = g2;
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
      for (int b = 0; b < B; ++b) {
        w[b] = load(weight + b * V);
        prefetch(weight + b * V + kAhead);
      }
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

// One input's kernels for a group of `outputs`: packed [input block][tap][input][output] ->
// [point][input][output]. Never inlined: everywhere the same instructions, and so the same bits.
__attribute__((noinline)) void transform_kernels(const float* packed, int64_t inputs, int64_t input,
                                                 int64_t outputs, float* transformed) {
  const int64_t first = input / V * V, count = std::min<int64_t>(V, inputs - first);
  const float* from = packed + (9 * first + input - first) * outputs;
  float* to = transformed + input * outputs;
  for (int64_t output = 0; output < outputs; output += V, from += V, to += V) {
    Vector taps[9], half[3 * kPatch], points[kPoints];
    for (int tap = 0; tap < 9; ++tap) taps[tap] = load(from + tap * count * outputs);
    for (int j = 0; j < 3; ++j) kernel(taps + j, 3, half + j, 3);
    for (int i = 0; i < kPatch; ++i) kernel(half + i * 3, 1, points + i * kPatch, 1);
    for (int point = 0; point < kPoints; ++point)
      store(to + point * inputs * outputs, points[point]);
  }
}

// One layer on several images, in three stages with barriers between them: the inputs' transforms, in
// units of a block and a tile; the weights', in units of a group of output blocks and an input; then,
// in units of a group and a run of tiles, the products and the way back. The second may have been done
// before, or, together with the third, group by group.
class WinogradConv {
 public:
  // Floats for the transformed inputs.
  static int64_t input_floats(const Activation& from, int64_t images) {
    return kPoints * blocks_of(from.channels) * V * padded(from, images);
  }
  // Floats for the transformed weights.
  static int64_t weight_floats(const Activation& from, const Activation& to) {
    return kPoints * blocks_of(to.channels) * V * from.channels;
  }

  WinogradConv(const float* weight, const float* bias, bool pool, const Activation& from,
               const Activation& to, int64_t images, float* inputs)
      : weight_(weight), bias_(bias), pool_(pool), from_(from), to_(to), inputs_(inputs),
        groups_(blocks_of(to.channels)), blocks_(blocks_of(from.channels)),
        columns_((from.width + kSide - 1) / kSide),
        each_(winograd_tiles(from.height, from.width)), tiles_(each_ * images),
        padded_(padded(from, images)), runs_((padded_ + kRun - 1) / kRun) {}

  int64_t input_units() const { return blocks_ * tiles_; }

  void transform_input(int64_t unit) const {
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
      store(inputs_ + ((point * blocks_ + block) * padded_ + tile) * V, patch[point]);
  }

  int64_t groups() const { return groups_.count; }
  int64_t weight_units() const { return from_.channels; }  // of each group

  // Where a group's weights begin, for each of an input's values for an output.
  int64_t weights_at(int64_t group) const { return groups_.start(group) * V * from_.channels; }

  // `weights`: of the group, [point][input][output].
  void transform_weight(int64_t group, int64_t input, float* weights) const {
    transform_kernels(weight_ + 9 * weights_at(group), from_.channels, input,
                      groups_.size(group) * V, weights);
  }

  int64_t output_units() const { return runs_; }  // of each group

  void multiply(int64_t group, int64_t run, const float* weights) const {
    switch (groups_.size(group)) {
      case 3: return multiply<3>(groups_.start(group), run, weights);
      case 2: return multiply<2>(groups_.start(group), run, weights);
      default: return multiply<1>(groups_.start(group), run, weights);
    }
  }

 private:
  static int64_t padded(const Activation& from, int64_t images) {
    return (winograd_tiles(from.height, from.width) * images + kPixels - 1) / kPixels * kPixels;
  }

  template <int B>
  void multiply(int64_t block, int64_t run, const float* weight) const {
    const int64_t first = run * kRun, count = std::min(kRun, padded_ - first);
    static thread_local Scratch scratch;
    float* sums = scratch.get(kPoints * B * kRun * V);  // [point][block][tile][V]
    for (int point = 0; point < kPoints; ++point, weight += B * V * from_.channels) {
      const float* x = inputs_ + (point * blocks_ * padded_ + first) * V;
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
  float* inputs_;  // transformed: [point][block][tile][V]
  const Groups groups_;
  const int64_t blocks_, columns_, each_, tiles_, padded_, runs_;
};

}  // namespace
