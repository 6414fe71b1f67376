// 3x3 convolution, padding 1, bias, ReLU and optional 2x2 max pool, computed directly.

#pragma once

#include <type_traits>

#include "vector.hpp"

namespace {

// Channels per pixel of an input with few of them (an image).
constexpr int kNarrow = 4;

struct Input {
  const float* data;  // at the first output's first tap
  int64_t row, block;
  int channels;
};

struct Output {
  float* data;
  int64_t pixel, row, block;
  int lanes;  // of the last block
};

// W x H outputs of B blocks. S: floats between two pixels of the input. Each is summed over the
// input channels block by block and over the taps within: always in this order.
template <int B, int W, int H, int S>
inline void tile(Input in, const float* weight, const float* bias, Output out,
                 Prefetch& upcoming) {
  Vector sum[B][H * W];
#pragma GCC unroll 32
  for (int b = 0; b < B; ++b) {
    const Vector start = load(bias + b * V);
#pragma GCC unroll 32
    for (int i = 0; i < H * W; ++i) sum[b][i] = start;
  }
  const float* source = in.data;
  for (int first = 0; first < in.channels; first += S, source += in.block) {
    const int channels = std::min(S, in.channels - first);
    for (int tap = 0; tap < 9; ++tap) {
      upcoming.piece();
      const float* x = source + tap / 3 * in.row + tap % 3 * S;
      for (int c = 0; c < channels; ++c, ++x, weight += B * V) {
        Vector w[B];
#pragma GCC unroll 32
        for (int b = 0; b < B; ++b) {
          w[b] = load(weight + b * V);
          prefetch(weight + b * V + kAhead);
        }
#pragma GCC unroll 32
        for (int i = 0; i < H * W; ++i) {
          const float value = x[i / W * in.row + i % W * S];
#pragma GCC unroll 32
          for (int b = 0; b < B; ++b) sum[b][i] += w[b] * value;
        }
      }
    }
  }
#pragma GCC unroll 32
  for (int b = 0; b < B; ++b) {
#pragma GCC unroll 32
    for (int i = 0; i < H * W; ++i) {
      float* to = out.data + b * out.block + i / W * out.row + i % W * out.pixel;
      if (b < B - 1 || out.lanes == V) {
        store(to, relu(sum[b][i]));
      } else {
        store(to, relu(sum[b][i]), out.lanes);
      }
    }
  }
}

// One stripe of H rows in tiles of W; the last tile is moved back into the row.
template <int B, int W, int H, int S>
void stripe(int width, Input in, const float* weight, const float* bias, Output out,
            Prefetch& upcoming) {
  for (int x = 0; x < width; x += W) {
    const int at = std::min(x, width - W);
    Input from = in;
    Output to = out;
    from.data += static_cast<int64_t>(at) * S;
    to.data += at * out.pixel;
    tile<B, W, H, S>(from, weight, bias, to, upcoming);
  }
}

// `height` rows of any width, with the tile that suits it.
template <int B, int S>
void rows(int width, int height, Input in, const float* weight, const float* bias, Output out,
          Prefetch upcoming) {
  auto stripes = [&](auto wide, auto tall) {
    constexpr int W = decltype(wide)::value, H = decltype(tall)::value;
    stripe<B, W, H, S>(width, in, weight, bias, out, upcoming);
    in.data += H * in.row;
    out.data += H * out.row;
    height -= H;
  };
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  constexpr std::integral_constant<int, 4> four;
  while (height > 0) {
#if defined(__AVX512F__)
    if (width >= kPixels) {
      if (width % 7 == 0 && width % 8 != 0) {
        stripes(std::integral_constant<int, 7>(), one);
      } else {
        stripes(std::integral_constant<int, 8>(), one);
      }
      continue;
    }
    if (width >= 4 && height >= 2) {
      stripes(four, two);
      continue;
    }
#endif
    if (width >= 4) {
      stripes(four, one);
    } else if (width >= 2) {
      height >= 2 ? stripes(two, two) : stripes(two, one);
    } else {
      stripes(one, one);
    }
  }
}

// 2x2 max pool of two rows of one block into one row.
inline void pool_row(const float* band, int64_t band_row, int width, float* out, int64_t pixel,
                     int lanes) {
  for (int x = 0; x < width / 2; ++x) {
    const float* from = band + 2 * x * V;
    const Vector upper = larger(load(from), load(from + V));
    const Vector lower = larger(load(from + band_row), load(from + band_row + V));
    store(out + x * pixel, larger(upper, lower), lanes);
  }
}

// One layer on several images; the work is in units of a group of output blocks and a band of rows.
class DirectConv {
 public:
  // `next_layer`: its weights, null if there is none.
  DirectConv(const float* weight, const float* bias, const float* next_layer, bool pool,
             const Activation& from, const Activation& to, int64_t images)
      : weight_(weight), bias_(bias), next_layer_(next_layer), pool_(pool), from_(from), to_(to),
        images_(images),
        groups_(blocks_of(to.channels)),
        // Two rows at a time where a pool or a narrow map wants them.
        step_(pool || from.width < kPixels ? 2 : 1),
        bands_(pool ? from.height / 2 : (from.height + step_ - 1) / step_) {}

  int64_t units() const { return groups_.count * images_ * bands_; }

  // Ordered by group, so that a thread reads a group's weights once for many bands.
  void operator()(int64_t unit) const {
    const int64_t band = unit % bands_, image = unit / bands_ % images_;
    const int64_t group = unit / bands_ / images_;
    switch (groups_.size(group)) {
      case 3: return pick<3>(groups_.start(group), image, band);
      case 2: return pick<2>(groups_.start(group), image, band);
      default: return pick<1>(groups_.start(group), image, band);
    }
  }

 private:
  template <int B>
  void pick(int64_t block, int64_t image, int64_t band) const {
    from_.pixel == V ? run<B, V>(block, image, band) : run<B, kNarrow>(block, image, band);
  }

  template <int B, int S>
  void run(int64_t block, int64_t image, int64_t band) const {
    const int y = static_cast<int>(band) * step_, count = std::min(step_, from_.height - y);
    const Input in{from_.at(image, 0, y - 1, -1), from_.row, from_.block, from_.channels};
    const float* weight = weight_ + block * V * 9 * from_.channels;
    const float* bias = bias_ + block * V;
    const Prefetch upcoming = after<B>(block, image * bands_ + band, count);
    const int last = to_.lanes(block + B - 1);
    if (!pool_) {
      rows<B, S>(from_.width, count, in, weight, bias,
                 {to_.at(image, block, y, 0), to_.pixel, to_.row, to_.block, last}, upcoming);
      return;
    }
    static thread_local Scratch scratch;
    const int64_t row = static_cast<int64_t>(from_.width) * V;
    float* two = scratch.get(B * 2 * row);
    rows<B, S>(from_.width, count, in, weight, bias, {two, V, row, 2 * row, V}, upcoming);
    for (int b = 0; b < B; ++b)
      pool_row(two + b * 2 * row, row, from_.width, to_.at(image, block + b, band, 0), to_.pixel,
               to_.lanes(block + b));
  }

  // A band's share of the weights that its group's thread reads next: the next group's, as many as its
  // own, or the next layer's. There is a piece for each tap of each block of inputs of each tile.
  template <int B>
  Prefetch after(int64_t block, int64_t band, int rows) const {
    const bool last = block + B == blocks_of(to_.channels);
    const float* next = last ? next_layer_ : weight_ + (block + B) * V * 9 * from_.channels;
    if (next == nullptr) return {nullptr, 0};
    const int64_t size = static_cast<int64_t>(B) * V * 9 * from_.channels;
    const int64_t tiles = (rows * from_.width + kPixels - 1) / kPixels;
    const int64_t pieces = tiles * 9 * blocks_of(from_.channels), bands = images_ * bands_;
    return {next + size * band / bands,
            static_cast<int>((size / bands / kLine + pieces - 1) / pieces)};
  }

  const float *weight_, *bias_, *next_layer_;
  const bool pool_;
  const Activation from_, to_;
  const int64_t images_;
  const Groups groups_;
  const int step_;
  const int64_t bands_;
};

}  // namespace
